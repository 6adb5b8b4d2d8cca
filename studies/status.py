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
    runs, queue, store = _look(options)
    if options.json:
        print_json([vars(_facts(planned, store)) for planned in runs])
    elif not runs:
        if not store.damage:
            if store.records:
                words = Counter(record.kind for record in store.records.values())
                out.print(
                    f"{', '.join(f'{n} {kind}' for kind, n in words.items())} records are done: {shown(store.folder)}"
                )
            out.print("nothing of it was started here; python -m studies.run STUDY --dry-run shows what would be")
    elif options.watch and out.is_terminal:
        try:
            with Live(_table(runs, store), console=out, auto_refresh=False, vertical_overflow="visible") as live:
                while True:
                    time.sleep(options.watch)
                    runs, queue, store = _look(options)
                    live.update(_table(runs, store), refresh=True)
        except KeyboardInterrupt:
            pass
    else:
        if len(runs) > MANY:
            print_many(HEADINGS, [_row(planned, _facts(planned, store)) for planned in runs])
        else:
            out.print(_table(runs, store))
        counts = Counter(planned.state for planned in runs)
        out.print(", ".join(f"{number} {state}" for state, number in counts.most_common()))
        for line in remedies(runs):
            out.print(line, soft_wrap=True)
    damaged = tell(store.damage)
    if queue.silence:
        say(f"{parse.prog}: the scheduler does not answer: {queue.silence}", error=True)
        return 4
    return max(damaged, int(any(planned.state == "failed" for planned in runs)))


def _look(options: argparse.Namespace) -> tuple[list[PlannedRun], Queue, Store]:
    store = Store()
    return *settled(started_runs(options, store), store), store


def remedies(runs: Sequence[PlannedRun]) -> Iterator[str]:
    """Yield the remedies of stopped and failed runs: a line each, or one line for many with the same command."""
    alike: dict[tuple[str, str, tuple[str, ...]], list[PlannedRun]] = {}
    for planned in runs:
        if planned.state in ("stopped", "failed"):
            alike.setdefault((planned.study.slug, planned.stands.cause, options_of(planned)), []).append(planned)
    for (study, cause, options), members in alike.items():
        if len(members) <= MOST_ALIKE or "{run}" not in CAUSES[cause].remedy:
            yield from (f"{planned.label}: {remedy(planned)}" for planned in members)
            continue
        rows = ",".join(dict.fromkeys(planned.row.slug for planned in members))
        seeds = ",".join(str(seed) for seed in sorted({planned.run.seed for planned in members}))
        run = f"python -m studies.run {shlex.join([study, '--rows', rows, '--seeds', seeds, *options])}"
        words = CAUSES[cause].remedy.format(run=run, selector=f"{study}/ROW@SEED", dataset=members[0].run.data.dataset)
        yield f"{len(members)} runs of {study}, {cause}: {words}"


def remedy(planned: PlannedRun) -> str:
    """The remedy of a stopped or failed run; "" if nothing is wrong."""
    if planned.state not in ("stopped", "failed"):
        return ""
    run = f"python -m studies.run {words(planned)}"
    selector = f"{planned.study.slug}/{planned.row.slug}@{planned.run.seed}"
    return CAUSES[planned.stands.cause].remedy.format(run=run, selector=selector, dataset=planned.run.data.dataset)


def _table(runs: Sequence[PlannedRun], store: Store) -> Table:
    table = Table(box=None, padding=(0, 2))
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=heading != "why", justify="right" if heading in ("img/s", "left") else "left")
    place = HEADINGS.index("state")
    for planned in runs:
        row = _row(planned, _facts(planned, store))
        table.add_row(*row[:place], Text(planned.state, STYLES.get(planned.state, "")), *row[place + 1 :])
    if any(planned.state != "done" for planned in runs):
        table.caption = "* a test on the way: not comparable with finished runs"
    return table


def _row(planned: PlannedRun, facts: Facts) -> list[str]:
    """A line of the table."""
    return [
        planned.label.partition("@")[0] + (" before it" if planned.upstream else ""),
        f"{planned.run.seed}",
        planned.state,
        facts.step,
        "" if facts.rate is None else f"{facts.rate:.1f}",
        _duration(facts.eta),
        "" if facts.miou is None else f"{facts.miou:.2f}{'' if planned.state == 'done' else '*'}",
        facts.precision or "",
        facts.job,
        facts.node,
        ": ".join(filter(None, (planned.stands.cause, planned.stands.detail))),
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


def _facts(planned: PlannedRun, store: Store) -> Facts:
    workspace = planned.folder
    record = store.scored(planned.id) if planned.state == "done" else None
    progress = workspace.progress() if planned.state == "running" else None
    rate = progress.rate if progress else None
    eta = None
    if progress and rate and progress.phase == "train":
        eta = (progress.total - progress.done) * planned.run.train.batch / rate
    if progress:
        step = f"{progress.phase} {progress.done}/{progress.total}"
    else:
        saved = 0 if planned.state == "done" else workspace.last_state()
        step = f"{saved}/{planned.total}" if saved else ""
    # The state of a finished run comes from its record, which does not name the node; the attempt does.
    last = workspace.last_attempt() if planned.state == "done" else None
    stands = dataclasses.replace(planned.stands, job=last.job, node=last.node) if last else planned.stands
    return Facts(
        run=planned.id,
        study=planned.study.slug,
        row=planned.row.slug,
        seed=planned.run.seed,
        protocol=planned.run.protocol,
        **vars(stands),
        step=step,
        rate=rate,
        eta=eta,
        miou=_score(planned, workspace, store),
        precision=record.provenance.precision if record else None,
        remedy=remedy(planned),
    )


def _score(planned: PlannedRun, workspace: Workspace, store: Store) -> float | None:
    if planned.state == "done":
        record = store.scored(planned.id)
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
