"""Runs carried out as the options say: specified, submitted to SLURM or worked on here, and watched."""

from __future__ import annotations

import argparse
import dataclasses
import math
import shlex
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from segnext.config import Execution
from studies.launch.submit import Specify, execution
from studies.plan.jobspec import specification
from studies.plan.options import shown
from studies.plan.runs import PlannedRun
from studies.records.store import REPOSITORY, Store, runs_folder
from studies.records.working_state import JobSpec
from studies.records.workspace import Workspace
from studies.slurm.profile import Profile

CHOOSE = ("rows", "seeds", "datasets", "retry", "rerun", "until_decided", "looks", "dry_run", "json", "follow")
"""Options that say which runs are started, or how that is shown, and not how a run is carried out."""

ALWAYS = ("protocol", "data_root")
"""Options whose default can be another when the words are typed: by a release, by the environment."""

OF_A_CLUSTER = ("profile", "partition", "account", "qos", "time", "memory", "nodes", "constraint")


def carry_out(
    console: Console,
    todo: list[PlannedRun],
    resources: Profile,
    options: argparse.Namespace,
    words: Sequence[str],
    again: Sequence[str],
    store: Store,
) -> int:
    """Start these runs as the options say; `words` were typed, `again` start one alone. Returns the exit code."""
    typed = "python -m studies.run " + shlex.join(_portable(words, options.data_root))

    def specify(planned: PlannedRun, execution: Execution) -> JobSpec:
        if planned.state == "done" or (
            options.rerun == "failed" and planned.stands.cause == "other_data"
        ):  # begins anew
            Workspace(planned.id).forget_training()
        return _specification(planned, options, execution, typed, again, store)

    work = _submit if options.cluster == "slurm" else _here
    return work(console, todo, resources, options, specify)


def _specification(
    planned: PlannedRun,
    options: argparse.Namespace,
    execution: Execution,
    command: str,
    again: Sequence[str],
    store: Store,
) -> JobSpec:
    return specification(
        planned,
        options.limit_iterations,
        options.data_root,
        options.pretrained,
        execution,
        command,
        options.tensorboard,
        train_only=options.only == "train" and planned.stage == "train" and not planned.upstream,
        supersedes=store.digest(planned.id) if planned.state == "done" else None,
        options=again,
    )


def _execution(resources: Profile, options: argparse.Namespace) -> Execution:
    settings = execution(resources, options.evaluate_every)
    return dataclasses.replace(settings, multi_scale=options.also == "multi-scale")


def typed_again(parse: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    """The words that start a run again as it was started: whatever option was given, but for those that chose it."""
    found = []
    for action in parse._actions:
        value = getattr(options, action.dest, None)
        name = action.option_strings[0] if action.option_strings else ""
        stands = value == action.default and action.dest not in ALWAYS
        if not name or action.dest in CHOOSE or value is None or stands:
            continue
        if isinstance(value, bool):
            found.append(name if value else f"--no-{name.removeprefix('--')}")
        else:
            found += [name, _word(value)]
    return found


def _word(value: object) -> str:
    if isinstance(value, Path):
        return str(value.resolve())
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


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


def _submit(
    console: Console, todo: list[PlannedRun], resources: Profile, options: argparse.Namespace, specify: Specify
) -> int:
    """Submit and leave, or watch and submit as room comes; returns the exit code."""
    from studies.launch.sending import Line

    line = Line(console, list(todo), resources, lambda own: _execution(own, options), specify)
    sent = line.send()
    while options.follow and not sent and line.full and line.halve():
        sent = line.send()
    if not options.follow or not sent:
        return line.code

    def watch(bars: Any, asked: Callable[[], bool]) -> Any:
        return line.followed(sent, bars, asked)

    watched = _watched(console, todo if line.full else sent, watch, "the jobs go on")
    return max(line.code, watched)


def _here(
    console: Console, todo: list[PlannedRun], resources: Profile, options: argparse.Namespace, specify: Specify
) -> int:
    """Work on the runs on this machine; returns the exit code."""
    from segnext.data.processes import available_processes
    from studies.launch.cards import Cards
    from studies.launch.local import run_debug, run_local

    settings = _execution(resources, options)
    for planned in todo:
        Workspace(planned.id).write_spec(specify(planned, settings))
    cards = Cards.of(settings, resources.runs_per_gpu)
    by_cores = max(1, available_processes() // (settings.threads * settings.processes))
    parallel = options.max_parallel or (cards.room if settings.device.startswith("cuda") else by_cores)
    if resources.runs_per_gpu:
        parallel = min(parallel, cards.room)
    else:  # as many as were typed, on all cards alike
        cards = dataclasses.replace(cards, a_card=math.ceil(parallel / cards.room))

    def work(bars: Any, asked: Callable[[], bool]) -> Any:
        if options.cluster == "local":
            return run_local(todo, parallel, settings, bars, asked, cards)
        return run_debug(todo, bars, asked)

    return _watched(console, todo, work, "every run saves at its next step")


def _watched(
    console: Console, runs: Sequence[PlannedRun], work: Callable[[Any, Callable[[], bool]], Any], leaving: str
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
        title = ", ".join(dict.fromkeys(planned.study.slug for planned in runs))
        with Bars(console, title, len(runs)) as bars:
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
