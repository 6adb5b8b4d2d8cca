"""Run a study: `python -m studies.run STUDY[/ROW][@seed] ... [--protocol quick] [--cluster local] [--dry-run]`.

Exit codes: 0 fine, 1 some runs failed or a file is damaged, 2 usage, 3 pre-flight failed and nothing started,
4 scheduler unreachable, 5 stopped by a signal and resumable. Running the same command again starts nothing
that is done.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table

from segnext.config import Cost, Execution, Speed
from segnext.door import Parser, command, console, print_json, typed_path
from studies.declare.protocols import Protocol, protocol
from studies.launch.measure import measure_costs, measure_speeds
from studies.launch.submit import Specify
from studies.plan.options import (
    COMPUTED,
    SELECTOR,
    add_data_root,
    add_execution,
    add_selection,
    number,
    numbers,
    positive,
    shown,
    words_of,
)
from studies.plan.preflight import PreflightError, check, check_device
from studies.plan.runs import (
    Cell,
    Selection,
    costs,
    evaluations,
    imports,
    on_other_data,
    plan,
    select,
    settled,
    speeds,
    upstream,
)
from studies.records.causes import AGAIN, CAUSES
from studies.records.provenance import code_fingerprint
from studies.records.store import REPOSITORY, Store, runs_folder
from studies.records.typed import tell
from studies.records.working_state import JobSpec
from studies.records.workspace import Workspace
from studies.slurm.profile import STAGES, Profile, changed, profile

OF_A_CLUSTER = ("profile", "partition", "account", "qos", "time", "nodes", "constraint")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = Parser(prog="python -m studies.run", description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n")[1])
    parse.add_argument("selectors", nargs="+", metavar=SELECTOR, help="what to run, or: all")
    add_selection(parse)
    parse.add_argument(
        "--datasets",
        type=lambda text: tuple(words_of(text)),
        default=(),
        metavar="A,B",
        help="only these of what the protocol trains: strips,gate (default: all)",
    )
    add_data_root(parse)
    parse.add_argument(
        "--pretrained",
        type=typed_path,
        metavar="DIR",
        help="start from released ImageNet weights (mscan_t.pth, ...) instead: protocol paper-pretrained",
    )
    parse.add_argument(
        "--weights",
        type=typed_path,
        metavar="DIR",
        help="with --only evaluate: test released checkpoints; recorded as imported, never as reproduced",
    )
    parse.add_argument(
        "--only",
        choices=("cost", "speed", "pretrain", "train", "evaluate"),
        help="cost: parameters and FLOPs; speed: also latency and memory, where a study has them; pretrain: what the "
        "rows start from; train: leave the test to --only evaluate, which also tests what is recorded once more",
    )
    parse.add_argument(
        "--ham-seeds",
        type=numbers,
        default=(0,),
        metavar="0,1,2",
        help="with --only evaluate: the seeds of Ham's initial bases to test with (default: 0, as every run)",
    )
    parse.add_argument(
        "--retry",
        type=_causes,
        default=AGAIN,
        metavar="CAUSES",
        help="failed runs to start again, too: " + ", ".join(name for name in CAUSES if name not in AGAIN) + ", or all",
    )
    parse.add_argument(
        "--rerun",
        choices=("stale", "failed", "done"),
        help="do again what was made by other code than today's or from other data than those under --data-root (by "
        "their fingerprints: looked at here alone), what failed for whatever cause, or what is done; a record is "
        "replaced when its successor is whole",
    )
    parse.add_argument("--dry-run", action="store_true", help="say what exists and what would start; start nothing")
    parse.add_argument("--json", action="store_true", help="with --dry-run: as JSON")

    where = parse.add_argument_group("where and with what")
    where.add_argument("--cluster", default="local", choices=("local", "slurm", "debug"), help="default: local")
    where.add_argument(
        "--max-parallel", type=positive, metavar="N", help="runs at a time (local default: by the cores)"
    )
    where.add_argument("--threads", type=positive, metavar="N", help="cores of a process (local default: 1)")
    where.add_argument("--gpus", type=positive, metavar="N", help="processes of a run, one a GPU, on each node")
    where.add_argument("--device", help="cpu, cuda, cuda:0, ... (local default: cpu)")
    where.add_argument("--workers", type=number, metavar="N", help="loader processes of a process")
    add_execution(where)
    where.add_argument(
        "--evaluate-every",
        type=number,
        default=Execution.evaluation_interval,
        metavar="N",
        help="iterations between two tests on the way, 0: none (default: %(default)s, as the release)",
    )
    where.add_argument(
        "--also",
        choices=("multi-scale",),
        help="test at several scales, too, where no table shows it: most of a test's work (a record keeps what it has)",
    )
    where.add_argument("--tensorboard", action="store_true", help="the curves in runs/ID/tensorboard, too (an extra)")

    slurm = parse.add_argument_group("with --cluster slurm")
    slurm.add_argument(
        "--profile",
        type=os.path.expanduser,
        metavar="FILE",
        help="slurm/profiles/NAME.toml, or its NAME (default: default)",
    )
    for name, metavar in (
        ("partition", "P"),
        ("account", "A"),
        ("qos", "Q"),
        ("time", "D-HH:MM:SS"),
        ("constraint", "C"),
    ):
        slurm.add_argument(f"--{name}", metavar=metavar, help="in the profile's place")
    slurm.add_argument("--nodes", type=positive, metavar="N", help="in the profile's place")
    slurm.add_argument(
        "--follow", action="store_true", help="watch until all runs are over; Ctrl-C leaves them running"
    )
    return parse


@command("python -m studies.run")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["figures"]:
        from studies.figures import main as pictures

        return pictures(words[1:])
    if words[:1] == ["shortcuts"]:
        from studies.shortcuts import main as shortcuts

        return shortcuts(words[1:])
    parse = parser()
    options = parse.parse_args(words)
    out = console(width=160)
    chosen = protocol(_protocol_name(options))
    resources = _resources(options)
    selections = select(options.selectors, chosen, options.rows, options.seeds)
    selections = [dataclasses.replace(selection, datasets=options.datasets) for selection in selections]
    store = Store()
    cells, queue = settled(_cells(options, selections, chosen, store), store)
    if options.rerun == "stale":
        cells = on_other_data(cells, options.data_root, store)
    unmeasured = costs(selections, store)
    untimed = _untimed(options, selections, store)

    todo = _todo(cells, options)
    store.damage += [damaged for cell in cells for damaged in Workspace(cell.id).damage()]
    damaged = tell(store.damage)
    if options.dry_run and options.json:
        print_json([_as_json(cell, cell in todo) for cell in cells])
        return damaged
    if options.dry_run:
        _show_plan(out, selections, chosen, cells, todo, unmeasured, untimed)
        _show_needs(out, todo, resources, options, store)
        out.print("nothing started (--dry-run)")
        return damaged
    if options.only in (None, "pretrain"):
        _tell_left_out(out, selections, chosen)
    left_failed = _tell_left(out, cells, todo)
    if queue.silence and options.cluster == "slurm":
        parse.exit(4, f"{parse.prog}: nothing was started: the scheduler does not answer: {queue.silence}\n")
    try:
        if options.only == "evaluate" and not cells:
            raise PreflightError(_nothing_to_evaluate(options))
        coming = {cell.id for cell in cells if cell in todo or cell.state in ("running", "queued")}
        check(todo, coming, options.data_root, options.pretrained, store)
        if todo and options.cluster != "slurm":
            check_device(resources.where)
    except (PreflightError, ValueError) as error:  # segnext.data.DataError is a ValueError
        parse.exit(3, f"{parse.prog}: nothing was started: {error}\n")

    measure_costs(out, unmeasured, store)
    code = measure_speeds(out, untimed, options.device or "cpu", store)
    if todo and code != 5:
        typed = "python -m studies.run " + shlex.join(_portable(words, options.data_root))

        def specify(cell: Cell, execution: Execution) -> JobSpec:
            if cell.state == "done" or (options.rerun == "failed" and cell.stands.cause == "other_data"):  # begins anew
                Workspace(cell.id).forget_training()
            return _specification(cell, options, execution, typed, store)

        carry_out = _submit if options.cluster == "slurm" else _carry_out
        try:
            code = max(code, carry_out(out, todo, resources, options, specify))
        except OSError as error:  # the folder of a colleague's run, a full disk
            parse.exit(1, f"{parse.prog}: {error}; the same command starts what is missing once that is mended\n")
    for path in Store().build_tables():
        if path.stem in {selection.study.slug for selection in selections}:
            out.print(f"wrote {shown(path)}")
    return max(code, 1) if left_failed or damaged else code


def _protocol_name(options: argparse.Namespace) -> str:
    """The protocol that the options mean; `ValueError` where they do not go together."""
    if (options.weights or options.ham_seeds != (0,)) and options.only != "evaluate":
        raise ValueError("--weights and --ham-seeds are about finished weights: they go with --only evaluate")
    if options.weights and not options.weights.is_dir():
        raise ValueError(f"--weights {options.weights}: there is no such folder")
    given = [f"--{name}" for name in OF_A_CLUSTER if getattr(options, name)] + ["--follow"] * options.follow
    if given and options.cluster != "slurm":
        raise ValueError(f"{', '.join(given)}: only --cluster slurm has that")
    if options.json and not options.dry_run:
        raise ValueError("--json goes with --dry-run")
    if options.tensorboard and find_spec("tensorboard") is None:
        raise ValueError("--tensorboard: it is not installed; pip install 'segnext-study[tensorboard]'")
    if options.pretrained is None:
        return str(options.protocol)
    if options.protocol not in ("paper", "paper-pretrained"):
        raise ValueError(f"--pretrained goes with --protocol paper; {options.protocol} trains from scratch")
    return "paper-pretrained"


def _cells(options: argparse.Namespace, selections: list[Selection], chosen: Protocol, store: Store) -> list[Cell]:
    """What is wanted, by `--only`."""
    match options.only:
        case "cost" | "speed":
            return []
        case "evaluate" if options.weights:
            return imports(selections, chosen, store, options.weights, options.ham_seeds)
        case "evaluate":
            return evaluations(selections, chosen, options.limit_iterations, store, options.ham_seeds)
        case "train":
            cells = plan(selections, chosen, options.limit_iterations, store)
            return [cell for cell in cells if cell.state != "trained"]
        case "pretrain":
            cells = plan(selections, chosen, options.limit_iterations, store)
            return [cell for cell in cells if cell.upstream or cell.run.task == "classification"]
        case _:
            return plan(selections, chosen, options.limit_iterations, store)


def _nothing_to_evaluate(options: argparse.Namespace) -> str:
    if options.weights:
        return (
            f"no file in {options.weights} has the name of a wanted row's weights: ROW_DATASET.pth (table9: "
            "t_ade20k.pth), or as its authors or mmsegmentation named it (segnext_tiny_512x512_ade_160k.pth)"
        )
    return f"none of these runs has finished weights under {runs_folder()}; train them first, or name --weights DIR"


def _resources(options: argparse.Namespace) -> Profile:
    """What a run gets: the profile's, or on this machine one thread of one process, changed by what was typed."""
    named = profile(options.profile or "default") if options.cluster == "slurm" else Profile(name="local")
    names = ("partition", "account", "qos", "time", "constraint", "nodes", "gpus", "max_parallel")
    typed = {name: getattr(options, name) for name in (*names, "device", "workers", *COMPUTED)}
    typed |= {"cpus": options.threads}
    settings = {name: value for name, value in typed.items() if value is not None}
    if options.cluster != "slurm":
        settings.setdefault("device", "cpu")
    stages = {stage: {k: v for k, v in getattr(named, stage).items() if k not in settings} for stage in STAGES}
    return changed(named, settings | stages)


