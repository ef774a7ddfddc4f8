import http.server
import json
import math
import subprocess
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from puriflow import Defence
from puriflow.atomic import sha256
from puriflow.chain import Chain
from puriflow.checksums import read_sums
from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.metrics.accuracy import correct, wilson
from puriflow.registry import part_of
from puriflow.results.table import COLUMNS
from puriflow.store import open_stage

ATTACKED = Chain("imagenet", "pgd-linf4", "resnet50", "edsr-x2", "vpsde-t10", "resnet50")


def stage(project, chain: Chain, name: str, shard: str = "0-of-1"):
    return open_stage(project.folder / "results" / chain.folder(name, shard))


def test_all_rules_run_and_the_table_is_right(built):
    table = pd.read_csv(built.folder / "results" / "tabletiny.csv", keep_default_na=False)
    assert tuple(table.columns) == COLUMNS
    methods = ["undefended", "EDSR", "wavelet", "DeiT-S", "EDSR, adaptive", "others"]
    assert list(table.method) == methods
    assert list(table.classifier[:3]) == ["efficientnet-lite0"] * 3
    assert list(table.dataset[:5]) == ["imagenet-foolbox20"] * 5
    row = table.iloc[1]
    for column, chain in [
        ("standard", Chain("imagenet", "none", "none", "edsr-x2", "vpsde-t10", "resnet50")),
        ("robust", ATTACKED),
    ]:
        done = stage(built, chain, "classify")
        hits = int(correct(done.read("logits"), done.read("label")).sum())
        assert float(row[column]) == 25 * hits
        low, high = wilson(hits, 4)
        assert float(row[f"{column}_low"]) == pytest.approx(100 * low, abs=0.01)
        assert float(row[f"{column}_high"]) == pytest.approx(100 * high, abs=0.01)
    assert (row.n, row.paper_robust, row.paper_standard) == ("4", "68.73", "")
    assert float(row.seconds_per_image) > 0


def test_a_row_that_the_track_cannot_serve_says_why(built):
    table = pd.read_csv(built.folder / "results" / "tabletiny.csv")
    row = table.iloc[3]
    assert math.isnan(row.standard)
    assert math.isnan(row.robust)
    assert "photographs are too few" in row.note
    assert row.note.endswith("said so")


def test_a_row_of_several_attacks_and_draws(built):
    """Each image's worst attack, averaged over draws; the attack on the defence is in the path."""
    row = pd.read_csv(built.folder / "results" / "tabletiny.csv").iloc[4]
    rights = []
    for attack, victim in [
        ("pgd-linf4", "resnet50"),
        ("pgd-eot-tiny", "edsr-x2.vpsde-t10.resnet50"),
    ]:
        chain = replace(ATTACKED, attack=attack, victim=victim, n_draws=3)
        done = stage(built, chain, "evaluate")
        answers = done.read("answers")
        assert answers.shape == (4, 3, 1000)
        rights.append((answers.argmax(2) == done.read("label")[:, None]).mean(1))
    assert row.robust == pytest.approx(100 * np.min(rights, axis=0).mean(), abs=0.01)
    assert row.attack == "pgd-linf4 and pgd-eot-tiny on the defence"
    assert "one step" in row.note
    # draw 0 is that of the stages that keep their images
    first = stage(built, replace(ATTACKED, n_draws=3), "evaluate").read("answers")[:, 0]
    logits = stage(built, ATTACKED, "classify").read("logits")
    np.testing.assert_array_equal(first, logits)


def test_a_quoted_row_has_the_paper_s_numbers_only(built):
    row = pd.read_csv(built.folder / "results" / "tabletiny.csv").iloc[5]
    assert row.paper_standard == 95
    assert math.isnan(row.standard)
    assert "quoted by the paper from them" in row.note


def test_the_pictures_are_there(built):
    for name in ("tabletiny.png", "sheets/tabletiny.png"):
        with Image.open(built.folder / "results" / name) as picture:
            assert min(picture.size) > 100


def test_claims_are_judged_by_the_stores(built):
    claims = pd.read_csv(built.folder / "results" / "claims" / "tabletiny.csv")
    robust, entropy, absent = (row for _, row in claims.iterrows())
    right = {}
    for method, chain in [
        ("undefended", replace(ATTACKED, restorer="none", purifier="none")),
        ("EDSR", ATTACKED),
    ]:
        done = stage(built, chain, "classify")
        right[method] = correct(done.read("logits"), done.read("label")).astype(int)
    differences = right["EDSR"] - right["undefended"]
    assert robust.difference == 100 * differences.mean()
    assert (robust.wins, robust.losses) == ((differences > 0).sum(), (differences < 0).sum())
    assert robust.verdict == "not decidable"  # four images cannot tell
    assert entropy.wins + entropy.losses == entropy.n == 4
    assert absent.verdict == "not measured"
    assert "photographs are too few" in absent.note


def test_times_are_of_this_machine(built):
    times = pd.read_csv(built.folder / "results" / "timetiny.csv")
    assert list(times.part) == ["restore", "classify", "total"]
    assert (times.seconds > 0).all()
    assert times.device.str.contains("thread|NVIDIA").all()


