"""The list files of datasets: one reader of their lines, for whatever reads or writes them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from segnext.data.source import DataNotFoundError

_SUFFIXES = (".png", ".jpg", ".jpeg")  # that a list may leave on its names
# "IMAGE LABEL", two paths: SegNet's and DeepLab's lists have them.
_PAIR = re.compile(r"(.*?(?:\.png|\.jpe?g))\s+(\S.*(?:\.png|\.jpe?g))", re.IGNORECASE)


def listed(path: Path, ending: str = "", nested: bool = False) -> set[str]:
    """The frames that a list file names, one a line. Raises `DataNotFoundError` where it cannot be read.

    A frame is `frame_of` its line. UTF-8, or UTF-16 with its mark; bytes that are neither are those of names on disk.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataNotFoundError(f"{path}: the list cannot be read ({error.strerror}); make it readable") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", errors="replace")
    else:
        text = content.decode("utf-8", errors="surrogateescape")
    lines = (_stripped(line) for line in re.split(r"[\r\n]+", text))
    return {frame_of(line, ending, nested) for line in lines if line}


def frame_of(line: str, ending: str = "", nested: bool = False) -> str:
    """The frame that a line names: all of it, blanks too, without folders and the image's ending, in any capitals.

    Of two paths the first counts, where the second is of the same frame: its name alone, or followed by `_` and what
    kind of label it is. `nested`: the last folder is a part of the name. `ending`: of the dataset's images.
    """
    line = _stripped(line)
    if pair := _PAIR.fullmatch(line):
        image, label = (_bare(path, ending, nested) for path in pair.groups())
        frame, kind = (name.rpartition("/")[2] for name in (image, label))
        if kind == frame or kind.startswith(f"{frame}_"):
            return image
        if "/" in line:
            return line  # no frame's name: two paths that do not belong together
    return _bare(line, ending, nested)


def _stripped(line: str) -> str:
    """Without blanks around it, and without the mark that begins a file, or a line of lists that were joined."""
    return line.strip().lstrip("\ufeff").strip()


def _bare(path: str, ending: str, nested: bool) -> str:
    name = "/".join(path.split("/")[-2 if nested else -1 :])
    for end in (ending.lower(), *_SUFFIXES):
        if end and name.lower().endswith(end):
            return name[: -len(end)]
    return name
