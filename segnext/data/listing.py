"""The list files of datasets: the one reader of their lines."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from segnext.data.source import DataNotFoundError

_SUFFIXES = (".png", ".jpg", ".jpeg")  # suffixes that names in a list may have
# "IMAGE LABEL", two paths on one line, as in the lists of SegNet and DeepLab.
_PAIR = re.compile(r"(.*?(?:\.png|\.jpe?g))\s+(\S.*(?:\.png|\.jpe?g))", re.IGNORECASE)


def listed(path: Path, ending: str = "", nested: bool = False) -> set[str]:
    """The frames that a list file names, one per line (`frame_of`). Raises `DataNotFoundError` if it cannot be read.

    The file is UTF-8, or UTF-16 with a byte-order mark. Bytes that are not UTF-8 are kept, as names on disk have them.
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
    """The frame that a line names: the line, blanks included, without folders and without the image's ending.

    On a line with two paths the first counts if the second belongs to the same frame: it has the same name, or that
    name followed by `_` and the kind of label. With `nested` the last folder is part of the name. `ending` is the
    ending of the dataset's images, in any case.
    """
    line = _stripped(line)
    if pair := _PAIR.fullmatch(line):
        image, label = (_bare(path, ending, nested) for path in pair.groups())
        frame, kind = (name.rpartition("/")[2] for name in (image, label))
        if kind == frame or kind.startswith(f"{frame}_"):
            return image
        if "/" in line:
            return line  # two unrelated paths, which name no frame
    return _bare(line, ending, nested)


def _stripped(line: str) -> str:
    """The line without surrounding blanks and byte-order mark, which may begin any line of concatenated lists."""
    return line.strip().lstrip("\ufeff").strip()


def _bare(path: str, ending: str, nested: bool) -> str:
    name = "/".join(path.split("/")[-2 if nested else -1 :])
    for end in (ending.lower(), *_SUFFIXES):
        if end and name.lower().endswith(end):
            return name[: -len(end)]
    return name
