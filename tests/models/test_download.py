"""A file is fetched whole or not at all, whatever server, line or a kill does; only what is missing is asked for."""

import hashlib
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from models.faulty_server import FINE, Answer, FaultyServer, self_signed

from facesvc import __version__
from facesvc.errors import DependencyError, WeightsError
from facesvc.models.download import Downloader, Fetched

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CUT = Answer(cut_after=100_000)

Fetch = Callable[..., Fetched]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        running.files["/model.onnx"] = CONTENT
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def downloader(server: FaultyServer, pauses: list[float]) -> Iterator[Downloader]:
    with Downloader(connect_timeout_s=5, read_timeout_s=5, attempts=3, pause=pauses.append) as open_one:
        yield open_one


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "model.onnx"


@pytest.fixture
def fetch(server: FaultyServer, downloader: Downloader, target: Path) -> Fetch:
    """Fetches the model; arguments may be others."""

    def call(by: Downloader = downloader, **changed: object) -> Fetched:
        arguments = {"sha256": SHA256, "size_bytes": len(CONTENT), "progress": lambda done, total: None, **changed}
        return by.fetch(f"{server.url}/model.onnx", target, **arguments)  # type: ignore[arg-type] - as given

    return call


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_fetches_a_file(fetch: Fetch, server: FaultyServer, target: Path, pauses: list[float]) -> None:
    seen: list[tuple[int, int | None]] = []
    fetched = fetch(progress=lambda done, total: seen.append((done, total)))

    assert fetched == Fetched(SHA256, len(CONTENT), len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert names(target) == ["model.onnx"]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)
    assert pauses == []
    (asked,) = server.asked
    assert asked.range is None
    assert asked.headers["user-agent"] == f"facesvc/{__version__}"
    assert asked.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("headers", [{}, {"Content-Length": None, "Transfer-Encoding": None}])
def test_fetches_a_file_of_which_nothing_is_known(
    headers: dict[str, str | None], fetch: Fetch, server: FaultyServer, target: Path
) -> None:
    server.script.append(Answer(headers=headers))
    totals = set()
    assert fetch(sha256=None, size_bytes=None, progress=lambda done, total: totals.add(total)).sha256 == SHA256
    assert target.read_bytes() == CONTENT
    assert totals == ({None} if headers else {len(CONTENT)})


def test_replaces_the_file_that_was_there(fetch: Fetch, target: Path) -> None:
    target.write_bytes(b"an older one")
    fetch()
    assert target.read_bytes() == CONTENT


