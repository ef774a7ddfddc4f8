import shutil

import pytest

from puriflow import provenance


@pytest.fixture
def copied(tmp_path, monkeypatch, repository):
    """A copy of the package, whose code is hashed instead of the real one."""
    root = tmp_path / "puriflow"
    shutil.copytree(repository / "puriflow", root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "ROOT", root)

    def forget():
        provenance._tree.cache_clear()
        provenance._meaning.cache_clear()

    forget()
    yield root, forget
    forget()


def hashes():
    restore = "puriflow.stages.restore"
    return {
        kind: provenance.code_hash(restore, f"puriflow.restorers.{kind}")
        for kind in ("esrgan", "edsr", "mdsr", "wavelet")
    }


@pytest.mark.parametrize(
    ("file", "old", "new", "affected"),
    [
        ("restorers/esrgan.py", "F.leaky_relu(x, 0.2)", "F.leaky_relu(x, 0.1)", {"esrgan"}),
        ("restorers/edsr.py", "0.4488", "0.5", {"edsr", "mdsr"}),  # MDSR imports from EDSR
        (
            "restorers/rescaling.py",
            "align_corners=False",
            "align_corners=True",
            {"esrgan", "edsr", "mdsr"},
        ),
        ("restorers/esrgan.py", '"""Leaky ReLU', '"""A leaky ReLU', set()),
        ("restorers/esrgan.py", "\nclass RRDB(", "\n# a comment\nclass RRDB(", set()),
        ("store.py", "CHUNK_BYTES = 4", "CHUNK_BYTES = 8", set()),
        ("attacks/pgd.py", "eot_iter) < 1", "eot_iter) < 2", set()),
    ],
)
def test_only_what_a_stage_runs_changes_its_hash(copied, file, old, new, affected):
    root, forget = copied
    before = hashes()
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new))
    forget()
    after = hashes()
    assert {kind for kind in before if before[kind] != after[kind]} == affected


def test_the_style_of_pictures_counts_for_what_is_drawn(copied):
    root, forget = copied
    drawing = ["reporting.radii", *(f"pictures.{x}" for x in ("bars", "sweep", "writing"))]
    others = ["reporting.measuring", "training.runs", "stages.restore", "pictures.sheets"]

    def hashes():
        forget()
        return {name: provenance.code_hash(f"puriflow.{name}") for name in drawing + others}

    before = hashes()
    with open(root / "pictures" / "style.mplstyle", "a") as style:
        style.write("lines.linewidth: 2\n")
    after = hashes()
    assert {name for name in before if before[name] != after[name]} == set(drawing)


def test_weights_are_found_at_any_depth_and_hashed(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"abc")
    spec = {"kind": "vpsde", "network": {"kind": "adm", "weights": str(file)}, "weights": "nowhere"}
    assert set(provenance.weights_in(spec)) == {str(file), "nowhere"}
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert provenance.weights_hashes(spec) == {str(file): digest}
