"""Public weights by name: `python -m segnext.weights fetch mscan_t segnext_t_ade20k --to weights`.

`list` shows what is known and where each address was read; `list NAME` shows the address itself. `fetch` writes whole
files or none, goes on where it was interrupted, and checks the digest that a file's name carries. The folder is what
`--weights` and `--pretrained` take. Proxies are those of the environment (https_proxy, no_proxy).
Exit codes: 0 fine, 1 some could not be fetched (it says what to fetch by hand, and how to check it; the others are
there), 2 usage, 5 stopped by Ctrl-C: the same command continues.
"""

from __future__ import annotations

import argparse
import difflib
import fcntl
import hashlib
import http.client
import os
import re
import shlex
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from segnext.data.tools.progress import Progress
from segnext.door import Column, Parser, command, say, show_table, typed_path
from segnext.text import printable

FINE, FAILED = 0, 1
SECONDS = 60.0  # without a byte: the connection is lost
BLOCK = 1 << 18  # bytes
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Known:
    """Weights that somebody has made public."""

    name: str  # what `fetch` is told
    file: str  # what the file is called in the folder: as its publisher names it, or so that studies.run finds it
    address: str
    source: str  # where the address was read
    what: str

    @property
    def digest(self) -> str:
        """The beginning of the file's SHA-256 that its name carries, as PyTorch's do; empty where it carries none."""
        found = re.search(r"-([0-9a-f]{8,64})\.pth$", self.file)
        return found[1] if found else ""


_AUTHORS = "github.com/Visual-Attention-Network/SegNeXt, README.md"
_MMSEG = "github.com/open-mmlab/mmsegmentation, configs/segnext"
_VAN = "github.com/Visual-Attention-Network/VAN-Classification, README.md"
_CLOUD = "https://cloud.tsinghua.edu.cn/f/{}/?dl=1"
_ZOO = "https://download.openmmlab.com/mmsegmentation/v0.5"
_LONG = {"t": "tiny", "s": "small", "b": "base", "l": "large"}


def _imagenet(size: str, stamp: str) -> Known:
    """mmsegmentation's conversion of the authors' file (its README says so), under the keys of mmsegmentation 1.x."""
    file = f"mscan_{size}_{stamp}.pth"
    address = f"{_ZOO}/pretrain/segnext/{file}"
    what = f"ImageNet-1K, MSCAN-{size.upper()}: the authors', in mmseg's keys"
    return Known(f"mscan_{size}", file, address, f"{_MMSEG}/*.py", what)


def _van(number: int, cloud: str) -> Known:
    size = [*_LONG.values()][number].capitalize()
    what = f"ImageNet-1K, VAN-{size}: its authors' (Tables 8 and 9)"
    return Known(f"van_b{number}", f"van_b{number}.pth.tar", _CLOUD.format(cloud), _VAN, what)


def _authors(size: str, dataset: str, said: str, cloud: str, title: str, source: str = _AUTHORS) -> Known:
    file = f"segnext_{_LONG[size]}_{said}.pth"
    what = f"{title}, SegNeXt-{size.upper()}: the authors'"
    return Known(f"segnext_{size}_{dataset}", file, _CLOUD.format(cloud), source, what)


def _retrained(size: str, stamp: str, miou: str) -> Known:
    folder = f"segnext_mscan-{size}_1x16_512x512_adamw_160k_ade20k"
    file = f"{folder}_{stamp}.pth"
    what = f"ADE20K, SegNeXt-{size.upper()}: mmsegmentation's, {miou} mIoU"
    source = f"{_MMSEG}/metafile.yaml"
    return Known(f"segnext_{size}_ade20k_mmseg", file, f"{_ZOO}/segnext/{folder}/{file}", source, what)