def test_an_empty_file(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.files["/model.onnx"] = b""
    assert fetch(sha256=hashlib.sha256(b"").hexdigest(), size_bytes=0).size_bytes == 0
    assert target.read_bytes() == b""


# What passes by itself: the next try goes on.


def test_a_cut_body_is_gone_on_with(fetch: Fetch, server: FaultyServer, target: Path, pauses: list[float]) -> None:
    server.script += [CUT, Answer(cut_after=50_000)]
    assert fetch().received_bytes == len(CONTENT)
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert server.asked[1].headers["if-range"].startswith('"')
    assert target.read_bytes() == CONTENT
    assert [0.25 <= pauses[0] <= 0.5, 0.5 <= pauses[1] <= 1.0] == [True, True]


def test_a_server_that_stalls_is_left(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.script.append(Answer(stall_after=100_000))
    with Downloader(read_timeout_s=0.5, pause=lambda seconds: None) as hasty:
        fetch(hasty)
    assert server.ranges[:2] == [None, "bytes=100000-"]
    assert target.read_bytes() == CONTENT


def test_a_date_identifies_a_file_too(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    date = "Mon, 02 Nov 2026 10:00:00 GMT"
    server.script += [Answer(cut_after=100_000, headers={"ETag": None, "Last-Modified": date})]
    fetch()
    assert server.asked[1].headers["if-range"] == date
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", [None, 'W/"weak"', "no tag", '"' + "x" * 300 + '"'])
def test_what_nothing_identifies_is_not_gone_on_with(
    etag: str | None, fetch: Fetch, server: FaultyServer, target: Path
) -> None:
    server.script.append(Answer(cut_after=100_000, headers={"ETag": etag}))
    assert fetch().received_bytes == len(CONTENT) + 100_000
    assert server.ranges == [None, None]
    assert target.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_starts_from_nought(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.script += [CUT, Answer(ignore_ranges=True)]
    assert fetch().received_bytes == len(CONTENT) + 100_000
    assert target.read_bytes() == CONTENT


def test_a_range_that_cannot_be_had_starts_from_nought(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.script += [CUT, Answer(status=416)]
    fetch()
    assert server.ranges == [None, "bytes=100000-", None]
    assert target.read_bytes() == CONTENT


def test_an_end_that_nothing_announced_comes_too_early(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.script.append(Answer(cut_after=100_000, headers={"Content-Length": None}))
    fetch()
    assert server.ranges == [None, "bytes=100000-"]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("server_is", ["honest", "careless"])
def test_a_file_that_changes_between_tries_starts_from_nought(
    server_is: str, fetch: Fetch, server: FaultyServer, target: Path
) -> None:
    # An honest server sees from If-Range that it has another file; a careless one gives the rest of that.
    server.script += [Answer(cut_after=100_000, headers={"ETag": '"old"'})]
    if server_is == "careless":
        server.script += [Answer(status=206, headers={"ETag": '"new"', "Content-Range": "bytes 100000-255999/256000"})]
    fetch()
    assert server.asked[1].headers["if-range"] == '"old"'
    assert server.ranges[1:] == ["bytes=100000-", *([None] if server_is == "careless" else [])]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_status_that_passes(status: int, fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.script += [Answer(status=status), Answer(status=status)]
    fetch()
    assert len(server.asked) == 3
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Mon, 02 Nov 2026 10:00:09 GMT", "Date": "Mon, 02 Nov 2026 10:00:00 GMT"}, 9.0),
    ],
)
def test_a_server_that_wants_to_be_left_alone(
    headers: dict[str, str], wait_s: float, fetch: Fetch, server: FaultyServer, pauses: list[float]
) -> None:
    server.script.append(Answer(status=503, headers=headers))
    fetch()
    assert pauses == [wait_s]


@pytest.mark.parametrize("value", ["soon", "-5", "Mon, 02 Nov 2026 10:00:09 GMT", "1e9", "²"])
def test_a_wait_that_cannot_be_understood(value: str, fetch: Fetch, server: FaultyServer, pauses: list[float]) -> None:
    server.script.append(Answer(status=503, headers={"Retry-After": value}))
    fetch()
    assert pauses[0] <= 0.5


def test_a_long_wait_is_left_to_the_caller(fetch: Fetch, server: FaultyServer, pauses: list[float]) -> None:
    server.script.append(Answer(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(DependencyError, match=r"429 \(Too Many Requests\).*again in 3600 s"):
        fetch()
    assert pauses == []
    assert len(server.asked) == 1


def test_what_does_not_pass_is_told_and_gone_on_with_later(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.script += [CUT, Answer(cut_after=50_000), Answer(cut_after=0)]
    with pytest.raises(DependencyError, match=r"model.onnx could not be fetched \(tries: 3\): .*check the network"):
        fetch()
    assert not target.exists()
    fetch()
    assert server.ranges[-1] == "bytes=150000-"
    assert target.read_bytes() == CONTENT
    assert names(target) == ["model.onnx"]


def test_nobody_listens(target: Path, pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Downloader(attempts=3, pause=pauses.append) as downloader, pytest.raises(DependencyError, match="refused"):
        downloader.fetch(
            f"http://127.0.0.1:{port}/x", target, sha256=None, size_bytes=None, progress=lambda done, total: None
        )
    assert len(pauses) == 2
    assert names(target) == []


def test_the_length_lies(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.script += [Answer(headers={"Content-Length": "300000"})] * 3
    with pytest.raises(DependencyError, match="without sending complete message body"):
        fetch(sha256=None, size_bytes=None)
    assert not target.exists()


# Killed.

KILLED = """
import sys
from pathlib import Path
from facesvc.models.download import Downloader

def progress(done, total):
    print(done, flush=True)

with Downloader() as downloader:
    downloader.fetch(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3], size_bytes=256000, progress=progress)
"""


@pytest.fixture
def killed(server: FaultyServer, target: Path) -> None:
    """A process that was killed when it had 100,000 bytes."""
    server.script.append(Answer(stall_after=100_000))
    command = [sys.executable, "-c", KILLED, f"{server.url}/model.onnx", str(target), SHA256]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) == 100_000:
                child.kill()
    assert child.returncode == -signal.SIGKILL
    server.released.set()


def test_what_a_killed_process_left_is_gone_on_with(
    killed: None, fetch: Fetch, server: FaultyServer, target: Path
) -> None:
    assert not target.exists()
    part = (target.parent / ".model.onnx.part").stat().st_size
    assert 0 < part <= 100_000
    assert fetch().received_bytes == len(CONTENT) - part
    assert server.ranges == [None, f"bytes={part}-"]
    assert target.read_bytes() == CONTENT
    assert names(target) == ["model.onnx"]


def test_what_a_crash_damaged_is_fetched_anew(killed: None, fetch: Fetch, server: FaultyServer, target: Path) -> None:
    part = target.parent / ".model.onnx.part"
    part.write_bytes(bytes(part.stat().st_size))
    fetch()
    assert server.ranges[-1] is None
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("size_bytes", [len(CONTENT), len(CONTENT) + 1])
def test_a_part_that_is_whole_or_too_long(
    size_bytes: int, killed: None, fetch: Fetch, server: FaultyServer, target: Path
) -> None:
    (target.parent / ".model.onnx.part").write_bytes((CONTENT + b"x")[:size_bytes])
    fetch()
    assert server.ranges[1:] == ([] if size_bytes == len(CONTENT) else [None])
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "note", [b"", b"[]", b"{}", b'{"origin": "another", "validator": "x"}', b"\xff", bytes(1 << 21)]
)
def test_a_part_that_nobody_knows_is_thrown_away(
    note: bytes, killed: None, fetch: Fetch, server: FaultyServer, target: Path
) -> None:
    (target.parent / ".model.onnx.part.json").write_bytes(note)
    fetch()
    assert server.ranges == [None, None]
    assert names(target) == ["model.onnx"]


def test_bytes_that_nothing_identifies_have_no_note(
    killed: None, fetch: Fetch, server: FaultyServer, target: Path
) -> None:
    def progress(done: int, total: int | None) -> None:
        assert not (target.parent / ".model.onnx.part.json").exists()

    server.script.append(Answer(ignore_ranges=True, headers={"ETag": None}))
    fetch(progress=progress)
    assert len(server.ranges) == 2
    assert target.read_bytes() == CONTENT


def test_a_part_of_another_version_is_thrown_away(
    killed: None, fetch: Fetch, server: FaultyServer, target: Path
) -> None:
    other = CONTENT[::-1]
    server.files["/model.onnx"] = other
    fetch(sha256=hashlib.sha256(other).hexdigest())
    assert server.ranges == [None, None]
    assert target.read_bytes() == other


# What does not pass: nothing is kept.


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, r"404 \(Not Found\): there is no such file; check the name and the mirror setting"),
        (401, r"401 \(Unauthorized\): it asks who we are"),
        (403, r"403 \(Forbidden\): it is not for us"),
        (407, r"407 \(Proxy Authentication Required\): the proxy asks who we are"),
        (410, r"410 \(Gone\)"),
        (204, r"204 \(No Content\): check the mirror setting and the proxy"),
        (299, r"299 \(unknown\)"),
        (206, r"206 \(Partial Content\)"),
        (416, "416"),
        (304, "304"),
    ],
)
def test_a_status_that_does_not_pass(
    status: int, message: str, fetch: Fetch, server: FaultyServer, target: Path, pauses: list[float]
) -> None:
    server.script.append(Answer(status=status))
    with pytest.raises(DependencyError, match=rf"^{server.url}/model.onnx cannot be fetched: .*{message}"):
        fetch()
    assert pauses == []
    assert names(target) == []


def test_a_damaged_byte_keeps_nothing(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    target.write_bytes(b"an older one")
    server.script.append(Answer(corrupt_at=200_000))
    with pytest.raises(WeightsError, match=rf"SHA-256 [0-9a-f]{{64}}; expected was {SHA256}; nothing was kept"):
        fetch()
    assert names(target) == ["model.onnx"]
    assert target.read_bytes() == b"an older one"
    assert len(server.asked) == 1


def test_a_damaged_second_half_keeps_nothing(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.script += [CUT, Answer(corrupt_at=200_000)]
    with pytest.raises(WeightsError, match=rf"expected was {SHA256}"):
        fetch()
    assert names(target) == []


@pytest.mark.parametrize("content", [CONTENT + b"x", CONTENT[:-1], b""])
def test_another_size_than_expected(content: bytes, fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.files["/model.onnx"] = content
    with pytest.raises(WeightsError, match=f"has {len(content)} bytes; expected were 256000"):
        fetch()
    assert names(target) == []


def test_an_endless_body(server: FaultyServer, target: Path, fetch: Fetch) -> None:
    server.script += [Answer(endless=True), Answer(endless=True)]
    with pytest.raises(WeightsError, match="more bytes than the 256000 allowed"):
        fetch()
    with Downloader(max_bytes=1_000_000) as small, pytest.raises(WeightsError, match="more bytes than the 1000000"):
        fetch(small, size_bytes=None)
    assert names(target) == []


def test_a_file_that_is_too_large(server: FaultyServer, fetch: Fetch, target: Path) -> None:
    with Downloader(max_bytes=1000) as small:
        with pytest.raises(WeightsError, match="has 256000 bytes, more than the 1000 that are allowed"):
            fetch(small)
        assert server.asked == []
        with pytest.raises(WeightsError, match="has 256000 bytes, more than the 1000 that are allowed"):
            fetch(small, size_bytes=None)
    assert names(target) == []


def test_too_little_space(server: FaultyServer, fetch: Fetch, target: Path) -> None:
    with Downloader(max_bytes=1 << 62) as large:
        with pytest.raises(
            DependencyError, match=rf"needs {1 << 60} bytes more in {target.parent}, where \d+ are free"
        ):
            fetch(large, size_bytes=1 << 60)
        assert server.asked == []
        server.script.append(Answer(headers={"Content-Length": str(1 << 60)}))
        with pytest.raises(DependencyError, match=rf"needs {1 << 60} bytes more"):
            fetch(large, size_bytes=None)


def test_a_disk_that_fills_up(fetch: Fetch, target: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(DependencyError, match=r"\.model\.onnx\.part cannot be written to: File too large; free"):
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(target) == []


def test_a_folder_that_is_not_there(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    target.parent.rmdir()
    with pytest.raises(DependencyError, match="cannot be written to: No such file or directory"):
        fetch()
    assert server.asked == []


def test_a_folder_in_the_place_of_the_file(fetch: Fetch, target: Path) -> None:
    target.mkdir()
    with pytest.raises(DependencyError, match="cannot be written to: Is a directory"):
        fetch()
    assert names(target) == ["model.onnx"]


@pytest.mark.parametrize(
    "content_range",
    [
        None,
        "bytes 99999-255999/256000",
        "bytes 100001-255999/256000",
        "lines 1-2/3",
        "bytes */256000",
        "bytes 1-" + "9" * 99,
    ],
)
def test_a_wrong_range_is_refused(
    content_range: str | None, fetch: Fetch, server: FaultyServer, target: Path, pauses: list[float]
) -> None:
    server.script += [CUT, Answer(headers={"Content-Range": content_range})]
    with pytest.raises(DependencyError, match=r"gives '.*' where 'bytes=100000-' was asked for"):
        fetch()
    assert len(pauses) == 1
    assert not target.exists()


def test_a_range_of_a_file_of_another_size(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.script += [CUT, Answer(headers={"Content-Range": "bytes 100000-255999/256001"})]
    with pytest.raises(WeightsError, match="has 256001 bytes; expected were 256000"):
        fetch()
    assert names(target) == []


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
def test_an_encoded_file_is_refused(encoding: str, fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.script.append(Answer(headers={"Content-Encoding": encoding}))
    with pytest.raises(DependencyError, match=f"comes encoded as '{encoding}'"):
        fetch()
    assert names(target) == []


# Addresses.


def test_redirects_keep_the_range(fetch: Fetch, server: FaultyServer, target: Path) -> None:
    server.files["/moved"] = CONTENT
    moved = Answer(status=302, headers={"Location": "/moved"})
    server.script += [moved, CUT, moved, FINE]
    fetch()
    assert [asked.path for asked in server.asked] == ["/model.onnx", "/moved", "/model.onnx", "/moved"]
    assert server.ranges[2:] == ["bytes=100000-"] * 2
    assert target.read_bytes() == CONTENT


def test_the_body_of_a_redirect_is_not_read(fetch: Fetch, server: FaultyServer) -> None:
    server.script.append(Answer(status=307, endless=True, headers={"Location": "/model.onnx"}))
    assert fetch().received_bytes == len(CONTENT)


def test_a_redirect_that_goes_round(fetch: Fetch, server: FaultyServer, pauses: list[float]) -> None:
    server.script += [Answer(status=301, headers={"Location": "/model.onnx"})] * 20
    with pytest.raises(DependencyError, match="redirects more than 5 times"):
        fetch()
    assert len(server.asked) == 6
    assert pauses == []


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "file:///etc/passwd", f"http://{'a' * 70}.example/x"])
def test_a_redirect_to_elsewhere(location: str, fetch: Fetch, server: FaultyServer) -> None:
    server.script.append(Answer(status=302, headers={"Location": location}))
    with pytest.raises(DependencyError, match=r"no address|not safe"):
        fetch()


@pytest.mark.parametrize(
    "url", ["", "model.onnx", "ftp://127.0.0.1/x", "http://", "http://a..b/", "http://x:y/", "file:///x"]
)
def test_no_address(url: str, downloader: Downloader) -> None:
    with pytest.raises(DependencyError, match="is no address"):
        downloader.read_small(url, 100)


def test_a_password_is_not_told(server: FaultyServer, downloader: Downloader) -> None:
    address = server.url.replace("://", "://me:secret@")
    with pytest.raises(DependencyError) as caught:
        downloader.read_small(f"{address}/none?token=secret", 100)
    assert f"{server.url}/none cannot" in caught.value.message
    assert "secret" not in caught.value.message
    assert server.asked[0].headers["authorization"].startswith("Basic ")


def test_the_proxy_of_the_environment_is_asked(
    server: FaultyServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.files["http://models.invalid/list"] = b"through the proxy"
    with Downloader() as downloader:
        assert downloader.read_small("http://models.invalid/list", 100) == b"through the proxy"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Downloader() as downloader:
        assert downloader.read_small(f"{server.url}/model.onnx", 1 << 20) == CONTENT
    assert server.asked[-1].path == "/model.onnx"


def test_a_proxy_that_lets_nothing_through(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    with Downloader(attempts=1) as downloader, pytest.raises(DependencyError, match=r"501 .*check .*HTTPS_PROXY"):
        downloader.read_small("https://models.invalid/list", 100)


@pytest.mark.parametrize("proxy", ["nonsense://127.0.0.1:1", "socks5://127.0.0.1:1", "http://x:y"])
def test_a_proxy_that_cannot_be_used(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(DependencyError, match=r"the proxy .* cannot be used"):
        Downloader()


def test_a_certificate_that_nobody_vouches_for(
    tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyServer(self_signed(tmp_path)) as server:
        server.files["/list"] = b"{}"
        with Downloader(pause=pauses.append) as downloader, pytest.raises(DependencyError, match="SSL_CERT_FILE"):
            downloader.read_small(f"{server.url}/list", 100)
        assert pauses == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with Downloader() as downloader:
            assert downloader.read_small(f"{server.url}/list", 100) == b"{}"
            server.script.append(Answer(status=302, headers={"Location": "http://127.0.0.1:1/list"}))
            with pytest.raises(DependencyError, match=r"redirects to http://127\.0\.0\.1:1/list, which is not safe"):
                downloader.read_small(f"{server.url}/list", 100)


# Small files.


def test_reads_a_small_file(server: FaultyServer, downloader: Downloader) -> None:
    server.script += [Answer(status=503), Answer(cut_after=10)]
    assert downloader.read_small(f"{server.url}/model.onnx", len(CONTENT)) == CONTENT


def test_a_small_file_that_is_not_small(server: FaultyServer, downloader: Downloader) -> None:
    server.script += [FINE, Answer(endless=True)]
    for limit in (len(CONTENT) - 1, 1000):
        with pytest.raises(DependencyError, match=f"model.onnx has more than {limit} bytes"):
            downloader.read_small(f"{server.url}/model.onnx", limit)
