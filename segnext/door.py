"""What all commands share: how they start, print and end, in a terminal, a pipe or a log, under any locale.

    @command("python -m studies.show")
    def main(arguments: Sequence[str] | None = None) -> int: ...

Text from outside (the message of a failure, a file's name, a log) is neither interpreted as markup nor can it control
the terminal. If the reader closes the pipe (`| head`), the command continues silently and ends with its usual exit
code.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import gc
import json
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, ParamSpec, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.text import Text

USAGE, STOPPED = 2, 5
CONTINUES = "stopped: the same command continues"
MANY = 300  # lines of a table: more are printed without colours, which would take seconds
PLAIN_SECONDS = 15.0  # between two progress lines in a log, which shows no bar

# Characters that control a terminal (C0 except tab and newline, C1), and those that change the direction of text.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@atexit.register
def _leave_as_it_is() -> None:
    """Do not look for garbage among all that a command has read: a second for many runs."""
    if "torch" not in sys.modules:  # Triton, which it brings, takes what is left for a leak and says so
        gc.freeze()


def _ends() -> bool:
    """Whether this process is a command of ours, and ends with it: who calls one from Python goes on."""
    spec = sys.modules["__main__"].__spec__
    return (spec.name if spec else Path(sys.argv[0]).name).partition(".")[0] in ("segnext", "studies", "reports")


@contextmanager
def uncollected() -> Iterator[None]:
    """Without a search for cycles: what a command makes of thousands of runs is needed until its end."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            if _ends():
                gc.freeze()
                gc.unfreeze()  # all that is there counts as old, or the next object would have all of it searched
            gc.enable()


def let_lie(*things: object) -> None:
    """Free nothing of what a command ends with: thing by thing that takes a tenth of its time."""
    if _ends():
        cycle = [*things]
        cycle.append(cycle)  # only a search for garbage could free it now, and a command leaves without one


Words = ParamSpec("Words")


def command(prog: str) -> Callable[[Callable[Words, int]], Callable[Words, int]]:
    """Make a command named `prog` of a function that returns an exit code.

    `ValueError` and `OSError` are the user's mistakes: the command prints their message and exits with 2, as argparse
    does for unknown arguments. After Ctrl-C it prints a line and exits with 5.
    """

    def made(main: Callable[Words, int]) -> Callable[Words, int]:
        @functools.wraps(main)
        def entered(*words: Words.args, **more: Words.kwargs) -> int:
            forgiving()
            gc.set_threshold(200_000)  # of what a command reads of thousands of runs little is garbage before its end
            try:
                return main(*words, **more)
            except KeyboardInterrupt:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the exit
                say(CONTINUES, error=True)
                return STOPPED
            except (ValueError, OSError) as error:
                say(f"{prog}: {error}", error=True)
                raise SystemExit(USAGE) from None  # as argparse does
            finally:
                _flush(sys.stdout)
                _flush(sys.stderr)

        return entered

    return made


