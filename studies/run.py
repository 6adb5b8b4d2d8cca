"""Run a study: `python -m studies.run STUDY[/ROW][@seed] ... [--protocol quick] [--cluster local] [--dry-run]`.

Exit codes: 0 fine, 1 some runs failed, 2 usage, 3 pre-flight failed and nothing started, 4 scheduler unreachable,
5 stopped by a signal and resumable. Running the same command again starts nothing that is done.
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
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from segnext.config import PRECISIONS, Cost, Execution, Run, Speed, canonical
from studies.plan import Cell, Selection, costs, evaluations, imports, plan, select, speeds
from studies.protocols import PROTOCOLS, Protocol, protocol
from studies.store import Store, runs_folder
from studies.weights import pretrained_file
from studies.workspace import Workspace

BUSY = 0.1  # part of its time that a measurement of speed may wait for a core
FREE_BYTES = 500e6  # pre-flight: two states and a temporary one of the runs under way, with room to spare


class PreflightError(Exception):
    """Something that every run needs is missing; nothing was started."""


class _Disturbed(Exception):
    """Others took the time that was to be measured."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(
        prog="python -m studies.run", description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n")[1]
    )
    parse.add_argument("selectors", nargs="+", metavar="STUDY[/ROW][@seed]", help="what to run, or: all")
    parse.add_argument("--protocol", default="paper", help=f"one of {', '.join(PROTOCOLS)} (default: paper)")
    parse.add_argument("--cluster", default="local", choices=("local", "debug"), help="where (default: local)")
    parse.add_argument("--rows", type=_words, metavar="A,B", help="only these rows, by slug")
    parse.add_argument("--seeds", type=_numbers, metavar="0,1,2", help="default: the protocol's")
    parse.add_argument(
        "--limit-iterations",
        type=_positive,
        metavar="N",
        help="end every run's schedule after N iterations; such runs are runs of their own",
    )
    parse.add_argument("--data-root", type=Path, metavar="DIR", help="the dataset's folder (default: $SEGNEXT_DATA)")
    parse.add_argument(
        "--pretrained",
        type=Path,
        metavar="DIR",
        help="start from released ImageNet weights (mscan_t.pth, ...) instead: protocol paper-pretrained",
    )
    parse.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="with --only evaluate: test released checkpoints; recorded as imported, never as reproduced",
    )
    parse.add_argument(
        "--max-parallel",
        type=_positive,
        metavar="N",
        help="runs at a time (default: by the cores)",
    )
    parse.add_argument("--threads", type=_positive, default=1, metavar="N", help="cores of a run (default: 1)")
    parse.add_argument(
        "--gpus", type=_positive, default=1, metavar="N", help="processes of a run, one a GPU (default: 1)"
    )
    parse.add_argument("--device", default="cpu", help="cpu, cuda, cuda:0, ... (default: cpu)")
    parse.add_argument("--workers", type=_number, default=0, metavar="N", help="loader processes of a run (default: 0)")
    parse.add_argument("--precision", default="float32", choices=PRECISIONS, help="autocast (default: float32)")
    parse.add_argument("--compile", action="store_true", help="torch.compile the model; eager where that fails")
    parse.add_argument(
        "--evaluate-every",
        type=_number,
        default=Execution.evaluation_interval,
        metavar="N",
        help="iterations between two tests on the way, 0: none (default: %(default)s, as the release)",
    )
    parse.add_argument("--tensorboard", action="store_true", help="the curves in runs/ID/tensorboard, too (an extra)")
    parse.add_argument(
        "--only",
        choices=("cost", "speed", "pretrain", "evaluate"),
        help="cost: parameters and FLOPs; speed: also latency and memory, where a study has them; pretrain: what the "
        "rows start from; evaluate: test what is trained once more",
    )
    parse.add_argument(
        "--ham-seeds",
        type=_numbers,
        default=(0,),
        metavar="0,1,2",
        help="with --only evaluate: the seeds of Ham's initial bases to test with (default: 0, as every run)",
    )
    parse.add_argument("--dry-run", action="store_true", help="say what exists and what would start; start nothing")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parse = parser()
    options = parse.parse_args(words)
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    try:
        chosen = protocol(_protocol_name(options))
        selections = select(options.selectors, chosen, options.rows, options.seeds)
        store = Store()
        cells = _cells(options, selections, chosen, store)
        unmeasured = costs(selections, store)
        untimed = _untimed(options, selections, store)
    except ValueError as error:
        parse.exit(2, f"{parse.prog}: {error}\n")

    if options.dry_run:
        _show_plan(console, selections, chosen, cells, unmeasured, untimed)
        return 0
    todo = [cell for cell in cells if cell.state != "done"]
    if options.only in (None, "pretrain"):
        _tell_left_out(console, selections, chosen)
    if done := len(cells) - len(todo):
        console.print(f"{done} of {len(cells)} runs are done already: nothing of them is started again")
    data_root = options.data_root or (Path(root) if (root := os.environ.get("SEGNEXT_DATA")) else None)
    try:
        if options.only == "evaluate" and not cells:
            raise PreflightError(_nothing_to_evaluate(options))
        _preflight(todo, data_root, options.pretrained, store)
    except (PreflightError, ValueError) as error:  # segnext.data.DataError is a ValueError
        parse.exit(3, f"{parse.prog}: nothing was started: {error}\n")

    _measure_costs(console, unmeasured, store)
    code = _measure_speeds(console, untimed, options.device, store)
    if todo and code != 5:
        execution = Execution(
            device=options.device,
            processes=options.gpus,
            threads=options.threads,
            workers=options.workers,
            precision=options.precision,
            compile=options.compile,
            evaluation_interval=options.evaluate_every,
        )
        command = "python -m studies.run " + shlex.join(_portable(words))
        _write_specs(todo, options, data_root, execution, command)
        parallel = options.max_parallel or max(1, (os.cpu_count() or 1) // (options.threads * options.gpus))
        code = max(code, _carry_out(console, todo, parallel, execution, options.cluster))
    for path in Store().build_tables():
        if path.stem in {selection.study.slug for selection in selections}:
            console.print(f"wrote {_shown(path)}")
    return code


def _protocol_name(options: argparse.Namespace) -> str:
    """The protocol that the options mean; `ValueError` where they do not go together."""
    if (options.weights or options.ham_seeds != (0,)) and options.only != "evaluate":
        raise ValueError("--weights and --ham-seeds are about finished weights: they go with --only evaluate")
    if options.weights and not options.weights.is_dir():
        raise ValueError(f"--weights {options.weights}: there is no such folder")
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


def _carry_out(console: Console, todo: list[Cell], parallel: int, execution: Execution, cluster: str) -> int:
    from studies.cluster import run_debug, run_local
    from studies.progress import Bars

    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            console.print("stopping: every run saves at its next step")
        stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        title = ", ".join(dict.fromkeys(cell.study.slug for cell in todo))
        with Bars(console, title, len(todo)) as bars:
            if cluster == "local":
                outcomes = run_local(todo, parallel, execution, bars, lambda: stopping)
            else:
                outcomes = run_debug(todo, bars, lambda: stopping)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    counts = Counter(outcome.state for outcome in outcomes.values())
    console.print(", ".join(f"{number} {state}" for state, number in sorted(counts.items())))
    if counts["failed"]:
        console.print(f"logs: {_shown(runs_folder())}/<run id>/log.txt; results that existed are untouched")
    if counts["stopped"]:
        console.print("stopped: the same command continues")
        return 5
    return 1 if counts["failed"] else 0


def _preflight(todo: list[Cell], data_root: Path | None, pretrained: Path | None, store: Store) -> None:
    """Check what every run needs before the first one starts: data, ways to begin, places to write."""
    from segnext.data import open_split  # numpy costs a list or a dry run half of its time

    coming = {cell.id for cell in todo}
    for cell in todo:
        init = None if cell.evaluation else cell.run.init
        if isinstance(init, Run) and init.id not in coming and not Workspace(init.id).weights.exists():
            raise PreflightError(
                f"{cell.label} starts from run {init.id}, which is recorded, but its weights are not at "
                f"{Workspace(init.id).weights}; bring them back, or delete the record to train it again"
            )
        if isinstance(init, str):
            if pretrained is None:
                raise PreflightError(
                    f"{cell.label} starts from released ImageNet weights; name their folder: --pretrained"
                )
            pretrained_file(pretrained, init)
    try:
        for data, split in dict.fromkeys(
            (cell.run.data, split)
            for cell in todo
            for split in (cell.run.data.train_split, cell.run.data.test_split)[cell.evaluation is not None :]
        ):
            open_split(data, split, data_root)
    except ValueError as error:
        protocols = {cell.run.protocol for cell in todo}
        hint = "; --protocol quick needs no data" if protocols & {"paper", "paper-pretrained"} else ""
        raise PreflightError(f"{error}{hint}") from None
    for folder in {store.folder, runs_folder()}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise PreflightError(f"{folder} cannot be written ({error.strerror})") from None
        free = shutil.disk_usage(folder).free
        if todo and free < FREE_BYTES:
            raise PreflightError(f"{folder} has {free / 1e6:.0f} MB free; at least {FREE_BYTES / 1e6:.0f} are needed")


def _measure_costs(console: Console, unmeasured: list[tuple[str, Cost]], store: Store) -> None:
    if not unmeasured:
        return
    with console.status("measuring parameters and FLOPs"):
        from segnext.cost import measure
        from studies.provenance import provenance

        origin, missing = provenance("cost"), Counter[str]()
        for number, (label, cost) in enumerate(unmeasured, start=1):
            try:
                measured = dataclasses.asdict(measure(cost))
            except ModuleNotFoundError as error:  # an optional extra: the others' costs do not depend on it
                missing[str(error)] += 1
                continue
            record = {"id": cost.id, "kind": "cost", "config": canonical(cost), **measured, "provenance": origin}
            store.add(record)
            console.print(
                f"cost {number}/{len(unmeasured)} {label}: {measured['params']:,} parameters, "
                f"{measured['gmacs']:.4f} G at {cost.height}x{cost.width}"
            )
        for reason, count in missing.items():
            console.print(f"{count} of {len(unmeasured)} costs are not measured: {reason}", markup=False)


def _untimed(options: argparse.Namespace, selections: list[Selection], store: Store) -> list[tuple[str, Speed]]:
    if options.only not in (None, "speed") or not any(selection.study.squares for selection in selections):
        return []
    from studies.provenance import platform_of

    return speeds(selections, platform_of(options.device, options.threads, options.precision), store)


def _measure_speeds(console: Console, untimed: list[tuple[str, Speed]], device: str, store: Store) -> int:
    """Measure one after the other, with nothing beside them; returns the exit code."""
    if not untimed:
        return 0
    from segnext.speed import measure
    from studies.progress import measuring
    from studies.provenance import provenance

    origin, missing, failed = provenance("speed"), Counter[str](), 0
    with measuring(console, "latency and peak memory", sum(s.height * s.width for _, s in untimed)) as advance:
        for number, (label, speed) in enumerate(untimed, start=1):
            try:
                measured = measure(speed, device)
                if measured.waited is not None and measured.waited > BUSY:
                    raise _Disturbed(f"this machine is busy: {measured.waited:.0%} of the time waited for a core")
            except KeyboardInterrupt:
                console.print("stopped: the same command continues")
                return 5
            except ModuleNotFoundError as error:  # an optional extra, as for costs
                missing[str(error)] += 1
            except (MemoryError, ChildProcessError, _Disturbed) as error:  # of this moment: the next attempt may differ
                failed += 1
                console.print(f"speed {number}/{len(untimed)} {label}: failed, not recorded: {error}", markup=False)
            else:
                facts = {**dataclasses.asdict(measured), "provenance": origin}
                store.add({"id": speed.id, "kind": "speed", "config": canonical(speed), **facts})
                console.print(f"speed {number}/{len(untimed)} {label}: {measured}", markup=False)
            advance(speed.height * speed.width)
    for reason, count in missing.items():
        console.print(f"{count} of {len(untimed)} speeds are not measured: {reason}", markup=False)
    return 1 if failed else 0


def _write_specs(
    todo: list[Cell], options: argparse.Namespace, data_root: Path | None, execution: Execution, command: str
) -> None:
    from studies.worker import specification

    for cell in todo:
        spec = specification(
            cell,
            options.limit_iterations,
            data_root,
            options.pretrained,
            execution,
            command,
            options.tensorboard,
        )
        Workspace(cell.id).write_spec(spec)


def _show_plan(
    console: Console,
    selections: list[Selection],
    chosen: Protocol,
    cells: list[Cell],
    unmeasured: list[tuple[str, Cost]],
    untimed: list[tuple[str, Speed]],
) -> None:
    for selection in selections:
        own = [cell for cell in cells if cell.study is selection.study]
        if own:
            console.print(_plan_table(f"{selection.study.slug} under {chosen.name}: {chosen.purpose}", own))
        direct = sum(not cell.upstream and not cell.evaluation for cell in own)
        wanted = len(chosen.panels(selection.study)) * len(selection.rows) * len(selection.seeds)
        if (shared := wanted - direct) and direct:
            console.print(f"{selection.study.slug}: {shared} of its runs are listed already: equal runs are one run\n")
    _tell_left_out(console, selections, chosen)
    counts = Counter(cell.state for cell in cells)
    starting = [cell for cell in cells if cell.state not in ("done", "running")]
    states = ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "none wanted"
    timed = f"; {len(untimed)} speeds to measure" if untimed else ""
    console.print(
        f"{len(cells)} runs: {states}; {len(starting)} would start; {len(unmeasured)} costs to measure{timed}"
    )
    console.print("nothing started (--dry-run)")


def _plan_table(title: str, cells: list[Cell]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("row", "as printed", "dataset", "seed", "run", "state"):
        table.add_column(heading, no_wrap=True)
    for cell in cells:
        state = f"{cell.state}: {cell.detail}" if cell.detail else cell.state
        dataset = cell.run.data.dataset
        name = "before it" if cell.upstream else cell.row.label
        table.add_row(cell.row.slug, name, dataset, str(cell.run.seed), cell.id, state)
    return table


def _tell_left_out(console: Console, selections: list[Selection], chosen: Protocol) -> None:
    for words in dict.fromkeys(words for s in selections for words in chosen.left_out(s.study)):
        console.print(f"nothing to train for {words}")


def _portable(words: list[str]) -> list[str]:
    """The command as a record keeps it: without the machine's paths."""
    kept = []
    for word in words:
        head, equals, tail = word.partition("=")
        path = tail if equals else head
        kept.append((f"{head}=DIR" if equals else "DIR") if os.path.isabs(path) or path.startswith("..") else word)
    return kept


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of seeds such as 0,1,2") from None
    if any(number < 0 for number in numbers):
        raise argparse.ArgumentTypeError("seeds are not negative")
    return numbers


def _number(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
