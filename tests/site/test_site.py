"""The page of the leaderboard: what is left out, bad input, and all of it in a browser."""

import json
import re
import shutil
from copy import deepcopy

import pytest
from browser import chromium, opened, violations
from theirs import another, attacked, written

from puriflow.cli import app
from puriflow.errors import UserError
from puriflow.site.ours import Gathering, say_left_out
from puriflow.site.reading import entries_of

MARKUP = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'"
PURIFLOW = "mdsr-x2-mini + osd-t100-mini + wrn-16-2-mini"


# What is left out, and bad input


def test_what_is_missing_or_damaged_is_left_out_and_said(small, tmp_path, caplog):
    track, results, config = small
    copy = shutil.copytree(results, tmp_path / "results")
    shutil.rmtree(copy / "classify/cifar10/pgd-linf8/mdsr-x2.none.wrn-28-10")
    restored = copy / "restore/cifar10/pgd-linf8/wrn-28-10/mdsr-x2/0-of-1/images.zarr"
    (restored / "zarr.json").write_text("{}")
    found = Gathering(track, copy, config, tmp_path).found()
    assert [entry.record.title for entry in found.entries] == ["small: undefended"]
    assert found.missing == 1
    assert list(found.broken) == ["small: MDSR", "small: SR and one shot"]
    say_left_out(found)
    said = caplog.messages
    assert said[0].startswith("small: MDSR is left out: store ")
    assert said[0].endswith(f"run `puriflow repair {restored.parent}`, and again what made it")
    assert said[2] == "rows of tables and sweeps that are not built: 1"


def test_only_a_store_that_is_not_there_is_not_built(small, tmp_path, monkeypatch):
    """Whatever else does not exist is a fault, and is said."""
    why = "weights file wrn.safetensors does not exist"

    def broken(*_):
        raise UserError(why)

    monkeypatch.setattr("puriflow.site.ours.record_of", broken)
    found = Gathering(*small, tmp_path).found()
    assert found.missing == 0
    assert set(found.broken.values()) == {why}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("config/large.yaml", "config/large.yaml"),
        ("my track.yaml", "'my track.yaml'"),
        ("../other.yaml", "other.yaml"),  # of which nobody else needs to know where it is
    ],
)
def test_a_command_has_no_path_of_this_machine(small, tmp_path, file, said):
    track, _, config = small
    gathering = Gathering(track, tmp_path / "results", config, tmp_path, tmp_path / file)
    assert gathering.given == f" --configfile {said}"


def test_bad_input_is_one_line_and_loses_nothing(records, tmp_path):
    pytest.importorskip("altair", reason="needs Altair, which 'puriflow[dev]' brings")
    from puriflow.site import write_site

    one = records["records"][0]
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    good = written(tmp_path, one, "good.json")
    for name, text, says in [
        ("text.json", "not JSON", "record .*text.json is not JSON"),
        ("list.json", "[]", "is no object of JSON"),
        ("other.json", "{}", "record .*other.json: .*defence"),
        ("n.json", json.dumps({**one, "n": 3}), "n is 3, but there are 4 images"),
        ("board.json", '{"schema": 9, "records": []}', "schema 9, known is 1"),
        ("bad.json", json.dumps({**records, "records": [one, {}]}), "bad.json, record 1: "),
        ("nan.json", json.dumps({**one, "audit": {"x": float("nan")}}), "has NaN or infinity"),
        ("audit.json", json.dumps({**one, "audit": {}}), "audit.json: audit: this is no audit"),
        ("none.json", '{"schema": 1, "records": []}', "there is no row"),
        ("gone.json", None, "gone.json: No such file"),
    ]:
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=says):
            write_site(tmp_path / "out", [good] * (name != "none.json") + [tmp_path / name])
        assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="full is there, and is no empty folder"):
        write_site(full, [good])
    assert (full / "mine.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "options",
    [
        {"gradient": ["x"]},
        {"attacks": 5},
        {"attacks": [{"kind": "pgd", "gradient": {}}]},
        {"version": "square", "n_queries": "many"},
        {"kind": ["pgd"]},
        {"kind": {"a": 1}},
        {"kind": None},
    ],
)
def test_options_that_are_none_are_one_line_with_the_file(records, tmp_path, options):
    file = written(tmp_path, attacked(records["records"][0], options=options))
    with pytest.raises(UserError, match=r"theirs\.json: options of pgd-linf8: "):
        list(entries_of(file))
    bare = deepcopy(records["records"][0])
    bare["attacks"][0]["options"] = options
    with pytest.raises(UserError, match=r"theirs\.json: options of pgd-linf8: "):
        list(entries_of(written(tmp_path, bare)))


def test_the_command_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, says in [
        ([], "no results are here: build a table .*, or name files of records"),
        (["--results", "nowhere"], "results nowhere are no folder"),
    ]:
        with pytest.raises(UserError, match=says):
            app(["site", "out", *arguments], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_the_command_takes_the_results_that_are_here(small, tmp_path, monkeypatch, capsys):
    pytest.importorskip("altair", reason="needs Altair, which 'puriflow[dev]' brings")
    monkeypatch.chdir(small[1].parent)
    app(["site", str(tmp_path / "out")], standalone_mode=False)
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'out' / 'index.html'}: 4 rows of tables and sweeps\n"
    assert said.err == ""


# In a browser


@pytest.fixture(scope="module")
def page_folder(small, records, tmp_path_factory):
    pytest.importorskip("altair", reason="needs Altair, which 'puriflow[dev]' brings")
    from puriflow.site import write_site

    folder = tmp_path_factory.mktemp("page")
    one = next(r for r in records["records"] if r["title"] == "small: MDSR")
    track, results, config = small
    given = {"track": track, "results": results, "config": config}
    given["configfile"] = config / "config.yaml"
    write_site(folder / "site", [written(folder, records, records=[another(one, MARKUP)])], **given)
    return folder / "site"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser, page_folder):
    with opened(browser, (page_folder / "index.html").as_uri()) as page:
        page.wait_for_selector("#chart svg")
        yield page