KNOWN = (
    _imagenet("t", "20230227-119e8c9f"),
    _imagenet("s", "20230227-f33ccdf2"),
    _imagenet("b", "20230227-3ab7d230"),
    _imagenet("l", "20230227-cef260d4"),
    _van(0, "aada2242a16245d6a561"),
    _van(1, "dd3eb73692f74a2499c9"),
    _van(2, "58e7acceaf334ecdba89"),
    _van(3, "0201745f6920482490a0"),
    _authors("t", "ade20k", "512x512_ade_160k", "5da98841b8384ba0988a", "ADE20K"),
    _authors("s", "ade20k", "512x512_ade_160k", "b2d1eb94f5944d60b3d2", "ADE20K"),
    _authors("b", "ade20k", "512x512_ade_160k", "1ea8000916284493810b", "ADE20K"),
    _authors("l", "ade20k", "512x512_ade_160k", "d4f8e1020643414fbf7f", "ADE20K"),
    _authors("t", "cityscapes", "1024x1024_city_160k", "b1613af9955849bba910", "Cityscapes"),
    _authors("s", "cityscapes", "1024x1024_city_160k", "14148cf5371a4f248db1", "Cityscapes"),
    _authors("b", "cityscapes", "1024x1024_city_160k", "adb49029f66f426bb046", "Cityscapes"),
    _authors("l", "cityscapes", "1024x1024_city_160k", "b5308d092b034f81aac0", "Cityscapes"),
    _authors(
        *("l", "coco_stuff164k", "512x512_coco_stuff164k_80k", "aca5733f73d645feb43f", "COCO-Stuff 164K"),
        source="github.com/Visual-Attention-Network/SegNeXt, issue 45",
    ),
    _retrained("t", "20230210_140244-05bd8466", "41.50"),
    _retrained("s", "20230214_113014-43013668", "44.16"),
    _retrained("b", "20230209_172053-b6f6c70c", "48.03"),
    _retrained("l", "20230209_172055-19b14b63", "50.99"),
)


class NotFetched(Exception):
    """Weights that could not be had; the message says why."""


@command("python -m segnext.weights")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parser().parse_args(arguments)
    chosen = [_known(name) for name in dict.fromkeys(options.names)]
    if options.verb == "list":
        _list(chosen)
        return FINE
    missing = 0
    for known in chosen:
        try:
            path, how = fetch(known, options.to, options.mirror)
            say(f"{known.name}: {printable(path)} {how}")
        except (NotFetched, OSError) as error:
            missing += 1
            say(f"error: {known.name}: {printable(error, 1000)}", error=True)
            say(by_hand(known, options.to), error=True)
    return FAILED if missing else FINE


def _parser() -> argparse.ArgumentParser:
    parse = Parser.of("python -m segnext.weights", __doc__)
    verbs = parse.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="what is known; with names, their addresses and sources")
    listing.add_argument("names", nargs="*", metavar="NAME")
    fetching = verbs.add_parser("fetch", help="bring weights into a folder and check them")
    fetching.add_argument("names", nargs="+", metavar="NAME", help="as `list` shows them")
    fetching.add_argument("--to", type=typed_path, default=Path("weights"), metavar="DIR", help="(default: weights)")
    fetching.add_argument(
        "--mirror", default="", metavar="URL", help="fetch URL/FILE, by the files' names, from a server of your own"
    )
    return parse


def _known(name: str) -> Known:
    """`ValueError` with the nearest name where there is none."""
    names = {known.name: known for known in KNOWN}
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"no weights are known as {name!r}{hint}; python -m segnext.weights list shows them")
    return names[name]


def _list(chosen: Sequence[Known]) -> None:
    for known in chosen:
        check = f"sha256 begins with {known.digest}" if known.digest else "no digest is published"
        lines = (known.what, f"file     {known.file}", f"address  {known.address}", f"read in  {known.source}")
        say("\n  ".join((known.name, *lines, f"check    {check}")))
    if not chosen:
        show_table((Column("name"), Column("what", folds=True)), [[known.name, known.what] for known in KNOWN])
        say("\nTheir addresses, sources and digests: python -m segnext.weights list NAME ...")


def by_hand(known: Known, folder: Path) -> str:
    """What to do without a connection: where to fetch the file, where to put it, how to check it."""
    path = shlex.quote(str(folder / known.file))
    digest = f"begins with {known.digest}" if known.digest else "is published nowhere: compare two downloads"
    return (
        f"  by hand, on a machine with a connection (a proxy: https_proxy=http://HOST:PORT):\n"
        f"    curl -L -o {path} \\\n      '{known.address}'\n"
        f"    sha256sum {path}\n"
        f"  the digest {digest}; the same command then finds the file and checks it"
    )


