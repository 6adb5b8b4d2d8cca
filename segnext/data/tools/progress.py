"""Progress of work on many files: a bar with rate and time left on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import MofNCompleteColumn, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from segnext.door import PLAIN_SECONDS, bars, console


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_rate(task.finished_speed or task.speed or 0))


def _rate(rate: float) -> str:
    return f"{rate:.{0 if rate >= 10 else 1}f}/s"


class Progress:
    """Shows on standard error how many of `total` items are done."""

    def __init__(self, title: str, total: int) -> None:
        self._console = console(error=True)
        self._plain = not self._console.is_terminal
        left = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
        self._bars = bars(self._console, MofNCompleteColumn(), _Rate(), left, shown=total > 0)
        self._task = self._bars.add_task(title, total=total)
        self._title, self._total, self._done = title, total, 0
        self._started = self._printed = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        if self._plain and self._total:
            self._console.print(f"{self._title} 0/{self._total}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def advance(self, count: int = 1) -> None:
        """Record that `count` more items are done."""
        self._done += count
        self._bars.advance(self._task, count)
        now = time.monotonic()
        if self._plain and (self._done == self._total or now - self._printed >= PLAIN_SECONDS):
            self._printed = now
            rate = self._done / max(now - self._started, 1e-9)
            left = f", {(self._total - self._done) / rate:.0f} s left" if self._done < self._total else ""
            self._console.print(f"{self._title} {self._done}/{self._total} {_rate(rate)}{left}")

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(message)
