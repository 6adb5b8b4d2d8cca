"""What would start, what is left as it is and why, and what it all would take: said before anything starts."""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Console

from segnext.config import Cost, Speed
from segnext.door import Column, show_table
from studies.declare.protocols import Protocol
from studies.declare.study import COSTS, MEASURED_AS
from studies.launch.submit import arrays, sbatch_options
from studies.plan.options import shown
from studies.plan.preflight import PreflightError, check_inputs
from studies.plan.runs import PlannedRun, Selection, otherwise, upstream
from studies.records.schema import CostRecord
from studies.records.store import Store, View, runs_folder
from studies.slurm import scheduler
from studies.slurm.profile import Profile

COLUMNS = (
    Column("row"),
    Column("as printed", folds=True, spare=1),
    Column("dataset"),
    Column("seed", right=True),
    Column("run"),
    Column("state", folds=True, keeps=38),  # new: after 0123456789ab (imagenet1k)
)


def show_plan(
    console: Console,
    selections: list[Selection],
    chosen: Protocol,
    runs: list[PlannedRun],
) -> None:
    """Every wanted run with its state."""
    for selection in selections:
        own = [planned for planned in runs if planned.study is selection.study]
        if own:
            title = f"{selection.study.slug} under {chosen.name}: {chosen.purpose}"
            show_table(COLUMNS, list(map(_row, own)), title)
        direct = sum(not planned.upstream and not planned.evaluation for planned in own)
        wanted = sum(len(list(filter(panel.trains, selection.rows))) for panel in selection.panels(chosen)) * len(
            selection.seeds
        )
        if (shared := wanted - direct) and direct:
            console.print(f"{selection.study.slug}: {shared} of its runs are listed already: equal runs are one run\n")
    tell_left_out(console, selections, chosen)
    tell_otherwise(console, runs)


def show_summary(
    console: Console,
    runs: list[PlannedRun],
    todo: list[PlannedRun],
    unmeasured: list[tuple[str, Cost]],
    untimed: list[tuple[str, Speed]],
) -> None:
    """How many runs there are, and how many would start."""
    counts = Counter(planned.state for planned in runs)
    starting = [planned for planned in todo if planned.state != "running"]
    states = ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "none wanted"
    timed = f"; {len(untimed)} speeds to measure" if untimed else ""
    console.print(f"{len(runs)} runs: {states}; {len(starting)} would start; {len(unmeasured)} costs to measure{timed}")


