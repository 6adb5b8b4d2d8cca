"""Run a study: `python -m studies.run STUDY[/ROW][@seed] ... [--protocol quick] [--cluster local] [--dry-run]`.

Exit codes: 0 fine, 1 some runs failed or a file is damaged, 2 usage, 3 pre-flight failed and nothing started,
4 scheduler unreachable, 5 stopped by a signal and resumable. Running the same command again starts nothing
that is done.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from segnext.config import Cost, Execution, Speed
from segnext.door import Parser, command, console, print_json, say, typed_path, uncollected
from studies.declare.protocols import Protocol, protocol
from studies.launch.carry_out import OF_A_CLUSTER, carry_out, typed_again
from studies.launch.measure import measure_costs, measure_speeds
from studies.launch.preview import (
    as_json,
    show_arrays,
    show_costs,
    show_needs,
    show_plan,
    show_results,
    show_summary,
    tell_left,
    tell_left_out,
    tell_otherwise,
)
from studies.plan.options import (
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
from studies.plan.runs import PlannedRun, Selection, costs, on_other_data, select, settled
from studies.plan.wanted import nothing_to_evaluate, resources_of, speeds_wanted, to_start, wanted
from studies.records.causes import AGAIN, CAUSES
from studies.records.store import Store
from studies.records.typed import tell
from studies.slurm.profile import Profile
from studies.slurm.scheduler import Queue


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parse = Parser.of("python -m studies.run", __doc__)
    parse.add_argument("selectors", nargs="+", metavar=SELECTOR, help="what to run, or: all")
    add_selection(parse)
    parse.add_argument(
        "--datasets",
        type=lambda text: tuple(words_of(text)),
        default=(),
        metavar="A,B",
        help="only these of the protocol's datasets: strips,gate (default: all)",
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
        help="cost: parameters and FLOPs; speed: also latency and memory, if the study has them; pretrain: the runs "
        "that rows start from; train: leave the test to --only evaluate, which also tests recorded runs again",
    )
    parse.add_argument(
        "--ham-seeds",
        type=numbers,
        default=(0,),
        metavar="0,1,2",
        help="with --only evaluate: the seeds of Ham's initial bases to test with (default: 0, as every run)",
    )
    _add_again(parse)
    _add_where(parse)
    _add_cluster(parse)
    return parse


def _add_again(parse: argparse.ArgumentParser) -> None:
    parse.add_argument(
        "--retry",
        type=_causes,
        default=AGAIN,
        metavar="CAUSES",
        help="also restart failed runs: " + ", ".join(name for name in CAUSES if name not in AGAIN) + ", or all",
    )
    parse.add_argument(
        "--rerun",
        choices=("stale", "failed", "done"),
        help="do again: runs made by other code than today's or from other data than those under --data-root (their "
        "fingerprints are checked only here), failed runs whatever the cause, or finished runs; a record is replaced "
        "when its successor is complete",
    )
    parse.add_argument(
        "--until-decided",
        action="store_true",
        help="add seeds in planned looks until every claim of the selection is decided or given up",
    )
    parse.add_argument(
        "--looks", type=numbers, metavar="5,10", help="with --until-decided: the numbers of seeds (default: 5,10)"
    )
    parse.add_argument("--dry-run", action="store_true", help="say what exists and what would start; start nothing")
    parse.add_argument("--json", action="store_true", help="with --dry-run: as JSON")


def _add_where(parse: argparse.ArgumentParser) -> None:
    where = parse.add_argument_group("where and with what")
    where.add_argument("--cluster", default="local", choices=("local", "slurm", "debug"), help="default: local")
    where.add_argument(
        "--max-parallel",
        type=positive,
        metavar="N",
        help="runs at a time (default here: by cores, or a card each)",
    )
    where.add_argument("--threads", type=positive, metavar="N", help="cores of a process (local default: 1)")
    where.add_argument("--gpus", type=positive, metavar="N", help="processes of a run on each node, one per GPU")
    where.add_argument("--per-gpu", type=positive, metavar="N", help="runs that share a card, for small networks")
    where.add_argument("--device", help="cpu, cuda, cuda:0, ... (local default: cpu)")
    where.add_argument("--workers", type=number, metavar="N", help="loader processes per process")
    add_execution(where)
    where.add_argument(
        "--evaluate-every",
        type=number,
        default=Execution.evaluation_interval,
        metavar="N",
        help="iterations between two tests during training, 0: none (default: %(default)s, as the release)",
    )
    where.add_argument(
        "--also",
        choices=("multi-scale",),
        help="also test at several scales if no table shows that: most of a test's work (a record keeps what it has)",
    )
    where.add_argument("--tensorboard", action="store_true", help="also write curves to runs/ID/tensorboard (an extra)")


def _add_cluster(parse: argparse.ArgumentParser) -> None:
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
        ("memory", "8G"),
        ("constraint", "C"),
    ):
        slurm.add_argument(f"--{name}", metavar=metavar, help="overrides the profile")
    slurm.add_argument("--nodes", type=positive, metavar="N", help="overrides the profile")
    slurm.add_argument(
        "--follow", action="store_true", help="watch until all runs are over; Ctrl-C leaves them running"
    )


@command("python -m studies.run")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["figures"], ["shortcuts"]):  # subcommands of this command in earlier versions
        elsewhere: Callable[[Sequence[str]], int] = import_module(f"studies.{words[0]}").main
        return elsewhere(words[1:])
    parse = parser()
    options = parse.parse_args(words)
    if not options.until_decided:
        if options.looks:
            raise ValueError("--looks goes with --until-decided")
        return _run(parse, options, words)
    from studies.launch.until import check_options, until_decided  # imports scipy, which a plain dry run does not need

    check_options(options)
    chosen = protocol(_protocol_name(options))
    selections = select(options.selectors, chosen, options.rows, None)
    selections = [dataclasses.replace(selection, datasets=options.datasets) for selection in selections]

    def of_a_look(study: str, rows: Sequence[str], datasets: Sequence[str], seeds: Sequence[int]) -> int:
        own = {"selectors": [study], "rows": list(rows), "datasets": tuple(datasets), "seeds": tuple(seeds)}
        return _run(parse, argparse.Namespace(**{**vars(options), **own}), words)

    return until_decided(console(), selections, chosen, options, of_a_look)


def _run(parse: argparse.ArgumentParser, options: argparse.Namespace, words: Sequence[str]) -> int:
    """Carry out the options; `words` are those that the user typed."""
    planned = _planned(options)
    store = planned.store
    store.damage += [damaged for planned_run in planned.runs for damaged in planned_run.folder.damage()]
    damaged = tell(store.damage)
    if options.dry_run:
        _show(planned, options)
        return damaged
    began = time.monotonic()
    failed = _launch(parse, planned, options, words)
    from studies.facts import files  # scipy: not for a dry run

    chosen = [selection.study.slug for selection in planned.selections]
    store = Store()
    paths = [path for path in files.write(store) if path.stem in chosen]
    if options.only == "cost":
        show_costs(planned.selections, store)
    else:
        show_results(planned.selections, planned.runs, store)
    for path in paths:
        say(f"wrote {shown(path)}")
    say(f"{time.monotonic() - began:.0f} s; next: python -m reports.build {' '.join(dict.fromkeys(chosen))}")
    return max(failed, damaged)


@dataclass(frozen=True)
class _Planned:
    """What the options select: the runs, those that would start, and the missing costs and speeds."""

    chosen: Protocol
    selections: list[Selection]
    resources: Profile
    store: Store
    runs: list[PlannedRun]
    queue: Queue
    todo: list[PlannedRun]
    unmeasured: list[tuple[str, Cost]]
    untimed: list[tuple[str, Speed]]


@uncollected()
def _planned(options: argparse.Namespace) -> _Planned:
    chosen = protocol(_protocol_name(options))
    resources = resources_of(options)
    selections = select(options.selectors, chosen, options.rows, options.seeds)
    selections = [dataclasses.replace(selection, datasets=options.datasets) for selection in selections]
    store = Store()
    runs, queue = settled(wanted(options, selections, chosen, store))
    if options.rerun == "stale":
        runs = on_other_data(runs, options.data_root, store)
    measured = costs(selections, store), speeds_wanted(options, selections, store)
    return _Planned(chosen, selections, resources, store, runs, queue, to_start(runs, options), *measured)


def _show(planned: _Planned, options: argparse.Namespace) -> None:
    """Print what exists and what would start."""
    if options.json:
        starting = {planned_run.id for planned_run in planned.todo}
        print_json([as_json(planned_run, planned_run.id in starting) for planned_run in planned.runs])
        return
    out, todo = console(), planned.todo
    show_plan(out, planned.selections, planned.chosen, planned.runs)
    show_arrays(out, todo, planned.resources, options)
    show_summary(out, planned.runs, todo, planned.unmeasured, planned.untimed)
    show_needs(out, planned.runs, todo, planned.resources, options, planned.store)
    out.print("nothing started (--dry-run)")


def _launch(
    parse: argparse.ArgumentParser, planned: _Planned, options: argparse.Namespace, words: Sequence[str]
) -> int:
    """After all checks start what is to start; returns the exit code."""
    from studies.launch.stage import packed_under  # imports numpy: not for a list or a dry run

    out, todo, store = console(), planned.todo, planned.store
    if options.only in (None, "pretrain"):
        tell_left_out(out, planned.selections, planned.chosen)
    tell_otherwise(out, planned.runs)
    left_failed = tell_left(out, planned.runs, todo)
    if options.cluster == "slurm" and (silence := planned.queue.silent.get(planned.resources.cluster)):
        parse.exit(4, f"{parse.prog}: nothing was started: the scheduler does not answer: {silence}\n")
    try:
        if options.only == "evaluate" and not planned.runs:
            raise PreflightError(nothing_to_evaluate(options))
        coming = {
            planned_run.id for planned_run in (*todo, *(c for c in planned.runs if c.state in ("running", "queued")))
        }
        packed = packed_under(options.data_root, planned.resources)
        check(todo, coming, options.data_root, options.pretrained, store, packed)
        if todo and options.cluster != "slurm":
            check_device(planned.resources.where)
    except (PreflightError, ValueError) as error:  # segnext.data.DataError is a ValueError
        parse.exit(3, f"{parse.prog}: nothing was started: {error}\n")

    measure_costs(out, planned.unmeasured, store)
    code = measure_speeds(out, planned.untimed, options.device or "cpu", store)
    if todo and code != 5:
        again = typed_again(parse, options)
        try:
            code = max(code, carry_out(out, todo, planned.resources, options, words, again, store))
        except OSError as error:  # a colleague's folder, a full disk
            parse.exit(1, f"{parse.prog}: {error}; after a repair the same command starts what is missing\n")
    return max(code, 1) if left_failed else code


def _protocol_name(options: argparse.Namespace) -> str:
    """The protocol that the options name. Raises `ValueError` for options that do not go together."""
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


def _causes(text: str) -> tuple[str, ...]:
    """The causes `A,B`, and those that are always tried again; or `all`."""
    if text == "all":
        return tuple(CAUSES)
    for name in words_of(text):
        if name not in CAUSES:
            raise argparse.ArgumentTypeError(f"{name!r} is not a cause of failure; there are: {', '.join(CAUSES)}")
    return (*AGAIN, *words_of(text))


if __name__ == "__main__":
    sys.exit(main())
