"""What all commands share: how they start, print and end, in a terminal, a pipe or a log, under any locale.

    @command("python -m studies.show")
    def main(arguments: Sequence[str] | None = None) -> int: ...

Text from outside (the message of a failure, a file's name, a log) is neither interpreted as markup nor can it control
the terminal. If the reader closes the pipe (`| head`), the command continues silently and ends with its usual exit
code.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, ParamSpec, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

USAGE, STOPPED = 2, 5
CONTINUES = "stopped: the same command continues"
MANY = 300  # lines of a table: more are printed by `print_many`
PLAIN_SECONDS = 15.0  # between two progress lines in a log, which shows no bar

# Characters that control a terminal (C0 except tab and newline, C1), and those that change the direction of text.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

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


def console(width: int | None = None, soft_wrap: bool = True, error: bool = False) -> Console:
    """A rich console that prints tables and bars, and text without markup; `width` applies to a pipe or a log."""
    from rich.console import Console
    from rich.segment import Segment

    class Plain(Console):
        def render_str(self, text: str, **how: Any) -> Any:  # before layout, which measures the text
            return super().render_str(plain(text), **how)

        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:  # all other renderables with text
            for segment in super().render(renderable, options):
                obeyed = not segment.control and _OBEYED.search(segment.text)
                yield Segment(plain(segment.text), segment.style) if obeyed else segment

        def on_broken_pipe(self) -> None:
            _unheard(self.file)

    stream = sys.stderr if error else sys.stdout
    wide = None if stream.isatty() else width
    return Plain(stderr=error, width=wide, soft_wrap=soft_wrap, markup=False, highlight=False, emoji=False)


def print_many(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table of thousands of lines, which rich would lay out for a minute: a line each, never wrapped."""
    from rich.cells import cell_len

    def wide(text: str) -> int:
        return len(text) if text.isascii() else cell_len(text)

    lines = [headings, *([" ".join(cell.splitlines()) if "\n" in cell else cell for cell in row] for row in rows)]
    widths = [max(map(wide, column)) for column in zip(*lines, strict=True)]
    filled = (
        "  ".join(cell + " " * (width - wide(cell)) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    say("\n".join([*filter(None, [title]), *map(str.rstrip, filled)]))


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
