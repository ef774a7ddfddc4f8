"""A server of S3 on this machine, a finished table, and its stores in a bucket."""

import json
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml
from bucket import ATTACKED, BUCKET, CLASSIFIED, CLEAN

from puriflow.cli import main

BESIDE = Path(__file__).parents[2] / ".venv" / "beside" / "bin" / "python"
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "mine",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
TRACK = {"datasets": {"imagenet": {"subset": 2}}, "attacks": {"pgd-linf4": {"n_iter": 1}}}
TABLE = {
    "title": "a tiny table",
    "source": "tests",
    "dataset": "imagenet",
    "classifier": "resnet50",
    "attack": "pgd-linf4",
    "rows": [{"method": "undefended", "type": "none"}],
}


@pytest.fixture(scope="module")
def environment():
    """Changes of the environment, for as long as the server runs."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def beside() -> Path:
    """The Python of the environment of tests/beside.txt."""
    if not BESIDE.is_file():
        pytest.skip(f"needs {BESIDE}, which `make test` makes of tests/beside.txt")
    return BESIDE


@pytest.fixture(scope="module")
def server(environment, beside):
    """A server of S3, which the environment names, with an empty bucket.

    What it says of itself: its address, and the keys of a stranger. It ends with its input, that
    is with this process, whatever happens.
    """
    s3fs = pytest.importorskip("s3fs", reason="needs the extra s3")
    command = [beside, Path(__file__).with_name("server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        said = json.loads(started.stdout.readline())
        for name, value in {**SETTINGS, "AWS_ENDPOINT_URL": said["address"]}.items():
            environment.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir(BUCKET)
        yield said
        s3fs.S3FileSystem.clear_instance_cache()
        started.stdin.close()


@pytest.fixture(scope="module")
def s3(server):
    """The file system of the server."""
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False)


@pytest.fixture
def stranger(server, s3, monkeypatch):
    """The server asks who one is, and who one is has no rights."""
    key, secret = server["stranger"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    type(s3).clear_instance_cache()
    asks(server["address"], "0")
    yield
    asks(server["address"], "inf")
    type(s3).clear_instance_cache()


def asks(address: str, after: str) -> None:
    """Have the server ask for rights after so many requests."""
    request = urllib.request.Request(
        f"{address}/moto-api/reset-auth",
        data=after.encode(),
        headers={"Content-Type": "text/plain"},
    )
    with urllib.request.urlopen(request):
        pass


@pytest.fixture
def puriflow(capsys, monkeypatch, tmp_path_factory):
    """A function that runs `puriflow`: its exit status, and what it printed on both streams.

    In an empty folder, unless another one is given.
    """
    empty = tmp_path_factory.mktemp("empty")

    def run(*words: object, folder: Path = empty) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.argv", ["puriflow", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def study(tmp_path_factory, repository):
    """The folder of a study with a finished table of two images."""
    folder = tmp_path_factory.mktemp("study")
    track = {"extends": str(repository / "config" / "config.yaml"), "track": "tiny", **TRACK}
    (folder / "config" / "tables").mkdir(parents=True)
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(track))
    (folder / "config" / "tables" / "tiny.yaml").write_text(yaml.safe_dump(TABLE))
    results, classifier = folder / "results", ("--classifier", "resnet50")
    through = ("--attack", "pgd-linf4", "--victim", "resnet50")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (
            ("stage", "images", "imagenet", "--out", results / CLEAN),
            ("stage", "attack", results / CLEAN, "--out", results / ATTACKED, *through),
            *(
                ("stage", "classify", results / source, "--out", results / out, *classifier)
                for source, out in (
                    (CLEAN, CLASSIFIED.format("none/none")),
                    (ATTACKED, CLASSIFIED.format("pgd-linf4/resnet50")),
                )
            ),
            ("result", "config/tables/tiny.yaml"),
        ):
            patch.setattr("sys.argv", ["puriflow", *map(str, words)])
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code, words
    return folder