def _todo(cells: Sequence[Cell], options: argparse.Namespace) -> list[Cell]:
    """The runs to start, in the plan's order; nothing that starts from what will not be there."""
    todo: list[Cell] = []
    absent = set()
    for cell in cells:
        before = upstream(cell)
        waits = before is not None and before.id in absent
        if not waits and _starts(cell, options):
            todo.append(cell)
            continue
        comes = cell.state in ("running", "queued") and options.cluster == "slurm" and bool(cell.stands.job)
        if cell.state != "done" and not comes:
            absent.add(cell.id)
    return todo


def _starts(cell: Cell, options: argparse.Namespace) -> bool:
    match cell.state:
        case "done":
            return not cell.upstream and (
                options.rerun == "done" or (options.rerun == "stale" and bool(cell.stands.detail))
            )
        case "running":
            return options.cluster != "slurm" and not cell.stands.job  # waited for, and taken over if left unfinished
        case "queued" | "unknown":
            return False
        case "failed":
            mended = cell.stands.cause == "code" and _other_code(cell)
            return mended or options.rerun == "failed" or cell.stands.cause in options.retry
        case _:
            return True


def _other_code(cell: Cell) -> bool:
    """Whether the code is another than the one that failed."""
    last = Workspace(cell.id).last_attempt()
    return last is not None and last.code != code_fingerprint("run")


