"""Snakemake's report of the tiny track, read as a file and opened in a browser."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Clicks through the report as a reader would, and leaves what was seen at the end of the page.
CLICKS = """
<script>
const wait = () => new Promise((done) => setTimeout(done, 200));
const items = (tag, text) =>
  [...document.querySelectorAll(tag)].filter((item) => item.textContent.trim() === text);
async function category(name) {
  for (const item of items("a", "Results")) item.click();
  await wait();
  items("a", name)[0].click();
  await wait();
}
async function shown(name, form) {
  const row = [...document.querySelectorAll("tr")].find(
    (row) => [...row.querySelectorAll("td")].slice(0, 2).map((c) => c.textContent).join()
      === name + "," + form);
  row.querySelector("a").click();
  await wait();
}
(async () => {
  const seen = {};
  await wait();
  seen.rules = document.querySelector("#rulegraph canvas, #rulegraph svg") !== null;
  await category("tables");
  const width = () => document.querySelector("#app img[src^='data:image/png']").naturalWidth;
  await shown("tabletiny", "picture");
  seen.picture = width();
  await shown("tabletiny", "images");
  seen.images = width();
  await category("figures");
  await shown("figuretiny", "picture");
  seen.figure = width();
  await category("tables");
  await shown("tabletiny", "page");
  const page = document.querySelector("iframe").src;
  seen.page = atob(page.slice(page.indexOf("base64,") + 7));
  const note = document.createElement("pre");
  note.id = "seen";
  note.textContent = btoa(JSON.stringify(seen));
  if (location.hash !== "#quiet") document.body.append(note);
})();
</script>
"""


@pytest.fixture(scope="module")
def report(built) -> Path:
    built.snakemake("all", "--report", "results/report.html")
    return built.folder / "results" / "report.html"


def results_of(report: Path) -> dict:
    """What the report says of each file in it."""
    return json.loads(re.search(r"var results = (\{.*\});", report.read_text()).group(1))


def test_the_report_has_every_table_in_every_form_with_captions(report):
    results = results_of(report)
    assert set(results) == {
        "results/tabletiny.csv",
        "results/tabletiny.png",
        "results/sheets/tabletiny.png",
        "results/pages/tabletiny.html",
        "results/timetiny.csv",
        "results/pages/timetiny.html",
        "results/figuretiny.csv",
        "results/figuretiny.png",
        "results/pages/figuretiny.html",
        "results/summary.html",
    }
    for name, result in results.items():
        assert result["caption"].strip(), name
        assert result["data_uri"].startswith("data:"), name
        assert set(result["labels"]) == {"result", "form"}, name
        assert "system-message" not in result["caption"], name
    assert not re.search(r'(src|href)="https?://', report.read_text())


def test_the_caption_of_a_page_has_the_paper_s_claim_and_ours(report):
    caption = results_of(report)["results/pages/tabletiny.html"]["caption"]
    assert "EDSR is above all" in caption
    assert "robust accuracy: EDSR above undefended: ? not decidable at n = 4" in caption


def test_the_caption_of_a_figure_has_the_paper_s_claim_ours_and_what_served(report):
    results = results_of(report)
    for name in ("results/figuretiny.png", "results/figuretiny.csv"):
        caption = results[name]["caption"]
        for words in (
            "Figure 0: a tiny figure",
            "the paper's *words*",
            "a wavelet is nearer to the truth",
            "content distance in stage1: AE above wavelet: ? not decidable at n = 2",
            "features efficientnet-lite2",
        ):
            assert words in caption


def browse(browser: str, page: str, *options: str) -> str:
    """What a headless browser prints of a page after ten of its own seconds."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--window-size=1400,900", "--virtual-time-budget=10000", *options, page]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


def test_a_browser_reaches_tables_and_pictures(report, browser, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(report.read_text() + CLICKS)
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    text = browse(browser, page.as_uri(), profile, "--dump-dom")
    left = re.search(r'<pre id="seen">([^<]+)</pre>', text)
    assert left, text[-2000:]
    seen = json.loads(base64.b64decode(left.group(1)))
    assert seen["rules"]
    assert min(seen["picture"], seen["images"], seen["figure"]) > 100
    assert "a tiny table" in seen["page"]
    picture = tmp_path / "screen.png"
    browse(browser, page.as_uri() + "#quiet", profile, f"--screenshot={picture}")
    with Image.open(picture) as screen:
        table = screen.convert("L").crop((500, 0, 1400, 900))  # beside the menu
        dark = sum(table.histogram()[:128])
    assert dark > 1000  # letters of the page, in its frame
