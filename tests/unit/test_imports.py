"""What the commands of the main path import: a job of the workflow should begin at once."""

import subprocess
import sys

import yaml

from puriflow.registry import part_of
from puriflow.stages.images import write_images

HEAVY = "timm torchvision torch._dynamo sympy scipy skimage pandas matplotlib xarray foolbox PIL"
CODE = f"""
import sys
from puriflow.cli import app
for line in sys.stdin:
    app(line.split(), standalone_mode=False)
    if found := {{*"{HEAVY}".split()}} & {{*sys.modules}}:
        sys.exit(f"{{line}} imports {{found}}")
"""
COMMANDS = """\
stage attack images --attack pgd-linf4 --victim resnet50
stage restore images --restorer esrgan-x2
stage purify images --purifier osd-t150
stage classify images --classifier resnet50
stage evaluate images --purifier osd-t150 --classifier resnet50 --n-draws 2
"""


def test_no_job_of_the_main_path_imports_what_its_numbers_do_not_need(repository, tmp_path):
    (tmp_path / "resources").symlink_to(repository / "resources")
    raw = {"extends": str(repository / "config/config.yaml"), "track": "brief"}
    raw["attacks"] = {"pgd-linf4": {"n_iter": 1}}
    (tmp_path / "brief.yaml").write_text(yaml.safe_dump(raw))
    entry = {"kind": "foolbox", "sample": "imagenet", "resize": 256, "crop": 224}
    write_images(tmp_path / "images", part_of("dataset", "imagenet", entry), subset=1)
    lines = [f"{c} --out {i} --config brief.yaml\n" for i, c in enumerate(COMMANDS.splitlines())]
    ended = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        input="".join(lines),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(list(tmp_path.glob("*/manifest.json"))) == 6
