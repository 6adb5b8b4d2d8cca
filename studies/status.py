"""Show the state of every started run: `python -m studies.status [STUDY[/ROW][@seed] ...] [--watch]`.

Exit codes: 0 fine, 1 some runs failed or a file is damaged, 2 usage, 4 scheduler unreachable.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segnext.door import MANY, Parser, command, console, print_json, print_many, say
from studies.plan.options import positive, shown
from studies.plan.runs import PlannedRun, settled
from studies.plan.started import add_selectors, options_of, started_runs, words
from studies.records.causes import CAUSES
from studies.records.store import Store
from studies.records.typed import Damaged, content_of, tell
from studies.records.workspace import Workspace
from studies.slurm.scheduler import Queue

STYLES = {"done": "green", "running": "cyan", "failed": "bold red", "stopped": "yellow", "unknown": "magenta"}
HEADINGS = ("row", "seed", "state", "step", "img/s", "left", "mIoU", "precision", "job", "node", "why")
WATCH_SECONDS = 30
MOST_ALIKE = 5  # runs with the same remedy that get a line each; more share one


@command("python -m studies.status")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser.of("python -m studies.status", __doc__)
    add_selectors(parse)
    parse.add_argument("--watch", nargs="?", type=positive, const=WATCH_SECONDS, metavar="SECONDS", help="look again")
    parse.add_argument("--json", action="store_true", help="as JSON")
    options = parse.parse_args(arguments)
    out = console(width=200, soft_wrap=False)
    cells, queue, store = _look(options)
    if options.json:
        print_json([vars(_facts(cell, store)) for cell in cells])
    elif not cells:
        if not store.damage:
            if store.records:
                words = Counter(record.kind for record in store.records.values())
                out.print(
                    f"{', '.join(f'{n} {kind}' for kind, n in words.items())} records are done: {shown(store.folder)}"
                )
            out.print("nothing of it was started here; python -m studies.run STUDY --dry-run shows what would be")
    elif options.watch and out.is_terminal:
        try:
            with Live(_table(cells, store), console=out, auto_refresh=False, vertical_overflow="visible") as live:
                while True:
                    time.sleep(options.watch)
                    cells, queue, store = _look(options)
                    live.update(_table(cells, store), refresh=True)
        except KeyboardInterrupt:
            pass
    else:
        if len(cells) > MANY:
            print_many(HEADINGS, [_row(cell, _facts(cell, store)) for cell in cells])
        else:
            out.print(_table(cells, store))
        counts = Counter(cell.state for cell in cells)
        out.print(", ".join(f"{number} {state}" for state, number in counts.most_common()))
        for line in remedies(cells):
            out.print(line, soft_wrap=True)
    damaged = tell(store.damage)
    if queue.silence:
        say(f"{parse.prog}: the scheduler does not answer: {queue.silence}", error=True)
        return 4
    return max(damaged, int(any(cell.state == "failed" for cell in cells)))


def _look(options: argparse.Namespace) -> tuple[list[PlannedRun], Queue, Store]:
    store = Store()
    return *settled(started_runs(options, store), store), store


def remedies(cells: Sequence[PlannedRun]) -> Iterator[str]:
    """Yield the remedies of stopped and failed runs: a line each, or one line for many with the same command."""
    alike: dict[tuple[str, str, tuple[str, ...]], list[PlannedRun]] = {}
    for cell in cells:
        if cell.state in ("stopped", "failed"):
            alike.setdefault((cell.study.slug, cell.stands.cause, options_of(cell)), []).append(cell)
    for (study, cause, options), members in alike.items():
        if len(members) <= MOST_ALIKE or "{run}" not in CAUSES[cause].remedy:
            yield from (f"{cell.label}: {remedy(cell)}" for cell in members)
            continue
        rows = ",".join(dict.fromkeys(cell.row.slug for cell in members))
        seeds = ",".join(str(seed) for seed in sorted({cell.run.seed for cell in members}))
        run = f"python -m studies.run {shlex.join([study, '--rows', rows, '--seeds', seeds, *options])}"
        words = CAUSES[cause].remedy.format(run=run, selector=f"{study}/ROW@SEED", dataset=members[0].run.data.dataset)
        yield f"{len(members)} runs of {study}, {cause}: {words}"


def remedy(cell: PlannedRun) -> str:
    """The remedy of a stopped or failed run; "" if nothing is wrong."""
    if cell.state not in ("stopped", "failed"):
        return ""
    run = f"python -m studies.run {words(cell)}"
    selector = f"{cell.study.slug}/{cell.row.slug}@{cell.run.seed}"
    return CAUSES[cell.stands.cause].remedy.format(run=run, selector=selector, dataset=cell.run.data.dataset)


def _table(cells: Sequence[PlannedRun], store: Store) -> Table:
    table = Table(box=None, padding=(0, 2))
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=heading != "why", justify="right" if heading in ("img/s", "left") else "left")
    place = HEADINGS.index("state")
    for cell in cells:
        row = _row(cell, _facts(cell, store))
        table.add_row(*row[:place], Text(cell.state, STYLES.get(cell.state, "")), *row[place + 1 :])
    if any(cell.state != "done" for cell in cells):
        table.caption = "* a test on the way: not comparable with finished runs"
    return table


def _row(cell: PlannedRun, facts: Facts) -> list[str]:
    """A line of the table."""
    return [
        cell.label.partition("@")[0] + (" before it" if cell.upstream else ""),
        f"{cell.run.seed}",
        cell.state,
        facts.step,
        "" if facts.rate is None else f"{facts.rate:.1f}",
        _duration(facts.eta),
        "" if facts.miou is None else f"{facts.miou:.2f}{'' if cell.state == 'done' else '*'}",
        facts.precision or "",
        facts.job,
        facts.node,
        ": ".join(filter(None, (cell.stands.cause, cell.stands.detail))),
    ]


@dataclass(frozen=True)
class Facts:
    """The facts about a run, for a line of the table or of --json. `miou` of an unfinished run is its last test's."""

    run: str
    study: str
    row: str
    seed: int
    protocol: str
    state: str
    detail: str
    cause: str
    job: str
    node: str
    token: str
    step: str
    rate: float | None
    eta: float | None  # seconds
    miou: float | None
    precision: str | None
    remedy: str


