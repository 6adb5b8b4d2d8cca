"""The door of every command: how it starts, prints and ends, in a terminal, a pipe, a log, under any locale.

    @command("python -m studies.show")
    def main(arguments: Sequence[str] | None = None) -> int: ...

Text is text: what comes from outside (a failure's message, a file's name, a log) is neither read as markup nor obeyed
by a terminal. Where nobody listens any more (`| head`), the command goes on unheard and ends as it would have.
"""

from __future__ import annotations

import argparse
import functools
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
PLAIN_SECONDS = 15.0  # between two lines about the same work in a log, which has no bars

# What a terminal obeys instead of showing it (C0 but tab and newline, C1), and what turns the order of letters around.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

Words = ParamSpec("Words")


def command(prog: str) -> Callable[[Callable[Words, int]], Callable[Words, int]]:
    """Makes a function that returns an exit code the command `prog`.

    `ValueError` and `OSError` are a user's mistakes: it says their words and leaves with 2, as argparse does with words
    that it does not know. Ctrl-C: a line, and exit code 5.
    """

    def made(main: Callable[Words, int]) -> Callable[Words, int]:
        @functools.wraps(main)
        def entered(*words: Words.args, **more: Words.kwargs) -> int:
            forgiving()
            try:
                return main(*words, **more)
            except KeyboardInterrupt:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # pressed twice, it would interrupt the leaving
                say(CONTINUES, error=True)
                return STOPPED
            except (ValueError, OSError) as error:
                say(f"{prog}: {error}", error=True)
                raise SystemExit(USAGE) from None  # as argparse leaves
            finally:
                _flush(sys.stdout)
                _flush(sys.stderr)

        return entered

    return made


class Parser(argparse.ArgumentParser):
    """A parser whose last words are plain text."""

    asked: ClassVar[Callable[[Parser, Sequence[str]], None] | None] = None
    """Answers a shell that asks what the words may be, before they are read (`segnext`, the Tab key)."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it."""
        if (asked := type(self).asked) is not None:
            asked(self, sys.argv[1:] if args is None else args)
        return super().parse_args(args, namespace)

    @classmethod
    def of(cls, prog: str, text: str | None) -> Parser:
        """The parser of a command whose module says what it does; what it says of exit codes stands last."""
        what, codes, rest = (text or "").partition("Exit codes")
        return cls(prog=prog, description=what, epilog=codes + rest)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Leave with these words."""
        super().exit(status, None if message is None else plain(message))


def forgiving() -> None:
    """Let standard output and error take every text: what their encoding does not have is written as an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started it: `>&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (for as long as the process lasts)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def plain(text: str) -> str:
    r"""The text with what a terminal would obey as `\u001b`, as JSON has it; newlines and tabs stay."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(text: object, error: bool = False, end: str = "\n") -> bool:
    """Print a line as it is to standard output or error; whether somebody still listens."""
    stream = sys.stderr if error else sys.stdout
    try:
        print(plain(str(text)), end=end, file=stream, flush=True)
    except BrokenPipeError:
        _unheard(stream)
        return False
    return True


def print_json(data: Any) -> None:
    """Print it for another program."""
    utf = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    say(json.dumps(data, indent=1, ensure_ascii=not utf))


def console(width: int | None = None, soft_wrap: bool = True, error: bool = False) -> Console:
    """What prints tables and bars, and every text as it is; `width` is that of a pipe or a log."""
    from rich.console import Console
    from rich.segment import Segment

    class Plain(Console):
        def render_str(self, text: str, **how: Any) -> Any:  # before it is laid out
            return super().render_str(plain(text), **how)

        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:  # whatever else holds a text
            for segment in super().render(renderable, options):
                obeyed = not segment.control and _OBEYED.search(segment.text)
                yield Segment(plain(segment.text), segment.style) if obeyed else segment

        def on_broken_pipe(self) -> None:
            _unheard(self.file)

    stream = sys.stderr if error else sys.stdout
    wide = None if stream.isatty() else width
    return Plain(stderr=error, width=wide, soft_wrap=soft_wrap, markup=False, highlight=False, emoji=False)


def bars(on: Console, *columns: ProgressColumn, title: str = "{task.description}", shown: bool = True) -> Progress:
    """rich's bars, each a title, the bar and these columns; nothing where `on` is no terminal or `shown` is false."""
    from rich.progress import BarColumn, Progress, TextColumn

    described = TextColumn(title, markup=False), BarColumn(bar_width=28)
    return Progress(*described, *columns, console=on, disable=not (on.is_terminal and shown))


def typed_path(text: str) -> Path:
    """An option's path as a person wrote it: `~` is a home where no shell has looked (`--out=~/here`), too."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text}: there is no such home here; write the folder out") from None


def folder_of(variable: str) -> Path | None:
    """The folder that a variable of the environment names, or None. `ValueError` for a home that nobody has."""
    named = os.environ.get(variable)
    try:
        return typed_path(named) if named else None
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"${variable}: {error}") from None


def _unheard(stream: Any) -> None:
    """Nobody reads this stream any more: what is still written to it goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _flush(stream: TextIO) -> None:
    """What is left in the buffer is written before the interpreter's end, which would complain."""
    try:
        stream.flush()
    except OSError:
        _unheard(stream)