def test_the_summary_has_every_table(built):
    text = (built.folder / "results" / "summary.md").read_text()
    assert "## tests: a tiny table" in text
    assert "## tests: tiny times" in text
    assert "## Figure 0: a tiny figure" in text
    assert "not measured 1." in text


def test_a_second_run_does_nothing(built):
    assert built.planned("all") == {}


def test_every_rule_has_left_a_log_and_a_benchmark(built):
    kinds = {"images", "attack", "restore", "purify", "classify", "evaluate"}
    kinds |= {"tables", "figures", "timings", "claims", "pages", "summary"}
    for folder, ending in [("logs", "log"), ("results/benchmarks", "jsonl")]:
        root = built.folder / folder
        files = (f.relative_to(root).with_suffix("") for f in root.rglob(f"*.{ending}"))
        assert {file.parts[0] for file in files} == kinds


def test_the_chain_of_stages_equals_the_defence(built, monkeypatch):
    monkeypatch.chdir(built.folder)
    defence = Defence.from_config(
        load_config("config/config.yaml"), "edsr-x2", "vpsde-t10", "resnet50"
    )
    attacked, logits = stage(built, ATTACKED, "attack"), stage(built, ATTACKED, "classify")
    torch.set_num_threads(1)  # as the rules do
    for i, index in enumerate(attacked.read("index")):
        image = torch.from_numpy(attacked.read("images", i, i + 1))
        with torch.no_grad():
            found = defence(image, [int(index)])
        torch.testing.assert_close(
            found, torch.from_numpy(logits.read("logits", i, i + 1)), rtol=0, atol=0
        )


def test_changing_one_restorer_reruns_only_its_branch(built):
    def change(config):
        config["restorers"]["edsr-x2"]["downsample"] = "area"

    before = built.config_file.read_text()
    try:
        built.edit(change)
        assert built.planned("results/tabletiny.csv") == {
            "attack_images": 1,  # of the defence that holds it
            "restore_images": 3,
            "purify_images": 2,
            "classify_images": 2,
            "evaluate_images": 3,
            "build_table": 1,
        }
        listed = built.snakemake("results/tabletiny.csv", "--dry-run")
        assert "wavelet" not in listed.split("Job stats")[0].replace("/wavelet/", "")
    finally:
        built.config_file.write_text(before)
    assert built.planned("results/tabletiny.csv") == {}


def test_changing_the_weights_reruns_what_used_them(built):
    file = built.folder / "edsr.safetensors"
    before = file.read_bytes()
    try:
        file.write_bytes(before[:-4] + bytes(4))
        assert built.planned("results/tabletiny.csv")["restore_images"] == 3
    finally:
        file.write_bytes(before)


def test_the_same_weights_in_another_folder_rerun_nothing(built):
    file, config = built.folder / "edsr.safetensors", built.config_file.read_text()
    assert "weights: edsr.safetensors" in config
    moved = built.folder / "elsewhere" / file.name
    moved.parent.mkdir()
    try:
        file.rename(moved)
        built.edit(lambda track: track["restorers"]["edsr-x2"].update(weights=str(moved)))
        assert built.planned("results/tabletiny.csv") == {}
    finally:
        moved.rename(file)
        moved.parent.rmdir()
        built.config_file.write_text(config)


def test_shards_do_not_change_results(built, empty):
    empty.edit(lambda config: config["datasets"]["imagenet"].update(shards=2))
    targets = [
        f"results/{ATTACKED.folder('classify', f'{i}-of-2')}/manifest.json" for i in range(2)
    ]
    empty.snakemake(*targets)
    for name, array in [("attack", "images"), ("purify", "images"), ("classify", "logits")]:
        cut = [stage(empty, ATTACKED, name, f"{i}-of-2").read(array) for i in range(2)]
        whole = stage(built, ATTACKED, name).read(array)
        np.testing.assert_array_equal(np.concatenate(cut), whole)


