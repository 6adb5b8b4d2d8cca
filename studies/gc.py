"""Delete what finished runs no longer need under runs/: `python -m studies.gc [STUDY[/ROW][@seed] ...] [--delete]`.

Without --delete it says what would go. Never anything of a run that is not recorded. Exit codes: 0 fine, 2 usage.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from segnext.config import Run
from studies.known import add_selectors, known
from studies.options import shown
from studies.plan import Cell
from studies.protocols import protocol
from studies.snapshot import snapshots_folder
from studies.standing import submitted
from studies.store import Store, runs_folder
from studies.study import studies
from studies.typed import tell
from studies.workspace import Workspace

YOUNG = 86400.0  # seconds: a folder that nobody refers to may be one that somebody is about to


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parse = argparse.ArgumentParser(
        prog="python -m studies.gc", description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n")[1]
    )
    add_selectors(parse)
    parse.add_argument("--weights", action="store_true", help="also the weights of runs that nothing starts from")
    parse.add_argument("--delete", action="store_true", help="do it")
    options = parse.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        everything = not any((options.selectors, options.protocol, options.rows, options.seeds))
        cells = known(options, store := Store())
    except (OSError, ValueError) as error:
        parse.exit(2, f"{parse.prog}: {error}\n")
    needed = _beginnings({cell.run.protocol for cell in cells}) if options.weights else set()
    found = [(what, path) for cell in cells for what, path in _of_run(cell, options.weights and cell.id not in needed)]
    if everything:
        found += _unreferenced()
    table = Table(box=None, padding=(0, 2))
    for heading in ("what", "where", "MB"):
        table.add_column(heading, justify="right" if heading == "MB" else "left")
    total = 0
    for what, path in found:
        size = _size(path)
        total += size
        table.add_row(what, shown(path), f"{size / 1e6:,.1f}")
        if options.delete:
            _remove(path)
    if found:
        console.print(table)
    console.print(f"{total / 1e6:,.1f} MB {'deleted' if options.delete else 'would be deleted; --delete does it'}")
    return tell(store.damage)


def _beginnings(names: Iterable[str]) -> set[str]:
    """The ids of what rows of these protocols start from."""
    found = set()
    for chosen, study in itertools.product(map(protocol, names), studies().values()):
        for panel in chosen.panels(study):
            for row in filter(panel.trains, study.trained):
                init = chosen.run(panel, row, seed=0).init
                while isinstance(init, Run):
                    found.add(init.id)
                    init = init.init
    return found


def _of_run(cell: Cell, weights: bool) -> Iterator[tuple[str, Path]]:
    """What a recorded run no longer needs: its checkpoints, and its weights if told so."""
    workspace = Workspace(cell.id)
    if cell.state != "done" or workspace.owner() is not None:
        return
    if workspace.states.exists() and workspace.weights.exists():
        yield f"checkpoints of {cell.label}", workspace.states
    if weights and workspace.weights.exists() and not cell.upstream and cell.run.task != "classification":
        yield f"weights of {cell.label}", workspace.weights


def _unreferenced() -> Iterator[tuple[str, Path]]:
    """Snapshots and submissions of no run that may still start or be looked at."""
    submissions = [submitted(path.parent.name) for path in runs_folder().glob("*/submission.json")]
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


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.lstat().st_size for file in files)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
