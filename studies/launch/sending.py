"""Runs submitted array by array: at once, or, while somebody follows them, as the cluster has room."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console

from segnext.config import Execution
from studies.launch.local import GOES_ON, Outcome, Watcher, follow
from studies.launch.submit import Array, Specify, arrays, submit
from studies.plan.runs import PlannedRun
from studies.plan.state import submitted
from studies.records import snapshot
from studies.slurm import scheduler
from studies.slurm.profile import Profile

FULL = re.compile("limit|temporarily", re.IGNORECASE)
"""In the words of an sbatch that would take the same job later: MaxJobCount, or a limit of the account or QOS."""


@dataclass
class Line:
    """Runs that wait to be submitted, in the order of the plan."""

    console: Console
    waiting: list[PlannedRun]
    resources: Profile
    settings: Callable[[Profile], Execution]
    specify: Specify
    code: int = 0  # the exit code of what the scheduler said last
    full: bool = False  # whether it refused for want of room
    sent: int = 0
    _size: int = 0
    _snapshot: Path | None = field(default=None, repr=False)

    def send(self) -> list[PlannedRun]:
        """Submit until nothing waits or the scheduler refuses; returns what was submitted now."""
        found: list[PlannedRun] = []
        total = self.sent + len(self.waiting)
        self.code, self.full = 0, False
        try:
            self._size = self._size or self.resources.max_array_size or scheduler.max_array_size(self.resources.cluster)
            self._snapshot = self._snapshot or snapshot.take()
            for array in arrays(self.waiting, self.resources, self._size, self.resources.max_parallel):
                asked = {planned.id for planned in array.runs}
                self._submit(array, self._snapshot)
                found += array.runs
                self.waiting = [planned for planned in self.waiting if planned.id not in asked]
        except scheduler.Unreachable as error:
            self.console.print(f"the scheduler does not answer: {error}")
            self.code = 4
        except scheduler.Refused as error:
            self.console.print(f"sbatch refuses: {error}")
            self.code, self.full = 1 if found or self.sent else 3, bool(FULL.search(str(error)))
            self.waiting = [_as_it_stands(planned) for planned in self.waiting]
        self.sent += len(found)
        rest = "; the same command submits the rest" if self.code else ""
        self.console.print(f"{self.sent} of {total} runs submitted{rest}")
        return found

    def halve(self) -> bool:
        """Try smaller arrays; False if they are as small as can be."""
        self._size //= 2
        return self._size > 0

    def followed(self, going: list[PlannedRun], watcher: Watcher, asked: Callable[[], bool]) -> dict[str, Outcome]:
        """Watch these, and submit what waits whenever as many are over as the next array has runs.

        With `max_parallel` the next array waits for all of them: no more runs may be under way.
        """
        outcomes: dict[str, Outcome] = {}
        while (going or self.full) and not asked():
            room = min(self._size, len(self.waiting)) if self.full else len(going)
            left = 0 if self.resources.max_parallel else max(0, len(going) - room)
            outcomes |= follow(going, watcher, asked, left)
            going = [planned for planned in going if outcomes[planned.id] == GOES_ON]
            if self.full and not asked():
                more = self.send()
                if not more and not going and not (self.full and self.halve()):
                    break
                going = going + more
        return outcomes

    def _submit(self, array: Array, code: Path) -> None:
        for planned in submit(array, self.resources, code, self.specify, self.settings(self.resources.at(array.stage))):
            self.console.print(f"{planned.label} was submitted by somebody else a moment ago")
        if array.job:
            waits = f", after {', '.join(array.waits)}" if array.waits else ""
            limit = f", {array.throttle * array.per_element} at a time" if array.throttle else ""
            shared = f", {array.per_element} a card" if array.per_element > 1 else ""
            told = f"job {array.job} ({array.token}): {len(array.runs)} {array.stage} runs"
            self.console.print(f"{told}{shared}{limit}{waits}")


def _as_it_stands(planned: PlannedRun) -> PlannedRun:
    """The run, without its earlier submission where that made room for the one that was refused."""
    if submitted(planned.id) is not None:  # ours of before, or somebody's since then
        return planned
    return dataclasses.replace(planned, stands=msgspec.structs.replace(planned.stands, token=""))