def show_needs(
    console: Console,
    runs: Sequence[PlannedRun],
    todo: Sequence[PlannedRun],
    resources: Profile,
    options: argparse.Namespace,
    store: Store,
) -> None:
    """The hours, the disk, and what is missing of the data and of the weights to start from."""
    from studies.plan.estimate import estimate, size

    starting = [planned for planned in todo if planned.state != "running"]
    if not starting:
        return
    needs = estimate(starting, resources, store)
    console.print(f"hours: {needs.time}")
    folder = next(path for path in (runs_folder(), *runs_folder().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    short = ": not enough" if needs.disk is not None and needs.disk > free else ""
    console.print(f"disk: {needs.space}; {shown(runs_folder())} has {size(free)} free{short}")
    coming = {planned.id for planned in (*starting, *(one for one in runs if one.state in ("running", "queued")))}
    console.print(f"data: {_data(starting, coming, resources, options)}")


def _data(starting: Sequence[PlannedRun], coming: set[str], resources: Profile, options: argparse.Namespace) -> str:
    if all(planned.run.data.dataset.startswith("diagnostic/") and planned.run.init is None for planned in starting):
        return "generated"
    from studies.launch.stage import packed_under  # imports numpy

    try:
        packed = packed_under(options.data_root, resources)
        check_inputs(starting, coming, options.data_root, options.pretrained, packed)
    except (PreflightError, ValueError) as error:
        return f"missing, so nothing would start: {error}"
    return "what these runs read is there"


def show_arrays(console: Console, todo: list[PlannedRun], resources: Profile, options: argparse.Namespace) -> None:
    """What runs share, and the arrays that would be submitted."""
    starting = [planned for planned in todo if planned.state != "running"]
    dependants = Counter(before.id for planned in starting if (before := upstream(planned)) is not None)
    for planned in starting:
        if dependants[planned.id] > 1:
            console.print(f"{planned.id} ({planned.label}) is shared by {dependants[planned.id]} runs")
    if starting and options.cluster == "slurm":
        _show_arrays(console, starting, resources)


def _show_arrays(console: Console, starting: list[PlannedRun], resources: Profile) -> None:
    try:
        limit = resources.max_array_size or scheduler.max_array_size(resources.cluster)
    except (scheduler.Unreachable, scheduler.Refused) as error:
        console.print(f"the scheduler does not answer, so arrays may be split further: {error}")
        limit = len(starting)
    found = arrays(starting, resources, limit, resources.max_parallel)
    where = {planned.id: place for place, array in enumerate(found, start=1) for planned in array.runs}
    for place, array in enumerate(found, start=1):
        after = {where[name] for name in array.waits if name in where} | ({place - 1} if array.before else set())
        waits = f", after array {', '.join(map(str, sorted(after)))}" if after else ""
        throttle = f", {array.throttle * array.per_element} at a time" if array.throttle else ""
        shared = f" in {len(array.elements)} jobs" if array.per_element > 1 else ""
        memory = f", {array.memory} each" if array.memory != resources.at(array.stage).memory else ""
        console.print(f"array {place}: {len(array.runs)} {array.stage} runs{shared}{memory}{throttle}{waits}")
    for stage in dict.fromkeys(array.stage for array in found):
        console.print(f"sbatch {' '.join(sbatch_options(resources.at(stage)))}  ({stage})")


def _row(planned: PlannedRun) -> list[str]:
    state = f"{planned.state}: {planned.stands.detail}" if planned.stands.detail else planned.state
    name = "before it" if planned.upstream else planned.row.label
    return [planned.row.slug, name, planned.run.data.dataset, str(planned.run.seed), planned.id, state]


def show_results(selections: Sequence[Selection], runs: Iterable[PlannedRun], store: Store) -> None:
    """What these runs' rows came to: printed, ours as a mean over seeds, how many, and the verdict where it may be."""
    own = {planned.id for planned in runs}
    for selection in selections:
        for view in store.views(selection.study):
            if view.panel.accuracies and any(line.run_id in own for line in view.lines):
                _show_view(selection, view)


def show_costs(selections: Sequence[Selection], store: Store) -> None:
    """Parameters and multiply-adds of the selected rows, printed beside measured."""
    for selection in selections:
        for panel in selection.study.panels:
            if not (printed := [column for column in COSTS if column in panel.columns]):
                continue
            title = f"{selection.study.slug}, {panel.dataset} at {panel.input_size[0]}×{panel.input_size[1]}"
            columns, rows = [Column("row")], []
            for column in printed:
                columns += [Column(f"{UNITS[column]}, printed", right=True), Column("measured", right=True)]
            for row in selection.rows:
                told = []
                for column in printed:
                    value, record = row.prints(panel, column), store.row_cost(panel, row)
                    told += ["" if value is None else f"{value:g}", "" if record is None else _cost(record, column)]
                rows.append([row.slug, *told])
            show_table(columns, rows, title)


UNITS = {"params_m": "parameters, M", "gflops": "multiply-adds, G"}


def _cost(record: CostRecord, column: str) -> str:
    return f"{record.params / 1e6:.2f}" if column == "params_m" else f"{record.gmacs:.2f}"


def _show_view(selection: Selection, view: View) -> None:
    from studies.judge import verdicts  # scipy: not for a dry run

    metric = view.panel.accuracies[0]
    held = view.protocol.comparable and view.iterations == view.protocol.recipe(view.panel).train.iterations
    judged = held and metric in verdicts.EPSILON
    name = f"{selection.study.slug}, {metric} on {view.protocol.recipe(view.panel).data.dataset}"
    headings = ("row", *(["printed"] if held else []), "ours", "n", *(["verdict"] if judged else []))
    columns = [Column(heading, right=heading not in ("row", "verdict")) for heading in headings]
    measured, rows = 0, []
    for row in selection.rows:
        done = (line for line in view.lines if line.state == "done" and line.row == row.slug)
        values = [value for line in done if (value := line.measured(MEASURED_AS[metric])) is not None]
        measured += len(values)
        printed = row.prints(view.panel, metric)
        told = ["" if printed is None else f"{printed:g}"] if held else []  # other data's numbers stand alone
        told += [f"{statistics.fmean(values):.2f}" if values else "", str(len(values))]
        if judged:
            tolerance = verdicts.epsilon(metric, row.spread(view.panel, metric))
            told.append(verdicts.level(values, printed, tolerance).verdict)
        rows.append([row.slug, *told])
    if measured:
        show_table(columns, rows, name)


def tell_left_out(console: Console, selections: list[Selection], chosen: Protocol) -> None:
    """Say what the protocol does not train."""
    for words in dict.fromkeys(words for s in selections for words in chosen.left_out(s.study)):
        console.print(f"nothing to train for {words}")


def tell_otherwise(console: Console, runs: Sequence[PlannedRun]) -> None:
    """Say which files are tested as they were trained, and not as the row has it."""
    for words in filter(None, map(otherwise, runs)):
        console.print(words)


def tell_left(console: Console, runs: Sequence[PlannedRun], todo: Sequence[PlannedRun]) -> int:
    """Say what is not started and why; returns how many of these have failed."""
    starting = {planned.id for planned in todo}
    left = [planned for planned in runs if planned.id not in starting]
    if done := sum(planned.state == "done" for planned in left):
        console.print(f"{done} of {len(runs)} runs are done already: nothing of them is started again")
    failed = [planned for planned in left if planned.state == "failed"]
    for planned in failed:
        console.print(f"{planned.label} failed ({planned.stands.cause}: {planned.stands.detail})")
    if failed:
        causes = ",".join(dict.fromkeys(planned.stands.cause for planned in failed))
        console.print(f"{len(failed)} failed runs are left as they are: --retry {causes} starts them again")
    for planned in left:
        if planned.state not in ("done", "failed"):
            job = f"job {planned.stands.job}" if planned.stands.job else ""
            detail = planned.stands.detail if planned.state == "unknown" or not job else ""
            why = ": ".join(filter(None, (job, detail))) or "waits for what it starts from"
            console.print(f"{planned.label} is {planned.state}: {why}")
    return len(failed)


def as_json(planned: PlannedRun, starts: bool) -> dict[str, Any]:
    """A run of the plan for `--dry-run --json`."""
    names = {
        "study": planned.study.slug,
        "row": planned.row.slug,
        "dataset": planned.run.data.dataset,
        "seed": planned.run.seed,
    }
    return {
        "run": planned.id,
        **names,
        "stage": planned.stage,
        "starts": starts,
        **msgspec.structs.asdict(planned.stands),
    }