class Parser(argparse.ArgumentParser):
    """An argument parser that prints its final message as plain text."""

    asked: ClassVar[Callable[[Parser, Sequence[str]], None] | None] = None
    """Answers a shell that asks what the words may be, before they are read (`segnext`, the Tab key)."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it."""
        if (asked := type(self).asked) is not None:
            asked(self, sys.argv[1:] if args is None else args)
        return super().parse_args(args, namespace)

    @classmethod
    def of(cls, prog: str, text: str | None) -> Parser:
        """The parser of a command, described by its module's docstring; the part on exit codes is printed last."""
        what, codes, rest = (text or "").partition("Exit codes")
        return cls(prog=prog, description=what, epilog=codes + rest)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Print the message as plain text and exit."""
        super().exit(status, None if message is None else plain(message))


def forgiving() -> None:
    """Let standard output and error accept any text: characters that their encoding lacks are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: `>&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (for as long as the process lasts)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def plain(text: str) -> str:
    r"""The text with control characters escaped as in JSON (`\u001b`), except newlines and tabs."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(text: object, error: bool = False, end: str = "\n") -> bool:
    """Print text, unformatted, to standard output or error; returns False if the reader has closed the pipe."""
    stream = sys.stderr if error else sys.stdout
    try:
        print(plain(str(text)), end=end, file=stream, flush=True)
    except BrokenPipeError:
        _unheard(stream)
        return False
    return True


def print_json(data: Any) -> None:
    """Print data as JSON for another program."""
    utf = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    say(json.dumps(data, indent=1, ensure_ascii=not utf))


def console(error: bool = False) -> Console:
    """A rich console that prints bars, and text without markup.

    A terminal's lines end between words, and a path or a command is never cut; a pipe gets a sentence as one line.
    """
    from rich.console import Console
    from rich.segment import Segment

    stream = sys.stderr if error else sys.stdout

    class Plain(Console):
        def print(self, *objects: Any, **how: Any) -> None:
            command = any("python -m " in str(one) for one in objects)  # may be pasted
            if stream.isatty() and not command:
                objects = tuple(wrapped(one, self.width) if isinstance(one, str) else one for one in objects)
            super().print(*objects, **how)

        def render_str(self, text: str, **how: Any) -> Any:  # before layout, which measures the text
            return super().render_str(plain(text), **how)

        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:  # all other renderables with text
            for segment in super().render(renderable, options):
                obeyed = not segment.control and _OBEYED.search(segment.text)
                yield Segment(plain(segment.text), segment.style) if obeyed else segment

        def on_broken_pipe(self) -> None:
            _unheard(self.file)

    return Plain(stderr=error, soft_wrap=True, markup=False, highlight=False, emoji=False)


def wrapped(text: str, width: int) -> str:
    """The text with lines of this width, broken between words only."""
    lines = (textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))
    return "\n".join("\n".join(line) for line in lines)


@dataclass(frozen=True)
class Column:
    """A column of what `show_table` prints."""

    heading: str
    right: bool = False
    folds: bool = False
    """Its words may go on in a further line; all others are never cut."""
    keeps: int = 16
    """How narrow it may be if it folds, as long as there is a spare column to leave out."""
    spare: int = 0
    """Left out, the greatest number first, where a terminal is too narrow; 0: never."""


def show_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    title: str = "",
    style: Callable[[int, int], str] = lambda line, column: "",
) -> None:
    """Print a table: for a terminal as `laid_out` has it, for a pipe a line a row, cells separated by tabs."""
    if not sys.stdout.isatty():
        lines = [[column.heading for column in columns], *rows]
        told = ("\t".join(" ".join(cell.split()) for cell in line) for line in lines)
        say("\n".join([*filter(None, [title]), *told]))
        return
    out = console()
    shown = list(laid_out(columns, rows, out.width, title, style))
    if len(rows) > MANY:
        say("\n".join(line.plain for line in shown))
    for line in shown if len(rows) <= MANY else ():
        out.print(line, soft_wrap=True)


def laid_out(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int,
    title: str = "",
    style: Callable[[int, int], str] = lambda line, column: "",
) -> Iterator[Text]:
    """Yield a table's lines for a terminal of this width.

    Empty columns are left out. Where the width does not suffice, a column with one value is said once, above; headings
    go on in a second line, as do columns that may fold; then the spare columns are left out, and named below.
    """
    from rich.cells import cell_len
    from rich.text import Text

    cells = [[plain(" ".join(cell.split())) for cell in row] for row in rows]
    found = list(zip(*cells, strict=True)) or [()] * len(columns)
    widths = {
        place: max(map(cell_len, (columns[place].heading, *column)))
        for place, column in enumerate(found)
        if any(column) or not cells
    }
    same = _said_once(columns, found, widths, width)
    left = _left_out(columns, found, widths, width)
    if title:
        yield Text(wrapped(title, width), "bold")
    if same:
        yield Text(wrapped("in every line: " + ", ".join(same), width))
    for number, row in enumerate([[column.heading for column in columns], *cells]):
        parts = {place: _broken(row[place], wide) for place, wide in widths.items()}
        for line in range(max((len(part) for part in parts.values()), default=0)):
            told = Text()
            for place, part in parts.items():
                text = part[line] if line < len(part) else ""
                space = " " * (widths[place] - cell_len(text))
                told.append("  " if len(told) or place != next(iter(parts)) else "")
                told.append(space if columns[place].right else "")
                told.append(text, style(number - 1, place) if number else "bold")
                told.append("" if columns[place].right else space)
            told.rstrip()
            yield told
    if left:
        yield Text(wrapped(f"left out here: {', '.join(left)} (a wider terminal or a pipe has them)", width), "dim")


_LONG_WORD = 20  # a longer one may be broken if its column folds


def _wide(widths: Iterable[int]) -> int:
    """How wide a table of such columns is."""
    every = list(widths)
    return sum(every) + 2 * (len(every) - 1)


def _said_once(
    columns: Sequence[Column], found: Sequence[Sequence[str]], widths: dict[int, int], width: int
) -> list[str]:
    """Take columns with one value out of a table that is too wide; returns them in words."""
    if _wide(widths.values()) <= width or len(found[0]) in (0, 1):
        return []
    alike = [place for place in widths if place and len(set(found[place])) == 1 and not columns[place].folds]
    for place in alike:
        del widths[place]
    return [f"{columns[place].heading} {found[place][0]}" for place in alike]


def _left_out(
    columns: Sequence[Column], found: Sequence[Sequence[str]], widths: dict[int, int], width: int
) -> list[str]:
    """Narrow a table that is too wide, and take spare columns out of it if need be; returns their headings."""
    from rich.cells import cell_len

    if _wide(widths.values()) <= width:
        return []
    kept, least = {}, {}
    for place, natural in widths.items():
        heading = max(map(cell_len, columns[place].heading.split()), default=0)
        words = max((len(word) for cell in found[place] for word in cell.split()), default=0)
        widths[place] = max(heading, *map(cell_len, found[place])) if found[place] else natural
        narrow, keeps = min(words, _LONG_WORD, widths[place]), min(columns[place].keeps, widths[place])
        least[place] = max(heading, narrow) if columns[place].folds else widths[place]
        kept[place] = max(least[place], keeps)
    left = []
    for place in sorted((place for place in widths if columns[place].spare), key=lambda place: -columns[place].spare):
        if _wide(kept.values()) > width:
            left.append(columns[place].heading)
            del widths[place], kept[place], least[place]
    while _wide(widths.values()) > width:
        if not (folding := [place for place, narrowest in least.items() if widths[place] > narrowest]):
            break
        widths[max(folding, key=widths.__getitem__)] -= 1
    return left


def _broken(cell: str, wide: int) -> list[str]:
    """The lines of a cell in a column of this width."""
    return [cell] if len(cell) <= wide else textwrap.wrap(cell, wide, break_on_hyphens=False)


def bars(on: Console, *columns: ProgressColumn, title: str = "{task.description}", shown: bool = True) -> Progress:
    """rich's bars with a title and these columns; nothing is shown if `on` is no terminal or `shown` is False."""
    from rich.progress import BarColumn, Progress, TextColumn

    described = TextColumn(title, markup=False), BarColumn(bar_width=28)
    return Progress(*described, *columns, console=on, disable=not (on.is_terminal and shown))


def typed_path(text: str) -> Path:
    """An option's path, with `~` expanded even where the shell does not (`--out=~/here`).

    Raises `argparse.ArgumentTypeError` if there is no such home.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text}: there is no such home here; write the whole path") from None


def folder_of(variable: str) -> Path | None:
    """The folder that an environment variable names, or None. Raises `ValueError` if its `~user` does not exist."""
    named = os.environ.get(variable)
    try:
        return typed_path(named) if named else None
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"${variable}: {error}") from None


def _unheard(stream: Any) -> None:
    """Send further output of this stream, whose reader is gone, to /dev/null."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _flush(stream: TextIO) -> None:
    """Flush before the interpreter does at exit, because it would print an error if the reader is gone."""
    try:
        stream.flush()
    except OSError:
        _unheard(stream)