def test_inspect_says_what_a_store_is_and_draws_it(built, tmp_path):
    folder = built.folder / "results" / ATTACKED.folder("purify", "0-of-1")
    picture = tmp_path / "sheet.png"
    command = ["puriflow", "inspect", str(folder), "--sheet", str(picture)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for words in (
        "purify, 4 samples",
        "(4, 3, 224, 224)",
        '"t": 10',
        "weights",
        "xarray.open_zarr",
    ):
        assert words in said
    with Image.open(picture) as sheet:
        assert sheet.size == (4 * 130, 130)


def test_other_roles_of_the_track_do_not_rebuild_a_table(built):
    before = built.config_file.read_text()
    try:
        built.edit(lambda config: config["restorers"].update(new={"kind": "tvm"}))
        assert built.planned("all") == {}
        built.edit(lambda config: config["restorers"]["wavelet"].update(served_by="other"))
        changed = built.planned("all")
        changed.pop("all")
        assert changed == dict.fromkeys(("build_table", "build_figure", "write_summary"), 1) | {
            "judge_claims": 2,
            "write_page": 2,
        }
    finally:
        built.config_file.write_text(before)


def test_a_damaged_store_stops_what_reads_it_and_is_left_alone(built):
    source = stage(built, ATTACKED, "restore")
    file = next(f for f in (source.store / "images" / "c").rglob("*") if f.is_file())
    before = file.read_bytes()
    file.write_bytes(before[:-9] + bytes(9))
    try:
        with pytest.raises(UserError, match="damaged"):
            open_stage(source.folder)
        target = Path("results") / ATTACKED.folder("purify", "0-of-1") / "manifest.json"
        said = built.snakemake(str(target), "--forcerun", "purify_images", check=False)
        assert built.status != 0
        assert (
            f"was damaged; run `puriflow repair results/{ATTACKED.folder('restore', '0-of-1')}"
            in said
        )
    finally:
        file.write_bytes(before)
        built.snakemake("all")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (
            "results/sweeps/tabletiny.csv",
            [],
            "tabletiny is a result of config/tables: ask for results/tabletiny.csv",
        ),
        ("results/tabletinny.csv", [], "unknown result 'tabletinny': did you mean 'tabletiny'?"),
        (
            "results/claims/tinytable.csv",
            [],
            "unknown result 'tinytable': did you mean 'tabletiny'?",
        ),
        (
            "results/restore/imagenet/none/none/edsr/0-of-1/manifest.json",
            [],
            "unknown restorer 'edsr': did you mean 'edsr-x2'?",
        ),
        ("all", ["--config", "seeed=1"], "unknown key (in config) 'seeed': did you mean 'seed'?"),
        ("train_zoo", [], "needs a folder of images: add"),
    ],
)
def test_mistakes_are_one_line_and_a_failure(built, target, options, message):
    said = built.snakemake(target, "--dry-run", *options, check=False)
    assert built.status != 0
    assert message in said
    assert "Traceback" not in said


def test_a_checkpoint_of_the_zoo_is_fetched_and_fetching_it_reruns_nothing(empty, monkeypatch):
    served = empty.folder / "served"
    served.mkdir()
    options = {"kind": "edsr", "n_feats": 8, "n_resblocks": 1}
    network = part_of("restorer", "r", {**options, "weights": None}).build().network
    torch.save(network.state_dict(), served / "e.pth")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=served)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entry = {
        "family": "restorers",
        "part": options,
        "file": "e.pth",
        "url": f"http://127.0.0.1:{server.server_port}/e.pth",
        "licence": "MIT",
        "input": "[0, 1]",
        "source": "tests",
    }
    (empty.folder / "own.yaml").write_text(yaml.safe_dump({"own-edsr": entry}))

    def change(config):
        config["zoo"] = {"cache": "cache", "entries": "own.yaml"}
        config["restorers"]["edsr-x2"] = {"zoo": "own-edsr"}

    empty.edit(change)
    target = "results/restore/imagenet/none/none/edsr-x2/0-of-1/manifest.json"
    empty.snakemake(target)
    assert (empty.folder / "cache" / "own-edsr" / "e.pth").is_file()
    manifest = json.loads((empty.folder / target).read_text())
    assert list(manifest["weights"]) == ["zoo:own-edsr"]
    assert empty.planned(target) == {}
    (empty.folder / "mine").mkdir()
    (empty.folder / "cache" / "own-edsr" / "e.pth").rename(empty.folder / "mine" / "e.pth")
    empty.edit(lambda config: config["zoo"].update(folders=["mine"]))
    assert empty.planned(target) == {}
    (empty.folder / "mine" / "e.pth").unlink()
    assert empty.planned(target) == {}  # what was made of it is there
    said = empty.snakemake(target, "-n", "--forcerun", "restore_images")
    assert "Fetch own-edsr into the cache" in said
    server.shutdown()


def test_training_is_a_rule_that_publishes_weights_and_cards(empty):
    photos = empty.folder / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = rng.integers(0, 256, (260, 260, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{i}.png")
    recipe = {"steps": 2, "batch": 1, "crop": 16}

    def change(config):
        config["training"] = {
            "images": {"photographs": None, "cifar10": None},
            "held_out": 1,
            "restorers": {"edsr-x2": recipe, "edsr-x2-again": {**recipe, "start": "edsr-x2"}},
            "networks": {"adm": recipe},
        }
        config["restorers"]["edsr-x2-again"] = config["restorers"]["edsr-x2"]

    empty.edit(change)
    said = empty.snakemake("train_zoo", check=False)
    assert "add --config 'training={images: {photographs: DIR}}'" in said
    given = ["--config", f"training={{images: {{photographs: {photos}}}}}"]
    empty.snakemake("train_zoo", *given)
    published = {file.name: file for file in (empty.folder / "resources").iterdir()}
    names = ("edsr-x2", "edsr-x2-again", "adm")
    files = {n + end for n in names for end in (".safetensors", ".md", ".png")}
    assert published.keys() == {*files, "SHA256SUMS"}
    listed = {f"{name}.safetensors": sha256(published[f"{name}.safetensors"]) for name in names}
    assert read_sums(published["SHA256SUMS"]) == listed
    assert empty.snakemake("train_zoo", *given, "-n").count("Nothing to be done") == 1
