"""Record shortcut probes: `python -m studies.shortcuts [--datasets strips,key] [--images N]`.

For every sub-task of the generated data that a study trains on: the accuracy of a linear classifier of k x k patches if
the deciding cue is within the patch, and if it is beyond it; and the accuracy of counting the marks in sight for strips
whose own mark is beyond (`segnext.data.tools.probe`).
Exit codes: 0 fine, 2 usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from segnext.config import digest
from segnext.door import Parser, command, console
from studies.declare.study import unknown
from studies.declare.subtasks import Subtask
from studies.plan.options import positive, words_of
from studies.records.schema import Plain, ShortcutRecord, typed
from studies.records.store import Store
from studies.tables import studies

IMAGES = 400  # of the training split: 3/5 to fit, the rest to test

FEWEST = 10


@dataclass(frozen=True)
class Shortcut:
    """One probe: the task and its generator's version, sides of patches and reaches of counts in pixels, and images."""

    task: str
    generator: str
    sides: tuple[int, ...]
    reaches: tuple[int, ...]
    images: int = IMAGES

    @property
    def config(self) -> dict[str, Any]:
        """The configuration in the record, of which the id is a digest."""
        return {**asdict(self), "sides": list(self.sides), "reaches": list(self.reaches)}

    @property
    def id(self) -> str:
        """`shortcut-` and twelve hexadecimal digits."""
        return "shortcut-" + digest(self.config)


def probed() -> list[Shortcut]:
    """The probes of all sub-tasks that a study trains on, except those whose pixels show the class by design."""
    from segnext.data.generated.diagnostic import tasks
    from segnext.data.tools.probe import REACHES, SIDES

    named = {panel.task_name for study in studies().values() for panel in study.subtasks if isinstance(panel, Subtask)}
    wanted = [task for task in tasks() if task in named and not task.endswith("-local") and task != "fine"]
    return [Shortcut(task, tasks()[task], SIDES, REACHES) for task in wanted]


def records(store: Store) -> list[ShortcutRecord]:
    """The records of today's probes, in their order."""
    found = (store.records.get(shortcut.id) for shortcut in probed())
    return [record for record in found if isinstance(record, ShortcutRecord)]


@command("python -m studies.shortcuts")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser.of("python -m studies.shortcuts", __doc__)
    parse.add_argument("--datasets", type=words_of, metavar="A,B", help="only these sub-tasks (default: all)")
    parse.add_argument(
        "--images", type=positive, default=IMAGES, metavar="N", help=f"images to fit and test; reports show {IMAGES}"
    )
    options = parse.parse_args(arguments)
    from studies.facts import files  # scipy: not for --help

    if options.images < FEWEST:
        raise ValueError(f"--images: {options.images} are too few to fit and to test on")
    tasks = {shortcut.task: replace(shortcut, images=options.images) for shortcut in probed()}
    for name in options.datasets or ():
        if name not in tasks:
            raise ValueError(unknown("sub-task", name, tasks))
    out, store = console(), Store()
    for number, name in enumerate(options.datasets or tasks, start=1):
        shortcut = tasks[name]
        if store.path(shortcut.id).exists():
            out.print(f"{name}: done already")
            continue
        store.add(plain := _measured(shortcut))
        record = typed(plain)
        assert isinstance(record, ShortcutRecord)
        told = "; ".join(
            f"{k}: {_percent(a)} {_percent(b)}"
            for k, a, b in zip(shortcut.sides, record.within, record.beyond, strict=True)
        )
        out.print(f"{number} {name}, chance {record.chance:.0f}, by side (within, beyond): {told}")
        if counted := [f"{k}: {value:.1f}" for k, value in zip(shortcut.reaches, record.counted, strict=True) if value]:
            out.print(f"  by counting the marks in sight, by reach: {'; '.join(counted)}")
    files.write(store)
    return 0


def _measured(shortcut: Shortcut) -> Plain:
    from segnext.data.generated.diagnostic import GeneratedSource
    from segnext.data.tools.probe import counted, distances, probe
    from studies.records.provenance import provenance

    origin, source = provenance("shortcut"), GeneratedSource(shortcut.task, "train", shortcut.generator)
    found = [[probe(shortcut.task, side, at, shortcut.images) for at in distances(side)] for side in shortcut.sides]
    images = "" if shortcut.images == IMAGES else f" --images {shortcut.images}"
    command = f"python -m studies.shortcuts --datasets {shortcut.task}{images}"
    return {
        "id": shortcut.id,
        "kind": "shortcut",
        "config": shortcut.config,
        "chance": 100 / len(source.classes),
        "within": [within for within, _ in found],
        "beyond": [beyond for _, beyond in found],
        "counted": [counted(shortcut.task, reach, shortcut.images) for reach in shortcut.reaches],
        "provenance": {**origin, "command": command, "data": {"train_fingerprint": source.fingerprint()}},
    }


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
