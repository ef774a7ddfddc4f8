"""The downloader against a real server on this machine that misbehaves on request."""

import hashlib
import http.server
import io
import multiprocessing
import shutil
import threading
import urllib.request
from collections import Counter, namedtuple
from http.client import HTTPMessage

import pytest

from puriflow.errors import UserError
from puriflow.zoo import download as downloading
from puriflow.zoo.download import download

DATA = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(DATA).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves DATA under several paths, each with a fault of its own."""

    def do_GET(self):
        server = self.server
        server.seen[self.path] += 1
        server.ranges.append(self.headers.get("Range"))
        times = server.seen[self.path]
        if self.path == "/missing":
            return self.send_error(404)
        if self.path == "/page":
            return self._send(200, b"<!DOCTYPE html><html>quota exceeded</html>", "text/html")
        if self.path == "/disguised-page":
            return self._send(200, b"\n<html>quota exceeded</html>", "application/octet-stream")
        if self.path == "/busy" and times < 3:
            return self.send_error(503)
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to?"))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if self.path == "/longer":  # than it says, and than is published
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            return self.wfile.write(DATA)
        if self.path in ("/without-end", "/chunks-without-end"):
            return self._without_end(chunked="chunks" in self.path)
        if self.path == "/no-length":
            self.send_response(200)
            self.send_header("Content-Length", "many")
            self.end_headers()
            return self.wfile.write(DATA)
        if self.path == "/endless":
            return self._send(200, DATA[:100], "application/octet-stream", length=False)
        if self.path == "/empty":
            return self._send(200, b"", "application/octet-stream")
        if self.path == "/packed":
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            return self.wfile.write(DATA[:1000])
        start, status = 0, 200
        if (wanted := self.headers.get("Range")) and self.path != "/no-ranges":
            same = self.headers.get("If-Range") == server.tag
            start, status = (int(wanted[len("bytes=") : -1]), 206) if same else (0, 200)
        if start >= len(DATA):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(DATA)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = DATA[start:]
        cut = None
        if self.path in ("/broken", "/no-ranges", "/changing") and times == 1:
            cut = len(DATA) // 3
        if self.path == "/always-broken":
            cut = 1000 if times == 1 else 0
        if self.path == "/wrong-range" and status == 206:
            start += 1
        if self.path == "/pieces":  # never more than a third, asked for or not
            status, body = 206, body[: len(DATA) // 3]
        if self.path == "/changing":
            server.tag = f'"{times}"'
        return self._send(status, body, "application/octet-stream", cut, start=start)

    def _send(self, status, body, kind, cut=None, *, start=0, length=True):
        self.send_response(status)
        if status == 206:
            end = start + len(body) - 1  # of the file, of which this may be a piece
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(DATA)}")
        if length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", kind)
        self.send_header("ETag", self.server.tag)
        self.end_headers()
        self.wfile.write(body[:cut])

    def _without_end(self, *, chunked):
        self.protocol_version = "HTTP/1.1"
        self.close_connection = True
        self.send_response(200)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                frame = (f"{len(DATA):x}\r\n".encode(), DATA, b"\r\n") if chunked else (DATA,)
                for piece in frame:
                    self.wfile.write(piece)
                self.server.sent += len(DATA)
        except OSError:  # the other side hung up
            self.server.hung_up = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloading.time, "sleep", lambda seconds: None)
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.seen, served.ranges, served.tag = Counter(), [], '"first"'
    served.sent = 0
    served.url = f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield served
    served.shutdown()


def left_in(folder):
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))


def test_a_file_arrives_whole_and_alone(server, tmp_path):
    download(f"{server.url}/file", tmp_path / "f", size=len(DATA), hashes={"sha256": SHA256[:8]})
    assert (tmp_path / "f").read_bytes() == DATA
    assert left_in(tmp_path) == ["f", "f.sha256"]
    assert (tmp_path / "f.sha256").read_text() == f"{SHA256}\n"
    download(f"{server.url}/file", tmp_path / "f")
    assert server.seen["/file"] == 1


@pytest.mark.parametrize("path", ["/broken", "/no-ranges", "/changing", "/busy"])
def test_a_connection_that_breaks_is_taken_up_again(server, tmp_path, path):
    download(server.url + path, tmp_path / "f", hashes={"sha256": SHA256})
    assert (tmp_path / "f").read_bytes() == DATA
    if path == "/broken":  # the second request asks for the rest only
        assert server.ranges == [None, f"bytes={len(DATA) // 3}-"]


def test_a_killed_download_goes_on_in_the_next_call(server, tmp_path):
    part, mark = tmp_path / "f.part", tmp_path / "f.part.tag"
    part.write_bytes(DATA[:5000])
    mark.write_text(server.tag)
    download(f"{server.url}/file", tmp_path / "f", hashes={"sha256": SHA256})
    assert server.ranges == ["bytes=5000-"]
    assert left_in(tmp_path) == ["f", "f.sha256"]


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_a_part_that_was_whole_when_the_job_was_killed_is_used(server, tmp_path, size):
    (tmp_path / "f.part").write_bytes(DATA)
    (tmp_path / "f.part.tag").write_text(server.tag)
    download(f"{server.url}/file", tmp_path / "f", size=size)
    assert (tmp_path / "f").read_bytes() == DATA
    assert server.seen["/file"] == (0 if size else 1)


def test_a_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "f.part").write_bytes(DATA + b"more")
    (tmp_path / "f.part.tag").write_text(server.tag)
    download(f"{server.url}/file", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA


def test_another_range_than_the_one_asked_for_is_not_appended(server, tmp_path):
    (tmp_path / "f.part").write_bytes(DATA[:5000])
    (tmp_path / "f.part.tag").write_text(server.tag)
    download(f"{server.url}/wrong-range", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA


def test_old_bytes_never_get_the_tag_of_a_new_file(server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"x" * 5000)
    (tmp_path / "f.part.tag").write_text('"old"')
    with pytest.raises(UserError, match="ended early"):
        download(f"{server.url}/always-broken", tmp_path / "f")
    assert (tmp_path / "f.part").read_bytes() == DATA[:1000]
    assert (tmp_path / "f.part.tag").read_text() == server.tag


def test_a_page_leaves_what_was_downloaded_before(server, tmp_path):
    (tmp_path / "f.part").write_bytes(DATA[:5000])
    (tmp_path / "f.part.tag").write_text('"before"')
    with pytest.raises(UserError, match="web page"):
        download(f"{server.url}/page", tmp_path / "f")
    assert (tmp_path / "f.part").read_bytes() == DATA[:5000]
    assert (tmp_path / "f.part.tag").read_text() == '"before"'


def test_a_file_whose_end_cannot_be_known_is_refused(server, tmp_path):
    with pytest.raises(UserError, match="does not say how long it is"):
        download(f"{server.url}/endless", tmp_path / "f")
    with pytest.raises(UserError, match="its sha256 is"):
        download(f"{server.url}/endless", tmp_path / "f", hashes={"sha256": SHA256})
    assert not (tmp_path / "f").exists()


def test_the_part_of_another_file_is_not_continued(server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"x" * 5000)
    (tmp_path / "f.part.tag").write_text('"of another file"')
    download(f"{server.url}/file", tmp_path / "f", hashes={"sha256": SHA256})
    assert (tmp_path / "f").read_bytes() == DATA


def test_a_file_that_never_ends_right_is_not_used(server, tmp_path):
    with pytest.raises(UserError, match=r"ended early; \d+ bytes are kept"):
        download(f"{server.url}/always-broken", tmp_path / "f")
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing", "answered 404"),
        ("/page", "web page"),
        ("/disguised-page", "web page"),
        ("/empty", "is empty"),
        ("/packed", "is sent as gzip"),
    ],
)
def test_what_is_no_file_is_said_at_once(server, tmp_path, path, message):
    with pytest.raises(UserError, match=message):
        download(server.url + path, tmp_path / "f")
    assert server.seen[path] == 1
    assert not (tmp_path / "f").exists()


def test_a_wrong_hash_or_size_is_never_used(server, tmp_path):
    with pytest.raises(
        UserError, match=f"its sha256 is {SHA256}, but should be 1234; it was removed"
    ):
        download(f"{server.url}/file", tmp_path / "f", hashes={"sha256": "1234"})
    with pytest.raises(UserError, match="has 1048576 bytes, but should have 17"):
        download(f"{server.url}/file", tmp_path / "f", size=17)
    assert "f" not in left_in(tmp_path)


def test_a_full_disk_is_said_before_the_download(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(UserError, match=r"needs 1 MB more.*PURIFLOW_CACHE"):
        download(f"{server.url}/file", tmp_path / "f")
    assert left_in(tmp_path) == []


def test_a_disk_that_fills_up_on_the_way_is_a_problem(server, tmp_path):
    (tmp_path / "f.part").symlink_to("/dev/full")  # every write to it says: no space left
    with pytest.raises(UserError, match=r"f\.part: No space left on device"):
        download(f"{server.url}/file", tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_pieces_of_a_file_are_not_taken_for_all_of_it(server, tmp_path):
    download(f"{server.url}/pieces", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA
    assert server.seen["/pieces"] > 3


@pytest.mark.parametrize("path", ["/without-end", "/chunks-without-end"])
@pytest.mark.parametrize("size", [1000, len(DATA) * 2 + 1, None])
def test_a_server_that_never_ends_is_left(server, tmp_path, monkeypatch, path, size):
    monkeypatch.setattr(downloading, "LARGEST", len(DATA) * 2 + 1)
    limit = size or downloading.LARGEST
    with pytest.raises(UserError, match=rf"sends more than {limit} bytes"):
        download(server.url + path, tmp_path / "f", size=size, hashes={"sha256": SHA256})
    assert server.seen[path] == 1
    assert left_in(tmp_path) == []  # nothing beyond the limit was written, and nothing is kept


def test_a_server_that_sends_more_than_it_says_ends_at_what_it_said(server, tmp_path):
    digest = hashlib.sha256(DATA[:1000]).hexdigest()
    download(f"{server.url}/longer", tmp_path / "f", size=1000, hashes={"sha256": digest})
    assert (tmp_path / "f").read_bytes() == DATA[:1000]


def test_a_length_that_is_none_is_none(server, tmp_path):
    with pytest.raises(UserError, match="does not say how long it is"):
        download(f"{server.url}/no-length", tmp_path / "f")
    download(f"{server.url}/no-length", tmp_path / "f", hashes={"sha256": SHA256})
    assert (tmp_path / "f").read_bytes() == DATA


def test_a_file_larger_than_any_checkpoint_is_refused_before_it_is_sent(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(downloading, "LARGEST", 1000)
    with pytest.raises(UserError, match="has 1048576 bytes, more than any checkpoint"):
        download(f"{server.url}/file", tmp_path / "f")
    download(f"{server.url}/file", tmp_path / "f", size=len(DATA))  # which is published


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1:9/f", "data:,x"])
def test_a_redirection_out_of_the_web_is_not_followed(server, tmp_path, target):
    with pytest.raises(UserError, match=r"answered 302|is not followed") as caught:
        download(f"{server.url}/to?{target}", tmp_path / "f")
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path) == []


def test_redirections_stay_in_https(server, tmp_path):
    download(f"{server.url}/to?{server.url}/file", tmp_path / "f", hashes={"sha256": SHA256})
    assert (tmp_path / "f").read_bytes() == DATA
    with pytest.raises(UserError, match=r"answered 302.*infinite loop") as caught:
        download(f"{server.url}/to?", tmp_path / "g")
    assert "\n" not in str(caught.value)
    secure = urllib.request.Request("https://example.org/f")
    with pytest.raises(UserError, match="which is not followed"):
        downloading.Redirects().redirect_request(
            secure, io.BytesIO(), 302, "Found", HTTPMessage(), "http://example.org/f"
        )


@pytest.mark.parametrize("url", ["http://[::1/f", "http://\xe4.example/\xfc"])
def test_an_address_that_none_can_have_is_one_line(tmp_path, url):
    with pytest.raises(UserError, match="cannot be asked for"):
        download(url, tmp_path / "f")


def test_a_damaged_tag_is_none(server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"x" * 5000)
    (tmp_path / "f.part.tag").write_bytes(b"\xff\x00\r\nX-Evil: 1")
    download(f"{server.url}/file", tmp_path / "f", hashes={"sha256": SHA256})
    assert server.ranges == [None]
    assert (tmp_path / "f").read_bytes() == DATA


def test_two_processes_download_once(server, tmp_path):
    jobs = [
        multiprocessing.get_context("fork").Process(
            target=download, args=(f"{server.url}/file", tmp_path / "f")
        )
        for _ in range(2)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0]
    assert server.seen["/file"] == 1
    assert (tmp_path / "f").read_bytes() == DATA


def test_a_server_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(downloading.time, "sleep", lambda seconds: None)
    with pytest.raises(UserError, match="refused") as caught:
        download("http://127.0.0.1:9/file", tmp_path / "f")
    assert "\n" not in str(caught.value)