def _facts(cell: PlannedRun, store: Store) -> Facts:
    workspace = cell.folder
    record = store.scored(cell.id) if cell.state == "done" else None
    progress = workspace.progress() if cell.state == "running" else None
    rate = progress.rate if progress else None
    eta = None
    if progress and rate and progress.phase == "train":
        eta = (progress.total - progress.done) * cell.run.train.batch / rate
    if progress:
        step = f"{progress.phase} {progress.done}/{progress.total}"
    else:
        saved = 0 if cell.state == "done" else workspace.last_state()
        step = f"{saved}/{cell.total}" if saved else ""
    # The state of a finished run comes from its record, which does not name the node; the attempt does.
    last = workspace.last_attempt() if cell.state == "done" else None
    stands = dataclasses.replace(cell.stands, job=last.job, node=last.node) if last else cell.stands
    return Facts(
        run=cell.id,
        study=cell.study.slug,
        row=cell.row.slug,
        seed=cell.run.seed,
        protocol=cell.run.protocol,
        **vars(stands),
        step=step,
        rate=rate,
        eta=eta,
        miou=_score(cell, workspace, store),
        precision=record.provenance.precision if record else None,
        remedy=remedy(cell),
    )


def _score(cell: PlannedRun, workspace: Workspace, store: Store) -> float | None:
    if cell.state == "done":
        record = store.scored(cell.id)
        return None if record is None else record.metrics.main
    if not workspace.curve.exists():
        return None
    try:
        content = content_of(workspace.curve, "delete it")
    except Damaged as damaged:
        store.damage.append(damaged)
        return None
    for line in reversed((content or b"").decode(errors="replace").splitlines()):
        if '"miou_ss"' in line or '"top1"' in line:
            with suppress(msgspec.DecodeError):  # being written, or torn
                test = msgspec.json.decode(line, type=dict[str, float | None])
                return test.get("miou_ss", test.get("top1"))
    return None


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes = int(seconds // 60)
    return f"{minutes // 60}h{minutes % 60:02d}" if minutes >= 60 else f"{minutes}m{int(seconds % 60):02d}"


if __name__ == "__main__":
    sys.exit(main())
