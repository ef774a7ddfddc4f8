"""The notebook in docs/ runs from top to bottom, and is stored with what it shows."""

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install .[dev]")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install .[dev]")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install .[dev]")


@pytest.fixture(scope="module")
def stored(repository):
    return nbformat.read(repository / "docs" / "own-images.ipynb", as_version=4)


def shown(notebook):
    """All text that the cells printed or returned, and the kinds of what they returned."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in outputs]
    return "".join(texts), {kind for o in outputs for kind in o.get("data", {})}


def check(notebook):
    text, kinds = shown(notebook)
    assert "dog.png: 512x512; 9 tiles of 192x192" in text
    assert "images.zarr [1]: " in text
    assert "<xarray.Dataset>" in text
    assert "'defended': array([" in text
    assert "image/jpeg" in kinds
    assert "rror" not in text


def test_the_notebook_runs(repository, stored, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # beside other work, threads wait for each other
    notebook = nbformat.from_dict(stored)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    folder = {"metadata": {"path": str(repository / "docs")}}
    client = nbclient.NotebookClient(notebook, timeout=600, resources=folder, coalesce_streams=True)
    client.execute()  # a cell that fails raises
    check(notebook)


def test_the_notebook_is_stored_with_what_it_shows(stored):
    check(stored)