def names(page, protocol=1):
    return page.locator(f"#protocol-{protocol} tr:not([hidden]) .name button").all_inner_texts()


def test_the_page_is_small_and_has_images_beside_it(page_folder):
    assert (page_folder / "index.html").stat().st_size < 5_000_000
    assert {file.name for file in page_folder.iterdir()} == {"index.html", "images"}
    # of four images: clean, attacked twice (the classifier, the defence), what MDSR makes of
    # either, and what one shot makes of the first
    assert len(list((page_folder / "images").glob("*.png"))) == 4 * (1 + 2 + 2 + 1)
    text = (page_folder / "index.html").read_text()
    assert not re.search(r'(src|href)="https?:', text)


def test_the_page_and_the_records_have_no_path_of_this_machine(
    page_folder, small, records, repository
):
    text = (page_folder / "index.html").read_text() + json.dumps(records)
    assert "audits/cifar10/pgd-linf8/wrn-28-10/2.json is not built" in text
    assert "snakemake results/small.csv --configfile config/config.yaml" in text
    for folder in (page_folder.parent, small[1].parent, repository):
        assert str(folder) not in text


def test_a_claim_stands_with_its_table(page):
    cells = page.locator("#protocol-1 tbody tr", has_text="undefended").locator("td")
    assert "1.5 (small, n = 512)" in cells.all_inner_texts()
    said = page.locator("header").inner_text()
    assert "it is of the paper's own networks, images and attack" in said


def test_it_sorts_within_each_protocol(page):
    table = page.locator("#protocol-1")
    header = table.get_by_role("button", name="Network evaluations")
    for direction in ("ascending", "descending"):
        header.click()
        assert table.locator("th[aria-sort]").get_attribute("aria-sort") == direction
        cells = table.locator("tbody tr td:nth-of-type(7)").all_inner_texts()
        assert cells == (["0", "0", "1", "7"] if direction == "ascending" else ["7", "1", "0", "0"])
    table.get_by_role("button", name="Defence").click()
    assert names(page) == sorted(names(page), key=str.lower)
    assert len(names(page)) == 4


def test_it_filters(page):
    assert page.locator("#count").inner_text().startswith("5 of 5 rows, 2 of 2 protocols")
    page.get_by_label("Gradient").select_option("exact")
    assert page.locator("#count").inner_text().startswith("1 of 5 rows, 1 of 2 protocols")
    assert not page.locator("#protocol-1").is_visible()
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Name or part").fill("osd one")
    assert names(page) == [PURIFLOW]
    page.get_by_label("Name or part").fill("")
    page.get_by_label("only audited").check()
    assert page.locator("#count").inner_text().startswith("0 of 5 rows")


def test_a_row_opens_with_what_made_it_by_the_keyboard(page, small):
    button = page.get_by_role("button", name=PURIFLOW)
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading", level=2).inner_text() == PURIFLOW
    text = dialog.inner_text()
    for said in ("snakemake results/small.csv", "purifier osd-t100", "sha256", '"n_iter":2'):
        assert said in text
    stages = dialog.locator("table.pictures tbody th").all_inner_texts()
    assert stages[:4] == ["clean", "attacked", "restored", "purified"]
    images = dialog.locator("table.pictures img")
    assert images.count() == 16
    images.last.scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelectorAll('#row img')].every((i) => i.naturalWidth == 32)"
    )
    assert dialog.locator("td .good, td .bad").count() >= 8  # answers of the defence
    assert page.url.endswith("#" + page.locator("tr.chosen").get_attribute("data-id"))
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.wait_for_function("!location.hash")  # which follows the dialog's end
    assert button.evaluate("(one) => one === document.activeElement")


def test_a_point_of_the_chart_has_its_numbers_and_opens_its_row(page):
    page.locator("#plot-protocol").select_option("1")
    page.locator("#plot-cost").select_option("evaluations")
    page.wait_for_function("document.getElementById('plot-said').textContent.includes('4 of 4')")
    point = page.locator("#chart path[aria-roledescription=point]").last
    point.wait_for()
    point.hover(force=True)
    page.locator("#vg-tooltip-element.visible").wait_for()
    assert "robust (95 %)" in page.locator("#vg-tooltip-element").inner_text()
    point.click(force=True)
    assert page.get_by_role("dialog").is_visible()


def test_text_of_others_is_never_markup(page):
    assert page.title().startswith("Adversarial purification")
    page.locator("#protocol-1").get_by_role("button", name="onerror").click()
    assert page.get_by_role("dialog").get_by_role("heading", level=2).inner_text() == MARKUP
    assert "ask who published it" in page.get_by_role("dialog").inner_text()
    assert page.title().startswith("Adversarial purification")


@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(browser, page_folder, width):
    with opened(browser, (page_folder / "index.html").as_uri(), width) as page:
        page.wait_for_selector("#chart svg")
        page.get_by_role("button", name="Open all").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert violations(page) == []
        page.locator("#protocol-1 .name button").first.click()
        assert page.evaluate("document.getElementById('row').scrollWidth") <= width
        assert violations(page) == []
        page.evaluate("document.getElementById('row-body').append(new Image())")
        assert [line.partition(":")[0] for line in violations(page)] == ["image-alt"]


def test_a_link_to_a_row_opens_it(browser, page_folder):
    with opened(browser, f"{(page_folder / 'index.html').as_uri()}#row-2") as page:
        page.wait_for_selector("#row[open]")
