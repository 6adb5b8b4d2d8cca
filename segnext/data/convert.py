"""Make the labels that training reads from a dataset's originals, in the places where mmsegmentation has them.

Each file appears whole or not at all, originals are only read, and what is there already is kept: an interrupted
conversion is continued by the same command, and a finished one does nothing.

Exit codes: 0 all is there, 1 some files could not be made (the others were), 2 usage, 3 the originals were not found,
130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import itertools
import multiprocessing
import os
import re
import shlex
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segnext.data.convert_isaid import OVERLAP, PATCH, isaid
from segnext.data.convert_labels import cityscapes, coco_stuff164k, pascal_context, voc2012
from segnext.data.convert_plan import Job, NotFoundError, Plan
from segnext.data.source import DataError, Pixels
from segnext.files import write_atomically

DATASETS = ("cityscapes", "coco_stuff164k", "isaid", "pascal_context", "voc2012")
_PLAIN_SECONDS = 15.0  # between two lines of progress in a log
_DEAD_SECONDS = 3600.0  # a temporary file that old belongs to a process that was killed
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # what write_atomically calls them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `convert`, for the parser of `python -m segnext.data`."""
    parser.add_argument("dataset", choices=DATASETS, help="which dataset's originals")
    parser.add_argument("--data-root", type=Path, required=True, metavar="DIR", help="its folder, or the one it is in")
    parser.add_argument(
        "--source",
        type=Path,
        metavar="PATH",
        help="where originals are that do not lie below DIR: SBD's folder (voc2012), trainval_merged.json or the "
        "folder of .mat files (pascal_context), the folder with train/ and val/ (isaid)",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="files made at a time (default: the usable cores)")
    parser.add_argument("--patch", type=int, metavar="PIXELS", help=f"isaid: side of a tile, {PATCH} (default) or 800")
    parser.add_argument("--overlap", type=int, metavar="PIXELS", help=f"isaid: of tiles, {OVERLAP} (default) or 200")
    parser.add_argument("--dry-run", action="store_true", help="say what would be written; write nothing")


def main(options: argparse.Namespace) -> int:
    """Carry out what `add_arguments` describes; returns the exit code of the module's description."""
    messages = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        plan = _planned(options)
    except NotFoundError as error:
        messages.print(f"error: {error}")
        return 3
    except ValueError as error:
        messages.print(f"error: {error}")
        return 2
    except OSError as error:
        messages.print(f"error: the originals cannot be looked at: {error}")
        return 3
    try:
        return _carried_out(plan, options, messages)
    except KeyboardInterrupt:
        messages.print("interrupted; the same command continues")
        return 130
    except BrokenProcessPool:
        messages.print("error: a process was killed, by lack of memory perhaps; continue with fewer --processes")
    except (OSError, MemoryError) as error:
        messages.print(f"error: {error or 'out of memory'}; the same command continues once that is put right")
    return 1


def _planned(options: argparse.Namespace) -> Plan:
    """Raises `ValueError` for arguments that do not go together and `NotFoundError` without originals."""
    dataset, root = options.dataset, options.data_root
    if options.processes is not None and options.processes < 1:
        raise ValueError(f"--processes: {options.processes}; at least 1 is needed")
    if dataset != "isaid" and (options.patch is not None or options.overlap is not None):
        raise ValueError(f"--patch and --overlap belong to isaid, not to {dataset}")
    if dataset in ("cityscapes", "coco_stuff164k") and options.source is not None:
        raise ValueError(f"--source: {dataset}'s labels are written beside its originals, below --data-root")
    for folder in (root, options.source or root):
        if not folder.exists():
            raise NotFoundError(f"{folder}: there is no such folder")
    match dataset:
        case "cityscapes":
            return cityscapes(root)
        case "coco_stuff164k":
            return coco_stuff164k(root)
        case "voc2012":
            return voc2012(root, options.source)
        case "pascal_context":
            return pascal_context(root, options.source)
        case "isaid":
            patch = PATCH if options.patch is None else options.patch
            overlap = OVERLAP if options.overlap is None else options.overlap
            return isaid(root, options.source, patch, overlap)
    raise ValueError(f"{dataset!r} is not one of {', '.join(DATASETS)}")


