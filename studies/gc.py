"""Delete what finished runs no longer need under runs/: `python -m studies.gc [STUDY[/ROW][@seed] ...] [--delete]`.

Without --delete it only lists what it would delete. It never touches a run that has no record. What it keeps of a
finished run, its specification, its job, its attempts and its log, it packs into one file, `finished`.
Exit codes: 0 fine, 1 something could not be deleted or is damaged (it is named, the rest is deleted), 2 usage.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from segnext.config import Run
from segnext.door import Column, Parser, command, console, say, show_table
from studies.declare.protocols import protocol
from studies.plan.options import shown
from studies.plan.runs import PlannedRun
from studies.plan.started import add_selectors, started_runs
from studies.plan.state import printed, submitted
from studies.records.packed import loose, whole
from studies.records.snapshot import snapshots_folder
from studies.records.store import Store, runs_folder
from studies.records.typed import Damaged, tell
from studies.records.working_state import Submission
from studies.records.workspace import Claimed, Workspace
from studies.tables import studies

COLUMNS = (Column("MB", right=True), Column("what", folds=True), Column("where"))
YOUNG = 86400.0  # seconds: a folder without references may be one that a new submission is about to use


@command("python -m studies.gc")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser.of("python -m studies.gc", __doc__)
    add_selectors(parse)
    parse.add_argument("--weights", action="store_true", help="also the weights of runs that nothing starts from")
    parse.add_argument("--delete", action="store_true", help="do it")
    options = parse.parse_args(arguments)
    out = console()
    everything = not any((options.selectors, options.protocol, options.rows, options.seeds))
    runs = started_runs(options, store := Store())
    needed = _beginnings({planned.run.protocol for planned in runs}) if options.weights else set()
    without = {planned.id for planned in runs if options.weights and planned.id not in needed}
    found = [(what, path) for planned in runs for what, path in _of_run(planned, planned.id in without, store)]
    if everything:
        found += _unreferenced(store)
    rows, total, files, kept = list[list[str]](), 0, 0, list[OSError]()
    for what, path in found:
        size, count = _size(path)
        if options.delete:
            kept += _remove(path)
            size, count = size - _size(path)[0], count - _size(path)[1]
        total, files = total + size, files + count
        rows.append([f"{size / 1e6:,.1f}", what, shown(path)])
    packed, fewer = _packed(runs, store, kept, do=options.delete)
    if rows:
        show_table(COLUMNS, rows)
    done = "deleted" if options.delete else "would be deleted; --delete does it"
    out.print(f"{total / 1e6:,.1f} MB in {files:,} files {done}")
    if packed:
        did = "are packed" if options.delete else "would be packed"
        out.print(f"{packed:,} finished runs {did}, in {fewer:,} files less")
    for error in kept:
        say(f"{parse.prog}: {error.filename} could not be deleted: {error.strerror}", error=True)
    return max(tell(store.damage), int(bool(kept)))


def _beginnings(names: Iterable[str]) -> set[str]:
    """The ids of all upstream runs of these protocols' rows."""
    found = set()
    for chosen, study in itertools.product(map(protocol, names), studies().values()):
        for panel in chosen.panels(study):
            for row in filter(panel.trains, study.trained):
                init = chosen.run(panel, row, seed=0).init
                while isinstance(init, Run):
                    found.add(init.id)
                    init = init.init
    return found


def _of_run(planned: PlannedRun, weights: bool, store: Store) -> Iterator[tuple[str, Path]]:
    """Yield what a recorded run no longer needs: checkpoints, what is known elsewhere and, with `weights`, its weights.

    Its specification, its attempts and its log are packed: `status`, `show` and `logs` tell of it as before.
    """
    workspace = Workspace(planned.id)
    if planned.state != "done" or workspace.owner() is not None:
        return
    if workspace.states.exists() and workspace.weights.exists():
        yield f"checkpoints of {planned.label}", workspace.states
    left = [workspace.folder / "progress.json"]
    if (store.folder / "curves" / f"{planned.id}.csv").exists():
        left.append(workspace.curve)
    if (submission := submitted(planned.id)) is not None:
        left += printed(submission)
    for path in filter(Path.exists, left):
        yield f"left by {planned.label}", path
    if weights and workspace.weights.exists() and not planned.upstream and planned.run.task != "classification":
        yield f"weights of {planned.label}", workspace.weights


def _packed(runs: Iterable[PlannedRun], store: Store, kept: list[OSError], *, do: bool) -> tuple[int, int]:
    """Pack what stays of recorded runs; how many there are, and how many files less that makes."""
    count = fewer = 0
    for planned in runs:
        workspace = Workspace(planned.id)
        if planned.state != "done" or workspace.owner() is not None or whole(workspace.folder):
            continue
        names = loose(workspace.folder)
        if do:
            try:
                workspace.pack()
            except Claimed:  # somebody starts it again
                continue
            except Damaged as damaged:
                store.damage.append(damaged)
                continue
            except OSError as error:
                kept.append(error)
                continue
            names = sorted({*names} - {*loose(workspace.folder)})
        attempts = any(name.startswith("attempts/") for name in names)  # with their folder
        count, fewer = count + bool(names), fewer + len(names) + attempts - bool(names)
    return count, fewer


def _unreferenced(store: Store) -> Iterator[tuple[str, Path]]:
    """Yield snapshots and submissions to which no run refers; nothing if a submission cannot be read."""
    submissions: list[Submission | None] = []
    for path in runs_folder().glob("*/submission.json"):
        try:
            submissions.append(Workspace(path.parent.name).submission.read())
        except Damaged as damaged:
            store.damage.append(damaged)
    if store.damage:
        return
    owners = [Workspace(path.parent.name).owner() for path in runs_folder().glob("*/claim.json")]
    snapshots = {submission.snapshot for submission in submissions if submission}
    snapshots |= {owner.code for owner in owners if owner}
    tokens = {submission.token for submission in submissions if submission}
    for what, folder, used in (
        ("code of no submission", snapshots_folder(), snapshots),
        ("a submission that is over", runs_folder() / "slurm", tokens),
    ):
        for path in sorted(folder.glob("*")) if folder.exists() else []:
            if path.name not in used and time.time() - path.stat().st_mtime > YOUNG:
                yield what, path


def _files(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield everything in a folder, deepest first, then itself, each with whether it is a folder; follow no links."""
    if path.is_symlink() or not path.is_dir():
        yield str(path), False
        return
    for folder, folders, files in os.walk(path, topdown=False):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from ((os.path.join(folder, name), False) for name in (*files, *links))
        yield folder, True


def _size(path: Path) -> tuple[int, int]:
    """The bytes and the number of files of a file or a folder; files deleted meanwhile do not count."""
    total = files = 0
    for name, is_folder in _files(path):
        with contextlib.suppress(OSError):
            size = os.lstat(name).st_size
            total, files = total + (0 if is_folder else size), files + 1
    return total, files


def _remove(path: Path) -> list[OSError]:
    """Delete what can be deleted; returns the errors, except of folders that an earlier error left not empty."""
    kept: list[OSError] = []
    for name, is_folder in _files(path):
        try:
            (os.rmdir if is_folder else os.unlink)(name)
        except FileNotFoundError:  # another gc was quicker
            pass
        except OSError as error:
            if not (is_folder and any(str(other.filename).startswith(f"{name}{os.sep}") for other in kept)):
                kept.append(error)
    return kept


if __name__ == "__main__":
    sys.exit(main())
