import gzip
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cotrain.data.download import download
from cotrain.data.sources import CENSUS_INCOME, FASHION_MNIST, DataFile, Source
from cotrain.errors import DataError

CONTENT = {"one.data.gz": b"first " * 5000, "two.test.gz": b"second " * 4000}


class Publisher:
    """A web server on this machine with the files in `served`; it notes what was asked for."""

    def __init__(self) -> None:
        self.served: dict[str, bytes] = {}
        self.asked: list[str] = []
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked.append(self.path)
                body = publisher.served.get(self.path)
                self.send_response(404 if body is None else 200)
                declared = 2 if self.path.startswith("/cut") else 1
                self.send_header("Content-Length", str(len(body or b"") * declared))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def source(self, path_of: Callable[[str], str]) -> Source:
        files = tuple(
            DataFile(name, self.url + path_of(name), hashlib.sha256(content).hexdigest())
            for name, content in CONTENT.items()
        )
        return Source("toy", "a toy", "https://publisher.example", "none", files)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    thread = threading.Thread(target=publisher.server.serve_forever)
    thread.start()
    yield publisher
    publisher.server.shutdown()
    thread.join()
    publisher.server.server_close()


def archive(names: dict[str, bytes]) -> bytes:
    """A zip that holds a readme and a tar.gz with the files, as UCI packs Census-Income."""
    packed, tar_bytes = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w:gz") as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in names.items():
            entry = tarfile.TarInfo(f"folder/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    with zipfile.ZipFile(packed, "w") as outer:
        outer.writestr("readme.txt", "hello")
        outer.writestr("other.zip", b"PK\x05\x06" + bytes(18))
        outer.writestr("all.tar.gz", tar_bytes.getvalue())
    return packed.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: gzip.decompress(path.read_bytes()) for path in folder.iterdir()}


def test_files_are_checked_and_kept(publisher: Publisher, tmp_path: Path) -> None:
    publisher.served = {f"/{name}": gzip.compress(content) for name, content in CONTENT.items()}
    heard: list[tuple[int, int, str]] = []
    source = publisher.source(lambda name: f"/{name}")
    folder = download(source, folder=tmp_path / "new", progress=lambda *report: heard.append(report))
    assert contents(folder) == CONTENT
    size = len(publisher.served["/one.data.gz"])
    assert (size, size, "one.data.gz") in heard


@pytest.mark.parametrize("inside", ["plain", "compressed"])
def test_an_archive_is_fetched_once_and_searched(publisher: Publisher, inside: str) -> None:
    plain = {name.removesuffix(".gz"): content for name, content in CONTENT.items()}
    packed = {name: gzip.compress(content) for name, content in CONTENT.items()}
    publisher.served = {"/all.zip": archive(plain if inside == "plain" else packed)}
    folder = download(publisher.source(lambda _: "/all.zip"))
    assert contents(folder) == CONTENT
    assert folder.name == "toy"
    assert publisher.asked == ["/all.zip"]


def test_whole_files_are_not_fetched_again_and_damaged_ones_are(publisher: Publisher, tmp_path: Path) -> None:
    publisher.served = {f"/{name}": gzip.compress(content) for name, content in CONTENT.items()}
    source = publisher.source(lambda name: f"/{name}")
    download(source, folder=tmp_path)
    (tmp_path / "two.test.gz").write_bytes(gzip.compress(b"something else"))
    publisher.asked.clear()
    download(source, folder=tmp_path)
    assert publisher.asked == ["/two.test.gz"]
    assert contents(tmp_path) == CONTENT


def test_wrong_content_is_not_kept(publisher: Publisher, tmp_path: Path) -> None:
    publisher.served = {f"/{name}": gzip.compress(b"other") for name in CONTENT}
    with pytest.raises(DataError, match=r"one.data from .* has the SHA-256 .*, expected .* not kept"):
        download(publisher.source(lambda name: f"/{name}"), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/one.zip", b"<html>sorry</html>", "not the archive it should be"),
        ("/one.zip", archive({"else.data": b""}), "holds no one.data"),
        ("/one.gz", gzip.compress(b"text")[:-9], "not the archive it should be"),
        ("/cut.gz", b"half", "after 4 of 8 bytes|IncompleteRead"),
        ("/absent", None, "could not be downloaded: HTTP Error 404"),
    ],
    ids=["no archive", "another name", "damaged", "cut", "absent"],  # the bytes hold the time
)
def test_a_bad_answer_is_an_error(
    publisher: Publisher, tmp_path: Path, path: str, body: bytes | None, message: str
) -> None:
    publisher.served = {} if body is None else {path: body}
    with pytest.raises(DataError, match=message):
        download(publisher.source(lambda _: path), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_it_says_what_to_do_by_hand(tmp_path: Path) -> None:
    unreachable = Publisher()
    unreachable.server.server_close()
    with pytest.raises(DataError) as error:
        download(unreachable.source(lambda name: f"/{name}"), folder=tmp_path)
    for part in ("could not be downloaded", "https://publisher.example", "one.data.gz and two.test.gz", str(tmp_path)):
        assert part in str(error.value)


@pytest.mark.parametrize("source", [CENSUS_INCOME, FASHION_MNIST])
def test_the_checksums_are_those_of_the_published_files(source: Source, published: Callable[[str], Path]) -> None:
    for file in source.files:
        with gzip.open(published(source.name) / file.name) as content:
            assert hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
