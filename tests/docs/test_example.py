"""The example project of docs/example, with parts of its own, works as docs/adding.md says."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from tiny_track import Project


@pytest.fixture
def study(tmp_path, repository):
    """The example beside a configuration, as somebody has it who follows the documentation."""
    shutil.copytree(repository / "docs" / "example", tmp_path, dirs_exist_ok=True)
    for name in ("config", "resources"):
        (tmp_path / name).symlink_to(repository / name)
    return Project(tmp_path, repository)


def test_the_own_restorer_and_attack_run_and_their_code_counts(study):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(image).save(study.folder / "noise.png")
    command = ["puriflow", "purify", "noise.png", "--out", "blurred", "--restorer", "blur"]
    subprocess.run([*command, "--config", "example.yaml"], cwd=study.folder, check=True)
    found = np.asarray(Image.open(study.folder / "blurred" / "noise.png")).astype(float)
    expected = ndimage.gaussian_filter(
        image.astype(float), (0.8, 0.8, 0), mode="nearest", radius=(3, 3, 0)
    )
    assert np.abs(found - expected).max() < 0.51  # of rounding to bytes
    target = "results/restore/imagenet/random-signs-linf4/resnet50/blur/0-of-1/manifest.json"
    asked = (target, "--configfile", "example.yaml", "--config", "datasets={imagenet: {subset: 1}}")
    study.snakemake(*asked, "--cores", "1")
    filters = study.folder / "myparts" / "filters.py"
    filters.write_text(filters.read_text().replace("3 * sigma", "2 * sigma"))
    assert study.planned(*asked) == {"restore_images": 1}  # and nothing else


def test_installed_its_parts_are_kinds_by_their_entry_points(study, tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    install = [sys.executable, "-m", "pip", "install", *offline, "--target", str(site)]
    subprocess.run([*install, str(study.folder)], check=True)
    code = (
        "from puriflow.registry import part_of as p; from puriflow.provenance import versions\n"
        "print(p('restorer', 'x', {'kind': 'blur', 'sigma': 2}).module)\n"
        "print(p('attack', 'x', {'kind': 'random-signs', 'eps': '8/255'}).module)\n"
        "print(versions('myparts.blur')['myparts'])"
    )
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=site,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert ended.stdout.split() == ["myparts.blur", "myparts.random_signs", "0.1.0"], ended.stderr
