"""Finished stores in a bucket: read by `inspect`, `verify`, tables and xarray; never written."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import xarray
from bucket import ATTACKED, BUCKET, CLASSIFIED, CLEAN

from puriflow.errors import UserError
from puriflow.lineage import open_in_chain
from puriflow.store import Writer, open_stage

RESULTS = f"s3://{BUCKET}/results"


@pytest.fixture(scope="module", autouse=True)
def copied(study, s3):
    """All results in the bucket, copied as fsspec does."""
    s3.put(f"{study}/results/", f"{BUCKET}/results/", recursive=True)


@pytest.fixture
def half(s3):
    """The address of a store of which an array was not copied."""
    place = f"{BUCKET}/half/{ATTACKED}"
    s3.copy(f"{BUCKET}/results/{ATTACKED}/", f"{place}/", recursive=True)
    s3.rm(f"{place}/images.zarr/label/c/0")
    return f"s3://{place}"


def test_a_stage_is_the_one_that_was_copied(study):
    here, there = open_stage(study / "results" / ATTACKED), open_stage(f"{RESULTS}/{ATTACKED}")
    assert there.identity == here.identity
    assert there.seconds_per_image == here.seconds_per_image
    for name in ("images", "label", "success"):
        np.testing.assert_array_equal(there.read(name), here.read(name))
    np.testing.assert_array_equal(there.read("images", 1, 2), here.read("images")[1:2])
    assert open_stage(f"{RESULTS}/{ATTACKED}/manifest.json").identity == here.identity


def test_xarray_reads_it_as_the_documentation_says(study):
    data = xarray.open_zarr(f"{RESULTS}/{ATTACKED}/images.zarr", consolidated=False)
    here = open_stage(study / "results" / ATTACKED)
    np.testing.assert_array_equal(data.images.values, here.read("images"))
    np.testing.assert_array_equal(data.label.values, here.read("label"))


def test_inspect_says_what_it_says_of_a_store_here(study, puriflow):
    here = puriflow("inspect", study / "results" / CLEAN)
    there = puriflow("inspect", f"{RESULTS}/{CLEAN}")
    assert here[0] == there[0] == 0
    assert there[1] == here[1].replace(str(study / "results"), RESULTS)


def test_inspect_draws_images_of_there_into_a_file_here(tmp_path, puriflow):
    sheet = tmp_path / "sheet.png"
    assert puriflow("inspect", f"{RESULTS}/{CLEAN}", "--sheet", sheet)[0] == 0
    assert sheet.stat().st_size > 1000


def test_a_table_of_stores_elsewhere_is_the_same_bytes(study, tmp_path, puriflow):
    words = ("--stores", RESULTS, "--results", tmp_path)
    status, _, err = puriflow("result", "config/tables/tiny.yaml", *words, folder=study)
    assert status == 0, err
    written = sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file())
    assert written == ["measures/tiny.csv", "sheets/tiny.png", "tiny.csv", "tiny.png"]
    for name in ("tiny.csv", "measures/tiny.csv"):
        assert (tmp_path / name).read_bytes() == (study / "results" / name).read_bytes()


def test_a_table_refuses_another_store_in_a_place(study, s3, tmp_path, puriflow):
    """The chain is compared there as it is here."""
    s3.copy(f"{BUCKET}/results/", f"{BUCKET}/mixed/", recursive=True)
    other, place = (CLASSIFIED.format(of) for of in ("none/none", "pgd-linf4/resnet50"))
    s3.copy(f"{BUCKET}/results/{other}/", f"{BUCKET}/mixed/{place}/", recursive=True)
    words = ("--stores", f"s3://{BUCKET}/mixed", "--results", tmp_path)
    status, _, err = puriflow("result", "config/tables/tiny.yaml", *words, folder=study)
    assert (status, err.count("\n")) == (2, 1)
    assert "was made from another store than s3://of-tests/mixed/attack/" in err


def test_verify_at_both_ends(study, puriflow):
    for folder in (study / "results", RESULTS):
        status, out, _ = puriflow("verify", folder)
        assert (status, out.splitlines()[-1]) == (
            0,
            f"{folder}: 4 stores, 0 under way, 0 weights: nothing wrong",
        )


@pytest.fixture
def refuse(s3, monkeypatch):
    """A function that has methods of the bucket refuse addresses with a `part` in them."""

    def without_rights(part: str, *methods: str) -> None:
        for method in methods:
            asked = getattr(type(s3), method)

            async def refused(self, path, *args, asked=asked, **options):
                if part in path:
                    raise PermissionError(f"Access Denied: {path}")
                return await asked(self, path, *args, **options)

            monkeypatch.setattr(type(s3), method, refused)
        type(s3).clear_instance_cache()  # whose methods are those of before

    yield without_rights
    type(s3).clear_instance_cache()


def test_a_source_that_may_not_be_asked_for_does_not_pass_for_deleted(refuse):
    refuse(f"{CLEAN}/manifest.json", "_info")
    with pytest.raises((UserError, PermissionError), match="Access Denied"):
        open_in_chain(f"{RESULTS}/{ATTACKED}")


def test_a_folder_that_may_not_be_listed_is_not_left_out(puriflow, refuse):
    refuse("results/attack", "_ls", "_lsdir")
    status, said, errors = puriflow("verify", RESULTS)
    assert status
    assert "Access Denied" in said + errors


def test_verify_finds_what_was_not_copied_or_flipped(half, s3, puriflow):
    status, out, _ = puriflow("verify", f"s3://{BUCKET}/half")
    assert status == 1
    assert out.splitlines() == [
        f"store {half}: label/c/0 is missing; delete it there, and copy it again",
        f"s3://{BUCKET}/half: 1 stores, 0 under way, 0 weights: 1 wrong",
    ]
    s3.pipe_file(f"{half}/images.zarr/label/c/0", b"flipped")
    assert (
        "label/c/0 was damaged; delete it there, and copy it again" in puriflow("verify", half)[1]
    )


def test_a_store_whose_manifest_is_not_there_yet_is_unfinished(half, s3, puriflow):
    s3.rm(f"{half}/manifest.json")
    assert one_line(puriflow("inspect", half)).endswith(
        f"store {half} has no manifest: it was not finished"
    )
    assert puriflow("verify", f"s3://{BUCKET}/half")[0] == 1


def one_line(ended: tuple[int, str, str]) -> str:
    """The only line of a command that was refused."""
    status, out, err = ended
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("puriflow: error: ")
    return err.rstrip()


@pytest.mark.parametrize("place", [f"{BUCKET}/none", "no-such-bucket/results"])
def test_an_address_that_does_not_exist(place, puriflow):
    assert one_line(puriflow("inspect", f"s3://{place}")).endswith(
        f"store s3://{place} does not exist"
    )
    assert one_line(puriflow("verify", f"s3://{place}")).endswith(
        f"folder s3://{place} does not exist"
    )


def test_a_bucket_without_rights(stranger, puriflow):
    for command, place in (("inspect", f"{RESULTS}/{CLEAN}"), ("verify", RESULTS)):
        line = one_line(puriflow(command, place))
        assert f"error: {place} cannot be read: " in line
        assert "Forbidden" in line or "Denied" in line


def test_a_server_that_does_not_answer(puriflow, s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(type(s3), "retries", 1)
    type(s3).clear_instance_cache()
    line = one_line(puriflow("inspect", f"{RESULTS}/{CLEAN}"))
    assert "cannot be read: Could not connect to the endpoint" in line
    type(s3).clear_instance_cache()


@pytest.mark.parametrize(
    "words",
    [
        ("stage", "images", "imagenet", "--out", RESULTS),
        ("stage", "classify", f"{RESULTS}/{CLEAN}", "--out", "x", "--classifier", "resnet50"),
        ("result", "config/tables/tiny.yaml", "--results", RESULTS),
        ("results", "--json", f"{RESULTS}/all.json"),
        ("inspect", f"{RESULTS}/{CLEAN}", "--sheet", f"{RESULTS}/sheet.png"),
        ("purify", "photo.jpg", "--out", RESULTS),
        ("repair", RESULTS),
        ("init", RESULTS),
    ],
)
def test_writing_stays_here_and_says_so(words, study, puriflow, s3):
    before = s3.find(BUCKET), sorted(study.iterdir())
    line = one_line(puriflow(*words, folder=study))
    assert RESULTS in line
    assert "give a path of this machine" in line
    assert (s3.find(BUCKET), sorted(study.iterdir())) == before


def test_a_store_of_python_is_not_written_there_either():
    with pytest.raises(UserError, match=f"{RESULTS}/mine: give a path of this machine"):
        Writer(
            f"{RESULTS}/mine",
            "images",
            labels=np.zeros(1, np.int64),
            indices=np.zeros(1, np.int64),
            provenance=open_stage(f"{RESULTS}/{CLEAN}").manifest,
        )


def test_a_package_that_is_missing_is_named_with_its_extra(puriflow, monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    line = one_line(puriflow("inspect", f"{RESULTS}/{CLEAN}"))
    assert "pip install 'puriflow[s3]'" in line


def test_what_cannot_be_an_address_is_said(puriflow):
    assert "nosuch" in one_line(puriflow("inspect", "nosuch://bucket/results"))


def test_a_folder_here_needs_none_of_these_packages(study):
    code = (
        "import sys; from puriflow.store import open_stage;"
        f"open_stage({str(study / 'results' / CLEAN)!r});"
        "assert not sys.modules.keys() & {'upath', 's3fs', 'botocore'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_copied_back_is_what_was_there(study, s3, puriflow, tmp_path):
    s3.get(f"{BUCKET}/results/", f"{tmp_path}/results/", recursive=True)
    status, out, _ = puriflow("verify", tmp_path / "results")
    assert (status, out.splitlines()[-1].endswith("nothing wrong")) == (0, True)
    again = open_stage(tmp_path / "results" / ATTACKED)
    assert again.identity == open_stage(study / "results" / ATTACKED).identity


@pytest.mark.skipif(shutil.which("aws") is None, reason="needs the command aws")
def test_the_documented_copy_there_and_back(study, server, puriflow, tmp_path):
    sync = ("aws", "s3", "sync", "--only-show-errors", "--exclude", "*.work/*")
    there = f"s3://{BUCKET}/synced"
    subprocess.run([*sync, study / "results", there], check=True)
    assert puriflow("verify", there)[0] == 0
    subprocess.run([*sync, there, tmp_path / "results"], check=True)
    assert puriflow("verify", tmp_path / "results")[0] == 0
    again = open_stage(tmp_path / "results" / ATTACKED)
    assert again.identity == open_stage(study / "results" / ATTACKED).identity