def fetch(known: Known, folder: Path, mirror: str = "") -> tuple[Path, str]:
    """The file of these weights in a folder, and how it came there.

    A file that is there is checked and kept. Raises `NotFetched`, and leaves what came so far for the next time, where
    the server cannot be reached or breaks off; where what came is not the file, it keeps nothing of it.
    """
    path = folder / known.file
    if path.exists():
        if fault := _fault(path, known):
            raise NotFetched(f"{path} is there already, but {fault}; move it away")
        return path, f"is there already{_checked(known)}"
    folder.mkdir(parents=True, exist_ok=True)
    address = f"{mirror.rstrip('/')}/{known.file}" if mirror else known.address
    part = path.with_name(f"{known.file}.part")
    with _alone(part) as file:
        resumed = file.seek(0, os.SEEK_END)
        _downloaded(address, file, part, known)
        if (fault := _fault(part, known)) and resumed:  # what was there may have been another file's
            file.truncate(0)
            _downloaded(address, file, part, known)
            fault = _fault(part, known)
        if fault:
            part.unlink()
            _tag(part).unlink(missing_ok=True)
            raise NotFetched(f"what {address} sent is not kept: {fault}")
        os.fsync(file.fileno())
        os.replace(part, path)
        _tag(part).unlink(missing_ok=True)
    return path, f"fetched{_checked(known)}, sha256 {_sha256(path)}"


def _checked(known: Known) -> str:
    return ", its digest is the one in its name" if known.digest else " (no digest is published to check it by)"


@contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """The file of what came so far, to append to; `NotFetched` where another process writes it."""
    with open(part, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotFetched(f"another process is fetching {part}") from None
        except OSError:  # a file system without locks
            pass
        try:
            yield file
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _downloaded(address: str, file: IO[bytes], part: Path, known: Known) -> None:
    """Bring the rest of a file; a connection that broke off after some bytes is made again.

    Raises `NotFetched` where none brings anything more.
    """
    while True:
        before = file.seek(0, os.SEEK_END)
        try:
            whole = _continued(address, file, part, known)
        except urllib.error.HTTPError as error:
            raise NotFetched(f"{address} answers {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise NotFetched(f"{address} cannot be reached ({error.reason})") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            whole, why = None, f" ({printable(error) or type(error).__name__})"
        else:
            why = ""
        file.flush()
        size = file.seek(0, os.SEEK_END)
        if whole is not None and size >= whole:
            return
        if size <= before:
            of = f" of {whole:,}" if whole else ""
            raise NotFetched(f"{address} broke off after {size:,}{of} bytes{why}; the same command continues")


def _continued(address: str, file: IO[bytes], part: Path, known: Known) -> int | None:
    """Append what is missing; returns the whole file's size in bytes, 0 where the server does not say it.

    Where the server has another file by now, or does not send parts, it begins anew.
    """
    there = file.seek(0, os.SEEK_END)
    tag = _tag(part).read_text(encoding="ascii", errors="replace") if _tag(part).exists() else ""
    if there and not (tag or known.digest):  # nothing would tell whether the two halves belong together
        file.truncate(0)
        there = 0
    request = urllib.request.Request(address, headers={"User-Agent": "segnext.weights", "Accept-Encoding": "identity"})
    if there:
        request.add_header("Range", f"bytes={there}-")
        if tag:
            request.add_header("If-Range", tag)
    try:
        answer = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and there:
            return there  # all of it was there; its digest is looked at next
        raise
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT and there:
            file.truncate(0)
            there = 0
        strong = answer.headers.get("ETag", "")
        _tag(part).write_text(strong if strong.startswith('"') else answer.headers.get("Last-Modified", ""))
        length = answer.headers.get("Content-Length")
        whole = there + int(length) if length else 0
        _copied(answer, file, known.file, there, whole)
    return whole


def _copied(answer: IO[bytes], file: IO[bytes], title: str, there: int, whole: int) -> None:
    with Progress(f"{title}, MB", round(whole / MEGABYTE)) as progress:
        progress.advance(shown := there // MEGABYTE)
        while block := answer.read(BLOCK):
            file.write(block)
            there += len(block)
            progress.advance(there // MEGABYTE - shown)
            shown = there // MEGABYTE


def _tag(part: Path) -> Path:
    """Where the server's word for this state of the file stands, so that halves of two states are never joined."""
    return part.with_name(f"{part.name}.tag")


def _fault(path: Path, known: Known) -> str:
    """What keeps a file from being these weights; empty where nothing does."""
    with open(path, "rb") as file:
        begins = file.read(2)
    if known.digest:
        found = _sha256(path)
        return "" if found.startswith(known.digest) else f"its sha256 is {found}, and its name says {known.digest}..."
    if begins == b"PK":
        with suppress(zipfile.BadZipFile, OSError, EOFError, NotImplementedError), zipfile.ZipFile(path) as held:
            return f"{printable(damaged)} in it is damaged" if (damaged := held.testzip()) else ""
        return "it is cut off or damaged"
    return "" if begins[:1] == b"\x80" else "it is no file of weights (a web page, perhaps: open the address to see)"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