def _tell_left(console: Console, cells: Sequence[Cell], todo: Sequence[Cell]) -> int:
    """Say what is not started and why; returns how many of these have failed."""
    left = [cell for cell in cells if cell not in todo]
    if done := sum(cell.state == "done" for cell in left):
        console.print(f"{done} of {len(cells)} runs are done already: nothing of them is started again")
    failed = [cell for cell in left if cell.state == "failed"]
    for cell in failed:
        console.print(f"{cell.label} failed ({cell.stands.cause}: {cell.stands.detail})")
    if failed:
        causes = ",".join(dict.fromkeys(cell.stands.cause for cell in failed))
        console.print(f"{len(failed)} failed runs are left as they are: --retry {causes} starts them again")
    for cell in left:
        if cell.state not in ("done", "failed"):
            job = f"job {cell.stands.job}" if cell.stands.job else ""
            detail = cell.stands.detail if cell.state == "unknown" or not job else ""
            why = ": ".join(filter(None, (job, detail))) or "waits for what it starts from"
            console.print(f"{cell.label} is {cell.state}: {why}")
    return len(failed)


def _specification(
    cell: Cell,
    options: argparse.Namespace,
    execution: Execution,
    command: str,
    store: Store,
) -> JobSpec:
    from studies.plan.jobspec import specification

    return specification(
        cell,
        options.limit_iterations,
        options.data_root,
        options.pretrained,
        execution,
        command,
        options.tensorboard,
        train_only=options.only == "train" and cell.stage == "train" and not cell.upstream,
        supersedes=store.digest(cell.id) if cell.state == "done" else None,
        options=_typed(options),
    )


