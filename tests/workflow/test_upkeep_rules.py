"""A store that is damaged is found, removed, and made again, to the last bit."""

import subprocess

import pandas as pd

from puriflow.atomic import sha256
from puriflow.chain import Chain
from puriflow.store import MANIFEST

ATTACKED = Chain("imagenet", "pgd-linf4", "resnet50", "edsr-x2", "vpsde-t10", "resnet50")


def puriflow(project, *arguments):
    """Exit status and lines of a command in the folder of a project."""
    command = ["puriflow", *arguments]
    ended = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)
    assert ended.stderr == ""
    return ended.returncode, ended.stdout.splitlines()


def content(project):
    """What is in the stores, and the table but for its seconds."""
    results = project.folder / "results"
    files = [*results.rglob("*.zarr/**/*"), *results.rglob(MANIFEST)]
    table = pd.read_csv(results / "tabletiny.csv").drop(columns="seconds_per_image")
    return {f: sha256(f) for f in files if f.is_file()}, table.to_csv()


def test_what_repair_removes_is_made_again(built):
    status, lines = puriflow(built, "verify")
    assert status == 0
    assert lines[-1].endswith("nothing wrong")
    before = content(built)
    folder = f"results/{ATTACKED.folder('purify', '0-of-1')}"
    chunks = (built.folder / folder / "images.zarr" / "images" / "c").rglob("*")
    file = next(file for file in chunks if file.is_file())
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    status, lines = puriflow(built, "verify")
    assert (status, len(lines)) == (1, 2)
    assert lines[0].startswith(f"store {folder}: images/c/")
    assert lines[0].endswith(f"was damaged; run `puriflow repair {folder}`, and again what made it")
    assert built.planned("all") == {}  # Snakemake sees nothing of it
    summary = built.folder / "results" / "summary.md"
    assert puriflow(built, "repair", "--dry-run")[0] == 0
    assert summary.is_file()
    status, lines = puriflow(built, "repair")
    assert status == 0
    logits = f"results/{ATTACKED.folder('classify', '0-of-1')}"
    removed = [line.removeprefix("removed ").partition(":")[0] for line in lines]
    assert removed[-2:] == [logits, folder]
    table = {"tabletiny.csv", "tabletiny.png", "sheets/tabletiny.png", "measures/tabletiny.csv"}
    page = {"claims/tabletiny.csv", "pages/tabletiny.html", "pages/tabletiny.rst"}
    others = {"summary.md", "summary.html"}
    assert set(removed[:-2]) == {f"results/{path}" for path in table | page | others}
    planned = built.planned("results/summary.md")
    assert planned.items() >= {"purify_images": 1, "classify_images": 1, "build_table": 1}.items()
    assert "attack_images" not in planned
    built.snakemake("all")
    assert content(built) == before
    assert puriflow(built, "verify")[0] == 0
