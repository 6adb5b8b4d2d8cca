"""Show the state of every started run: `python -m studies.status [STUDY[/ROW][@seed] ...] [--watch]`.

Exit codes: 0 fine, 1 some runs failed or a file is damaged, 2 usage, 4 scheduler unreachable.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct
from rich.console import Console, Group
from rich.live import Live

from segnext.door import Column, Parser, command, console, laid_out, print_json, say, show_table, uncollected
from studies.declare.protocols import PROTOCOLS
from studies.plan.options import positive, shown
from studies.plan.runs import PlannedRun, settled
from studies.plan.started import add_selectors, options_of, started_runs, words
from studies.records.causes import CAUSES
from studies.records.store import Store
from studies.records.typed import Damaged, content_of, tell
from studies.records.workspace import Workspace
from studies.slurm.scheduler import Queue
from studies.tables import studies

STYLES = {"done": "green", "running": "cyan", "failed": "bold red", "stopped": "yellow", "unknown": "magenta"}
COLUMNS = (
    Column("row"),
    Column("seed", right=True),
    Column("state"),
    Column("step"),
    Column("img/s", right=True, spare=3),
    Column("left", right=True),
    Column("mIoU", right=True),
    Column("precision", spare=4),
    Column("job", spare=1),
    Column("node", spare=2),
    Column("why", folds=True),
)
ORDER = ("failed", "stopped", "unknown", "new", "trained", "running", "queued", "done")  # of the table's lines
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
    out = console()
    runs, queue, store = _look(options)
    if options.json:
        print_json([msgspec.structs.asdict(_facts(planned, store)) for planned in runs])
    elif not runs:
        if not store.damage:
            _tell_records(store)
            out.print("nothing of it was started here; python -m studies.run STUDY --dry-run says what would")
    elif options.watch and out.is_terminal:
        try:
            with Live(_live(runs, store, out), console=out, auto_refresh=False, vertical_overflow="visible") as live:
                while True:
                    time.sleep(options.watch)
                    runs, queue, store = _look(options)
                    live.update(_live(runs, store, out), refresh=True)
        except KeyboardInterrupt:
            pass
    else:
        rows, style = _table(runs, store)
        show_table(COLUMNS, rows, style=style)
        if any(planned.state != "done" for planned in runs):
            out.print("* a test on the way: not comparable with finished runs")
        counts = Counter(planned.state for planned in runs)
        for line in remedies(runs):
            out.print(line)
        out.print(", ".join(f"{number} {state}" for state, number in counts.most_common()))
    damaged = tell(store.damage)
    if queue.silence:
        say(f"{parse.prog}: the scheduler does not answer: {queue.silence}", error=True)
        return 4
    return max(damaged, int(any(planned.state == "failed" for planned in runs)))


@uncollected()
def _look(options: argparse.Namespace) -> tuple[list[PlannedRun], Queue, Store]:
    store = Store()
    return *settled(started_runs(options, store)), store


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


def _tell_records(store: Store) -> None:
    """What is recorded: the runs of each table, then all kinds of records."""
    done: dict[tuple[str, str], list[bool]] = {}
    for slug, view in ((slug, view) for slug, study in studies().items() for view in store.views(study)):
        if any(line.state == "done" for line in view.lines):
            done.setdefault((slug, view.protocol.name), []).extend(line.state == "done" for line in view.lines)
    names = [name for name in PROTOCOLS if any(name == other for _, other in done)]
    told = {pair: f"{sum(found)} of {len(found)}" for pair, found in done.items()}
    rows = [[slug, *(told.get((slug, name), "") for name in names)] for slug in dict.fromkeys(slug for slug, _ in done)]
    if rows:
        show_table([Column("runs done"), *(Column(name, right=True) for name in names)], rows)
    if words := Counter(record.kind for record in store.records.values()):
        say(f"{', '.join(f'{n} {kind}' for kind, n in words.items())} records are done: {shown(store.folder)}")


@uncollected()
def _table(runs: Sequence[PlannedRun], store: Store) -> tuple[list[list[str]], Callable[[int, int], str]]:
    """The lines of the table and their colours: what needs somebody first, what is done last."""
    places = {state: place for place, state in enumerate(ORDER)}
    ordered = sorted(runs, key=lambda planned: places[planned.state])
    rows = [_row(planned, _facts(planned, store)) for planned in ordered]
    place = next(place for place, column in enumerate(COLUMNS) if column.heading == "state")
    return rows, lambda line, column: STYLES.get(ordered[line].state, "") if column == place else ""


def _live(runs: Sequence[PlannedRun], store: Store, out: Console) -> Group:
    rows, style = _table(runs, store)
    return Group(*laid_out(COLUMNS, rows, out.width, style=style))


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


class Facts(Struct, frozen=True):
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
    made = store.entry(planned.id) if planned.state == "done" else None
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
    stands, where = planned.stands, last or planned.stands
    return Facts(
        run=planned.id,
        study=planned.study.slug,
        row=planned.row.slug,
        seed=planned.run.seed,
        protocol=planned.run.protocol,
        state=stands.state,
        detail=stands.detail,
        cause=stands.cause,
        job=where.job,
        node=where.node,
        token=stands.token,
        step=step,
        rate=rate,
        eta=eta,
        miou=made.main if made else _last_test(workspace, store),
        precision=made.precision if made else None,
        remedy=remedy(planned),
    )


def _last_test(workspace: Workspace, store: Store) -> float | None:
    if not workspace.has("curve.jsonl"):
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