def _execution(resources: Profile, options: argparse.Namespace) -> Execution:
    from studies.launch.submit import execution

    settings = execution(resources, options.evaluate_every)
    return dataclasses.replace(settings, multi_scale=options.also == "multi-scale")


def _typed(options: argparse.Namespace) -> list[str]:
    """The words that start a run again as it was started, without what chose it."""
    found = ["--protocol", options.protocol]
    names = ("limit_iterations", "cluster", "data_root", "pretrained", "weights", "max_parallel", "threads", "gpus")
    for name in (*names, "device", "workers", "also", *COMPUTED, "only", *OF_A_CLUSTER):
        value = getattr(options, name)
        if isinstance(value, bool):
            found.append(f"--{'' if value else 'no-'}{name.replace('_', '-')}")
        elif value is not None:
            found += [f"--{name.replace('_', '-')}", str(value.resolve() if isinstance(value, Path) else value)]
    found += ["--tensorboard"] if options.tensorboard else []
    if options.evaluate_every != Execution.evaluation_interval:
        found += ["--evaluate-every", str(options.evaluate_every)]
    if options.ham_seeds != (0,):
        found += ["--ham-seeds", ",".join(map(str, options.ham_seeds))]
    return found


def _submit(
    console: Console, todo: list[Cell], resources: Profile, options: argparse.Namespace, specify: Specify
) -> int:
    """Submit and leave, or watch; returns the exit code."""
    from studies.launch.submit import arrays, submit
    from studies.records import snapshot
    from studies.slurm import scheduler

    submitted: list[Cell] = []
    code = 0
    try:
        size = resources.max_array_size or scheduler.max_array_size(resources.cluster)
        code_snapshot = snapshot.take()
        for array in arrays(todo, resources, size, resources.max_parallel):
            settings = _execution(resources.at(array.stage), options)
            left = submit(array, resources, code_snapshot, specify, settings)
            for cell in left:
                console.print(f"{cell.label} was submitted by somebody else a moment ago")
            if array.job:
                waits = f", after {', '.join(array.waits)}" if array.waits else ""
                limit = f", {array.throttle} at a time" if array.throttle else ""
                console.print(f"job {array.job} ({array.token}): {len(array.cells)} {array.stage} runs{limit}{waits}")
            submitted += array.cells
    except scheduler.Unreachable as error:
        console.print(f"the scheduler does not answer: {error}")
        code = 4
    except scheduler.Refused as error:
        console.print(f"sbatch refuses: {error}")
        code = 1 if submitted else 3
    console.print(
        f"{len(submitted)} of {len(todo)} runs submitted" + ("; the same command submits the rest" if code else "")
    )
    if options.follow and submitted:
        from studies.launch.local import follow

        def watch(bars: Any, asked: Callable[[], bool]) -> Any:
            return follow(submitted, bars, asked)

        code = max(code, _watched(console, submitted, watch, "the jobs go on"))
    return code


