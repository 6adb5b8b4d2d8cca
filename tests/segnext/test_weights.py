"""Public weights come whole and checked, or it is said how to fetch them by hand. Real servers on this machine."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import REPOSITORY, interruptible

from segnext.weights import KNOWN, Known, NotFetched, fetch
from studies.declare.protocols import protocol
from studies.plan.weights import pretrained_file, weights_file
from studies.tables import study

PAPER = protocol("paper")


def archive(size: int = 2_000_000) -> bytes:
    """A file as `torch.save` writes them: a zip archive, stored."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("archive/data.pkl", b"\x80\x02")
        packed.writestr("archive/data/0", bytes(range(256)) * (size // 256))
    return buffer.getvalue()


@dataclass
class Server:
    """What it sends and how; what it was asked."""

    content: bytes
    ranges: bool = True
    tag: str = '"one"'
    cuts: list[int] = field(default_factory=list)  # bytes after which each answer breaks off, the first answer's first
    holds: threading.Event | None = None  # waited for, where an answer breaks off
    asked: list[tuple[str, str]] = field(default_factory=list)  # path, Range
    address: str = ""

    def known(self, file: str = "", digest: bool = True) -> Known:
        sha = hashlib.sha256(self.content).hexdigest()[:8]
        name = file or (f"net-{sha}.pth" if digest else "net.pth")
        return Known("net", name, f"{self.address}/{name}", "a test", "a network")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[ThreadingHTTPServer] = []

    def start(content: bytes, **how: object) -> Server:
        state = Server(content, **how)  # type: ignore[arg-type]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = self.headers.get("Range", "")
                state.asked.append((self.path, asked))
                same = self.headers.get("If-Range", state.tag) == state.tag
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.ranges and same else 0
                body = state.content[start:]
                if asked and start >= len(state.content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                if state.tag:
                    self.send_header("ETag", state.tag)
                self.end_headers()
                if state.cuts:
                    self.wfile.write(body[: state.cuts.pop(0)])
                    self.wfile.flush()
                    if state.holds:
                        state.holds.wait(60)
                    self.close_connection = True
                else:
                    self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        running.append(server)
        state.address = f"http://127.0.0.1:{server.server_port}"
        return state

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def test_a_file_comes_whole_under_its_name_and_nothing_else_stays(serve, tmp_path: Path):
    server = serve(archive())
    path, how = fetch(server.known(), tmp_path / "weights")
    assert path.read_bytes() == server.content
    assert "its digest is the one in its name" in how
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_connection_that_breaks_off_is_made_again_from_there(serve, tmp_path: Path):
    server = serve(archive(), cuts=[700_000, 500_000])
    path, _ = fetch(server.known(), tmp_path)
    assert path.read_bytes() == server.content
    assert [asked for _, asked in server.asked] == ["", "bytes=700000-", "bytes=1200000-"]


@pytest.mark.parametrize("digest", [True, False])
def test_an_interrupted_fetch_is_continued_by_the_same_command(digest: bool, serve, tmp_path: Path):
    server = serve(archive(), cuts=[700_000, 0])
    known = server.known(digest=digest)
    with pytest.raises(NotFetched, match="broke off after 700,000 of 2,000,"):
        fetch(known, tmp_path)
    assert not (tmp_path / known.file).exists()
    path, _ = fetch(known, tmp_path)
    assert path.read_bytes() == server.content
    assert server.asked[-1][1] == "bytes=700000-"
    assert [file.name for file in tmp_path.iterdir()] == [known.file]


def test_a_server_without_ranges_sends_the_file_again(serve, tmp_path: Path):
    server = serve(archive(), cuts=[700_000], ranges=False)
    path, _ = fetch(server.known(), tmp_path)
    assert path.read_bytes() == server.content
    assert len(server.asked) == 2


def test_a_server_that_never_gets_further_is_left(serve, tmp_path: Path):
    server = serve(archive(), cuts=[1000] * 9, ranges=False)
    with pytest.raises(NotFetched, match="broke off"):
        fetch(server.known(), tmp_path)
    assert len(server.asked) == 2


@pytest.mark.parametrize("tag", ['"one"', ""])
def test_halves_of_two_files_are_never_joined(tag: str, serve, tmp_path: Path):
    """The publisher replaces the file between two commands; nothing but its own words would tell."""
    server = serve(archive(), cuts=[700_000, 0], tag=tag)
    known = server.known(digest=False)
    with pytest.raises(NotFetched):
        fetch(known, tmp_path)
    server.content, server.tag = archive(1_500_000), tag and '"two"'
    path, _ = fetch(known, tmp_path)
    assert path.read_bytes() == server.content


def test_a_part_of_another_file_is_thrown_away_and_the_file_fetched_anew(serve, tmp_path: Path):
    server = serve(archive())
    known = server.known()
    (tmp_path / f"{known.file}.part").write_bytes(b"another file" * 1000)
    path, _ = fetch(known, tmp_path)
    assert path.read_bytes() == server.content


def test_a_file_of_another_digest_is_not_kept(serve, tmp_path: Path):
    server = serve(archive())
    with pytest.raises(NotFetched, match=r"not kept: its sha256 is [0-9a-f]{64}, and its name says 01234567"):
        fetch(server.known("net-01234567.pth"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (archive()[:900_000] + b"\xff" + archive()[900_001:], "is damaged"),
        (archive()[:900_000], "cut off or damaged"),
        (b"<!doctype html><title>This link has expired</title>", "no file of weights"),
    ],
)
def test_damage_shows_where_no_digest_is_published(content: bytes, why: str, serve, tmp_path: Path):
    with pytest.raises(NotFetched, match=why):
        fetch(serve(content).known(digest=False), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_checked_and_left_as_it_is(serve, tmp_path: Path):
    server = serve(archive())
    known = server.known()
    (tmp_path / known.file).write_bytes(server.content)
    assert "is there already" in fetch(known, tmp_path)[1]
    (tmp_path / known.file).write_bytes(b"PK somebody's own")
    with pytest.raises(NotFetched, match=r"is there already, but its sha256 is .*; move it away"):
        fetch(known, tmp_path)
    assert (tmp_path / known.file).read_bytes() == b"PK somebody's own"
    assert server.asked == []


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        [sys.executable, "-m", "segnext.weights", *words],
        cwd=REPOSITORY,
        env={**own, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_one_that_cannot_be_had_leaves_the_others_and_is_fetched_by_hand(serve, tmp_path: Path):
    server = serve(archive())
    words = ("fetch", "mscan_t", "segnext_t_ade20k", "--to", str(tmp_path), "--mirror", server.address)
    done = command(*words)
    assert done.returncode == 1
    assert "segnext_t_ade20k: " in done.stdout
    assert hashlib.sha256(server.content).hexdigest() in done.stdout
    assert "error: mscan_t" in done.stderr
    assert f"curl -L -o {tmp_path}/mscan_t_20230227-119e8c9f.pth" in done.stderr
    assert "'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segnext/mscan_t_20230227" in done.stderr
    assert "the digest begins with 119e8c9f" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["segnext_tiny_512x512_ade_160k.pth"]


def test_a_proxy_of_the_environment_is_asked_but_not_for_what_no_proxy_names(serve, tmp_path: Path):
    proxy = serve(archive())
    words = ("fetch", "segnext_t_ade20k", "--mirror", "http://weights.invalid/lab", "--to", str(tmp_path))
    done = command(*words, http_proxy=proxy.address)
    assert done.returncode == 0, done.stderr
    assert proxy.asked[0][0] == "http://weights.invalid/lab/segnext_tiny_512x512_ade_160k.pth"
    done = command(*words[:-1], str(tmp_path / "other"), http_proxy=proxy.address, no_proxy="weights.invalid")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert len(proxy.asked) == 1


def test_ctrl_c_keeps_what_came_and_the_same_command_continues(serve, tmp_path: Path):
    holds = threading.Event()
    server = serve(archive(), cuts=[700_000], holds=holds)
    words = ["fetch", "segnext_t_ade20k", "--mirror", server.address, "--to", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "segnext.weights", *words],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    )
    while not server.asked:
        assert process.poll() is None
        threading.Event().wait(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    holds.set()
    assert process.returncode == 5
    assert errors.endswith("stopped: the same command continues\n")
    assert command(*words).returncode == 0
    assert (tmp_path / "segnext_tiny_512x512_ade_160k.pth").read_bytes() == server.content


def test_an_unknown_name_is_a_usage_error_with_the_nearest():
    done = command("fetch", "mscan-t")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no weights are known as 'mscan-t' (did you mean mscan_t?)" in done.stderr


def test_the_list_fits_a_terminal_and_shows_address_source_and_check():
    assert all(len(line) <= 80 for line in command("list").stdout.splitlines())
    said = command("list", "segnext_l_coco_stuff164k", "mscan_s").stdout
    for words in ("issue 45", "https://cloud.tsinghua.edu.cn/f/aca5733f73d645feb43f/?dl=1", "begins with f33ccdf2"):
        assert words in said


def test_addresses_and_names_are_each_ones_own():
    for values in ([known.name for known in KNOWN], [known.file for known in KNOWN], [k.address for k in KNOWN]):
        assert len(set(values)) == len(values)
    for known in KNOWN:
        assert known.address.startswith("https://")
        assert known.source.startswith("github.com/")
        assert bool(known.digest) == (known.digest in known.address and "openmmlab" in known.address)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_studies_run_finds_every_file_in_the_folder(known: Known, tmp_path: Path):
    (tmp_path / known.file).touch()
    if not known.name.startswith("segnext_"):
        assert pretrained_file(tmp_path, f"released/{known.name}") == tmp_path / known.file
        return
    _, size, dataset = known.name.removesuffix("_mmseg").split("_", 2)
    table9 = study("table9")
    panel = next(panel for panel in table9.panels if panel.dataset == dataset)
    row = table9.row(size)
    assert weights_file(tmp_path, row, panel, PAPER.run(panel, row, 0)) == tmp_path / known.file


def test_pretrained_weights_that_are_missing_are_fetched_by_name(tmp_path: Path):
    with pytest.raises(ValueError, match=r"python -m segnext\.weights fetch mscan_s --to "):
        pretrained_file(tmp_path, "released/mscan_s")
    with pytest.raises(ValueError, match=r"--pretrained$"):
        pretrained_file(tmp_path, "released/mit_b0")
