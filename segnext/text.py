"""Text that comes from outside (names in files, lists and folders) made fit for a message."""

from __future__ import annotations

LONGEST = 200  # characters of a name that a message shows


def printable(text: object, longest: int = LONGEST) -> str:
    r"""One line without control characters, however long and whatever it was: "\x1b[2J" is shown as what it is.

    Lone surrogates, as names of files have that are not UTF-8, are escaped too: no terminal could print them.
    """
    shown = str(text)
    cut = f"... ({len(shown)} characters)" if len(shown) > longest else ""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in shown[:longest]) + cut


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