def _carry_out(
    console: Console, todo: list[Cell], resources: Profile, options: argparse.Namespace, specify: Specify
) -> int:
    """Work on the runs on this machine; returns the exit code."""
    from segnext.data.processes import available_processes
    from studies.launch.local import run_debug, run_local

    settings = _execution(resources, options)
    for cell in todo:
        Workspace(cell.id).write_spec(specify(cell, settings))
    parallel = options.max_parallel or max(1, available_processes() // (settings.threads * settings.processes))

    def work(bars: Any, asked: Callable[[], bool]) -> Any:
        if options.cluster == "local":
            return run_local(todo, parallel, settings, bars, asked)
        return run_debug(todo, bars, asked)

    return _watched(console, todo, work, "every run saves at its next step")


def _watched(
    console: Console, cells: Sequence[Cell], work: Callable[[Any, Callable[[], bool]], Any], leaving: str
) -> int:
    """Do the work under bars, and let Ctrl-C end it in good order; returns the exit code."""
    from studies.launch.progress import Bars

    signals: list[int] = []
    told = False

    def stop(number: int, frame: FrameType | None) -> None:
        signals.append(number)  # no word from here: the signal may have come amid a word

    def asked() -> bool:
        nonlocal told
        if signals and not told:
            told = True
            console.print(f"stopping: {leaving}")
        return bool(signals)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        title = ", ".join(dict.fromkeys(cell.study.slug for cell in cells))
        with Bars(console, title, len(cells)) as bars:
            outcomes = work(bars, asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    counts = Counter(outcome.state for outcome in outcomes.values())
    console.print(", ".join(f"{number} {state}" for state, number in sorted(counts.items())))
    if counts["failed"]:
        console.print(f"logs: {shown(runs_folder())}/<run id>/log.txt; results that existed are untouched")
    if counts["stopped"]:
        console.print("stopped: the same command continues")
        return 5
    return 1 if counts["failed"] else 0


def _untimed(options: argparse.Namespace, selections: list[Selection], store: Store) -> list[tuple[str, Speed]]:
    # Beside training a frame rate would be that of a busy machine: it is measured when it is asked for.
    asked = [s for s in selections if s.study.squares or (s.study.timed and options.only == "speed")]
    if options.only not in (None, "speed") or not asked:
        return []
    from studies.records.provenance import platform_of

    return speeds(
        asked, platform_of(options.device or "cpu", options.threads or 1, options.precision or "float32"), store
    )


def _show_plan(
    console: Console,
    selections: list[Selection],
    chosen: Protocol,
    cells: list[Cell],
    todo: list[Cell],
    unmeasured: list[tuple[str, Cost]],
    untimed: list[tuple[str, Speed]],
) -> None:
    for selection in selections:
        own = [cell for cell in cells if cell.study is selection.study]
        if own:
            console.print(_plan_table(f"{selection.study.slug} under {chosen.name}: {chosen.purpose}", own))
        direct = sum(not cell.upstream and not cell.evaluation for cell in own)
        wanted = sum(len(list(filter(panel.trains, selection.rows))) for panel in selection.panels(chosen)) * len(
            selection.seeds
        )
        if (shared := wanted - direct) and direct:
            console.print(f"{selection.study.slug}: {shared} of its runs are listed already: equal runs are one run\n")
    _tell_left_out(console, selections, chosen)
    counts = Counter(cell.state for cell in cells)
    starting = [cell for cell in todo if cell.state != "running"]
    states = ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "none wanted"
    timed = f"; {len(untimed)} speeds to measure" if untimed else ""
    console.print(
        f"{len(cells)} runs: {states}; {len(starting)} would start; {len(unmeasured)} costs to measure{timed}"
    )


def _show_needs(
    console: Console, todo: list[Cell], resources: Profile, options: argparse.Namespace, store: Store
) -> None:
    """The arrays, what is shared, the hours and the disk."""
    from studies.plan.estimate import estimate, size

    starting = [cell for cell in todo if cell.state != "running"]
    if not starting:
        return
    dependants = Counter(before.id for cell in starting if (before := upstream(cell)) is not None)
    for cell in starting:
        if dependants[cell.id] > 1:
            console.print(f"{cell.id} ({cell.label}) is shared by {dependants[cell.id]} runs")
    if options.cluster == "slurm":
        _show_arrays(console, starting, resources)
    needs = estimate(starting, resources, store)
    console.print(str(needs))
    folder = next(path for path in (runs_folder(), *runs_folder().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if needs.disk is not None and needs.disk > free:
        console.print(f"{shown(runs_folder())} has {size(free)} free: not enough")


def _show_arrays(console: Console, starting: list[Cell], resources: Profile) -> None:
    from studies.launch.submit import arrays, sbatch_options
    from studies.slurm import scheduler

    try:
        limit = resources.max_array_size or scheduler.max_array_size(resources.cluster)
    except (scheduler.Unreachable, scheduler.Refused) as error:
        console.print(f"the scheduler does not answer, so arrays may be split further: {error}")
        limit = len(starting)
    found = arrays(starting, resources, limit, resources.max_parallel)
    where = {cell.id: place for place, array in enumerate(found, start=1) for cell in array.cells}
    for place, array in enumerate(found, start=1):
        after = {where[name] for name in array.waits if name in where} | ({place - 1} if array.before else set())
        waits = f", after array {', '.join(map(str, sorted(after)))}" if after else ""
        throttle = f", {array.throttle} at a time" if array.throttle else ""
        console.print(f"array {place}: {len(array.cells)} {array.stage} runs{throttle}{waits}")
    for stage in dict.fromkeys(array.stage for array in found):
        console.print(f"sbatch {' '.join(sbatch_options(resources.at(stage)))}  ({stage})")


def _plan_table(title: str, cells: list[Cell]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("row", "as printed", "dataset", "seed", "run", "state"):
        table.add_column(heading, no_wrap=True)
    for cell in cells:
        state = f"{cell.state}: {cell.stands.detail}" if cell.stands.detail else cell.state
        dataset = cell.run.data.dataset
        name = "before it" if cell.upstream else cell.row.label
        table.add_row(cell.row.slug, name, dataset, str(cell.run.seed), cell.id, state)
    return table


def _tell_left_out(console: Console, selections: list[Selection], chosen: Protocol) -> None:
    for words in dict.fromkeys(words for s in selections for words in chosen.left_out(s.study)):
        console.print(f"nothing to train for {words}")


def _as_json(cell: Cell, starts: bool) -> dict[str, Any]:
    names = {"study": cell.study.slug, "row": cell.row.slug, "dataset": cell.run.data.dataset, "seed": cell.run.seed}
    return {"run": cell.id, **names, "stage": cell.stage, "starts": starts, **dataclasses.asdict(cell.stands)}


def _portable(words: Sequence[str], data_root: Path | None) -> list[str]:
    """The command as a record keeps it: paths relative to the repository or the data root, others as `DIR`."""
    kept = []
    for word in words:
        head, equals, tail = word.partition("=")
        path = Path(tail if equals else head)
        shown_path = str(path)
        if data_root is not None and path.is_absolute() and path != data_root and path.is_relative_to(data_root):
            shown_path = f"DATA/{path.relative_to(data_root)}"
        elif path.is_absolute() and path.is_relative_to(REPOSITORY):
            shown_path = str(path.relative_to(REPOSITORY))
        elif path.is_absolute() or str(path).startswith(".."):
            shown_path = "DIR"
        else:
            kept.append(word)
            continue
        kept.append(f"{head}={shown_path}" if equals else shown_path)
    return kept


def _causes(text: str) -> tuple[str, ...]:
    """`A,B`, in addition to what is always tried again; `all`."""
    if text == "all":
        return tuple(CAUSES)
    for name in words_of(text):
        if name not in CAUSES:
            raise argparse.ArgumentTypeError(f"{name!r} is no cause of a failure; there are: {', '.join(CAUSES)}")
    return (*AGAIN, *words_of(text))


if __name__ == "__main__":
    sys.exit(main())
