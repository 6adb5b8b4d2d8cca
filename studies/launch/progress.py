"""Progress of runs: bars with rate and time left on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import MofNCompleteColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from segnext.door import PLAIN_SECONDS, bars
from studies.launch.local import Outcome
from studies.plan.runs import PlannedRun

STYLES = {"done": "green", "failed": "bold red", "stopped": "yellow"}


@contextmanager
def measuring(console: Console, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left for measurements of unequal length; gives what moves it. Nothing in a log."""
    with bars(console, TaskProgressColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)


class Bars:
    """A bar per run under way and one for the study."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console = console
        self._plain = not console.is_terminal
        left = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
        note = TextColumn("{task.fields[note]}", markup=False)
        self._bars = bars(console, MofNCompleteColumn(), left, note, title="{task.description:<24}")
        self._study = self._bars.add_task(title, total=total, note="runs")
        self._runs: dict[str, tuple[TaskID, str]] = {}
        self._printed: dict[str, tuple[str, float]] = {}
        self._ended = 0
        self._total = total

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def progressed(self, planned: PlannedRun, phase: str, done: int, total: int, note: str) -> None:
        """Move the run's bar; a new phase starts a new one."""
        if self._plain:
            self._print_line(planned, phase, done, total, note)
            return
        task, shown = self._runs.get(planned.id, (None, ""))
        if task is not None and shown != phase:
            self._bars.remove_task(task)
            task = None
        if task is None:
            task = self._bars.add_task(f"{planned.label} {phase}", total=total, note=note)
            self._runs[planned.id] = (task, phase)
        self._bars.update(task, completed=done, note=note)

    def ended(self, planned: PlannedRun, outcome: Outcome) -> None:
        """Say how the run ended and count it."""
        self._ended += 1
        if planned.id in self._runs:
            self._bars.remove_task(self._runs.pop(planned.id)[0])
        line = Text(f"[{self._ended}/{self._total}] {planned.label} ")
        line.append(outcome.state, STYLES[outcome.state]).append(f"  {outcome.message}" if outcome.message else "")
        self._console.print(line, soft_wrap=True)
        self._bars.advance(self._study)

    def _print_line(self, planned: PlannedRun, phase: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        last_phase, last_time = self._printed.get(planned.id, ("", 0.0))
        if phase != last_phase or now - last_time >= PLAIN_SECONDS:
            self._printed[planned.id] = (phase, now)
            self._console.print(f"{planned.label} {phase} {done}/{total} {note}", soft_wrap=True)