def _carried_out(plan: Plan, options: argparse.Namespace, messages: Console) -> int:
    started = time.monotonic()
    if plan.origin and plan.origin[0].exists() and plan.origin[0].read_text(encoding="utf-8") != plan.origin[1]:
        folder, other = plan.origin[0].parent, plan.origin[0].read_text(encoding="utf-8").strip()
        messages.print(f"error: {folder} holds labels made from {other}, not {plan.origin[1].strip()}; move it away")
        return 1
    for remark in plan.remarks:
        print(f"{options.dataset}: {remark}")
    for problem in plan.problems:
        messages.print(f"problem: {problem}")
    missing = _missing(plan, sweep=not options.dry_run)
    targets = sum(len(job.targets) for job in plan.jobs)
    absent = sum(len(paths) for _, paths in missing)
    lists = [path for path in plan.lists if not path.exists()]
    if options.dry_run:
        example = f", such as {missing[0][1][0]}" if missing else ""
        print(f"would write {absent:,} of {targets:,} files{example}; {targets - absent:,} are there already")
        for path in lists:
            print(f"would write {path}, {len(plan.lists[path]):,} lines")
        return 1 if plan.problems else 0

    if plan.origin and not plan.origin[0].exists() and absent == targets:  # labels that are there are not known
        write_atomically(*plan.origin)
    written, problems = 0, len(plan.problems)
    with _Bar(messages, options.dataset, len(missing)) as bar:
        for outcome in _outcomes([job for job, _ in missing], options.processes or _cores()):
            written += outcome.written
            if outcome.remark:
                bar.say(f"remark: {outcome.remark}")
            if outcome.problem:
                problems += 1
                bar.say(f"problem: {outcome.problem}")
            bar.advance()
    if not problems:
        for path, names in plan.lists.items():
            if problem := _write_list(path, names):
                problems += 1
                messages.print(f"problem: {problem}")
    elif lists:
        messages.print(f"not written before all labels are there: {', '.join(map(str, lists))}")

    if not (written or lists or problems):
        print(f"{options.dataset}: nothing to do, all {targets:,} files are there")
    else:
        seconds = time.monotonic() - started
        there = targets - absent
        print(
            f"{options.dataset}: {written:,} files written to {plan.folder}, {there:,} were there, "
            f"{problems:,} problems ({seconds:,.0f} s)"
        )
    if problems:
        print("Next: put the originals right and run the same command again; it makes what is missing")
        return 1
    print(f"Next: python -m segnext.data check {plan.dataset} --data-root {shlex.quote(str(plan.folder))}")
    return 0


def _missing(plan: Plan, sweep: bool) -> list[tuple[Job, list[Path]]]:
    """The jobs with files that are not there, and these files. Names tell: a file that has its name is whole.

    With `sweep`, what processes left behind that were killed in the middle of a file is removed.
    """
    names: dict[Path, set[str]] = {}
    for folder in {path.parent for job in plan.jobs for path in job.targets}:
        names[folder] = set()
        if folder.is_dir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    names[folder].add(entry.name)
                    if sweep and _TEMPORARY.fullmatch(entry.name):
                        _remove_dead(Path(entry.path))
    missing = []
    for job in plan.jobs:
        if absent := [path for path in job.targets if path.name not in names[path.parent]]:
            missing.append((job, absent))
    return missing


def _remove_dead(path: Path) -> None:
    try:
        if time.time() - path.stat().st_mtime > _DEAD_SECONDS:
            path.unlink()
    except FileNotFoundError:  # its process lives, and has just finished it
        pass


def _write_list(path: Path, names: Sequence[str]) -> str:
    """Writes the names, one a line; a list that is there stays, and is a problem where it names others."""
    if not path.exists():
        write_atomically(path, "".join(f"{name}\n" for name in names))
    elif set(path.read_text(encoding="utf-8", errors="replace").split()) != set(names):
        return f"{path} is there but does not name the {len(names):,} frames that it should; move it away"
    return ""


@dataclass(frozen=True)
class _Outcome:
    """What became of one job."""

    written: int = 0
    problem: str = ""
    remark: str = ""


def _attempt(job: Job) -> _Outcome:
    """Raises `OSError` where a file cannot be written: then no other can be, either."""
    written = 0
    try:
        made = job.convert()
    except DataError as error:
        return _Outcome(problem=str(error))
    for path, pixels in made.files:
        if not path.exists():
            write_atomically(path, _png(pixels))
            written += 1
    return _Outcome(written, remark=made.remark)


def _png(pixels: Pixels) -> memoryview:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getbuffer()


def _outcomes(jobs: Sequence[Job], processes: int) -> Iterator[_Outcome]:
    """What becomes of the jobs, in the order in which they end."""
    processes = min(processes, len(jobs))
    if processes < 2:
        yield from map(_attempt, jobs)
        return
    # spawn: this process has a thread that draws the bar, and threads do not survive a fork.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_leave_with_parent)
    try:
        waiting: set[Future[_Outcome]] = set()
        queue = iter(jobs)
        while True:
            waiting.update(pool.submit(_attempt, job) for job in itertools.islice(queue, 2 * processes - len(waiting)))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        pool.shutdown(cancel_futures=True)  # ends the files under way


def _leave_with_parent() -> None:
    """In a process of the pool: ends it when its parent is killed, and leaves Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Bar:
    """Progress over originals: a bar with rate and time left on a terminal, plain lines in a log."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console, self._title, self._total = console, title, total
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            disable=not (console.is_terminal and total),
        )
        self._task = self._bar.add_task(title, total=total, rate="")
        self._done = 0
        self._started = self._printed = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, message: str) -> None:
        """A line above the bar."""
        self._console.print(message)

    def advance(self) -> None:
        """One more original is done."""
        self._done += 1
        now = time.monotonic()
        rate = self._done / max(now - self._started, 1e-9)
        text = f"{rate:.1f} images/s"
        self._bar.update(self._task, completed=self._done, rate=text)
        if not self._console.is_terminal and now - self._printed >= _PLAIN_SECONDS:
            self._printed = now
            left = (self._total - self._done) / rate
            self._console.print(f"{self._title} {self._done:,}/{self._total:,} {text}, {left:,.0f} s left")
