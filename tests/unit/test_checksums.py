"""Hashes that are remembered for as long as a file stays as it is."""

import os
from hashlib import sha256

import pytest

from puriflow import checksums
from puriflow.checksums import MEMORY, file_hash, file_hashes, forget


@pytest.fixture
def read(tmp_path, monkeypatch):
    """The files that were read to be hashed; in a folder in which the workflow has run."""
    monkeypatch.chdir(tmp_path)
    MEMORY.parent.mkdir(parents=True)
    files, digest = [], checksums.digest

    def counted(path, algorithm):
        files.append(os.path.basename(path))
        return digest(path, algorithm)

    monkeypatch.setattr(checksums, "digest", counted)
    monkeypatch.setattr(checksums, "known", {})
    return files


def another_process():
    checksums.known.clear()


def expected(content):
    return sha256(content).hexdigest()


def test_a_file_is_read_once_by_all_processes(tmp_path, read):
    files = [tmp_path / name for name in ("a", "b", "a")]
    for file in files:
        file.write_bytes(file.name.encode())
    wanted = [expected(name) for name in (b"a", b"b", b"a")]
    for _ in range(2):
        assert file_hashes(files) == wanted
        assert file_hash(tmp_path / "b") == wanted[1]
        another_process()
    assert sorted(read) == ["a", "b"]
    assert file_hash(tmp_path / "a", "md5") == "0cc175b9c0f1b6a831c399e269772661"
    assert file_hash(tmp_path / "a") == wanted[0]


def test_another_content_of_that_size_and_time_is_seen(tmp_path, read):
    file = tmp_path / "a"
    file.write_bytes(b"before")
    times = file.stat()
    assert file_hash(file) == expected(b"before")
    for after, write in [(b"within", file.write_bytes), (b"beside", None)]:
        if write:
            write(after)
        else:
            (tmp_path / "new").write_bytes(after)
            (tmp_path / "new").replace(file)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert file_hash(file) == expected(after)
        another_process()
        assert file_hash(file) == expected(after)
    assert read == ["a"] * 3


@pytest.mark.parametrize("damage", ["flip", "folder", "cut"])
def test_a_damaged_memory_is_made_anew(tmp_path, read, damage):
    (tmp_path / "a").write_bytes(b"a")
    file_hash(tmp_path / "a")
    content = bytearray(MEMORY.read_bytes())
    at = content.index(expected(b"a").encode())
    content[at] ^= 1
    MEMORY.unlink()
    if damage == "folder":
        MEMORY.mkdir()
    else:
        MEMORY.write_bytes(content if damage == "flip" else content[:at])
    for _ in range(2):
        another_process()
        assert file_hash(tmp_path / "a") == expected(b"a")
    assert len(read) == (3 if damage == "folder" else 2)  # a folder is in the way for good


def test_what_is_forgotten_is_read_again(tmp_path, read):
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    file_hashes([tmp_path / "a", tmp_path / "b"])
    forget([tmp_path / "a"])
    another_process()
    file_hashes([tmp_path / "a", tmp_path / "b"])
    assert sorted(read) == ["a", "a", "b"]


def test_where_no_workflow_runs_nothing_is_written(tmp_path, read):
    MEMORY.parent.rmdir()
    (tmp_path / "a").write_bytes(b"a")
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "a") == expected(b"a")
    assert read == ["a"]
    assert not MEMORY.parent.exists()
    with pytest.raises(FileNotFoundError):
        file_hash(tmp_path / "b")
