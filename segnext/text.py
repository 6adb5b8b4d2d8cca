"""Text from outside (names in files, lists and folders) made safe to print in a message."""

from __future__ import annotations

LONGEST = 200  # most characters of a name that a message shows


def printable(text: object, longest: int = LONGEST) -> str:
    r"""The text as one line of at most about `longest` characters, with control characters escaped: "\x1b[2J".

    Lone surrogates, which stand for bytes of file names that are not UTF-8, are escaped, too: terminals cannot print
    them.
    """
    shown = str(text)
    cut = f"... ({len(shown)} characters)" if len(shown) > longest else ""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in shown[:longest]) + cut


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
