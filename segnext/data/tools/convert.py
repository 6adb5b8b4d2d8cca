"""Make the labels that training reads from a dataset's original files, where mmsegmentation puts them.

Each file is written atomically, originals are only read, and existing files are kept. So the same command continues an
interrupted conversion, and does nothing after a finished one.
"""

from __future__ import annotations

import functools
import io
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from segnext.data.datasets import ISAID_800_200
from segnext.data.listing import listed
from segnext.data.processes import in_processes
from segnext.data.source import DataError, DataNotFoundError, Pixels, some
from segnext.data.tools.convert_isaid import isaid
from segnext.data.tools.convert_labels import cityscapes, coco_stuff164k, pascal_context, voc2012
from segnext.data.tools.convert_plan import Job, Plan
from segnext.data.tools.progress import Progress
from segnext.files import LEFT_AFTER, TEMPORARY, write_atomically
from segnext.text import printable

_BESIDE: Mapping[str, Callable[[Path], Plan]] = {
    "cityscapes": cityscapes,
    "coco_stuff164k": coco_stuff164k,
    "coco_voc": coco_stuff164k,
}
_ELSEWHERE: Mapping[str, Callable[[Path, Path | None], Plan]] = {
    "isaid": isaid,
    "isaid_800_200": functools.partial(isaid, dataset=ISAID_800_200),
    "pascal_context": pascal_context,
    "voc2012": voc2012,
}
CONVERTED = (*_BESIDE, *_ELSEWHERE)


def planned(dataset: str, root: Path | None, source: Path | None = None) -> Plan:
    """Plan the conversion of a dataset below `root`; `source` is the folder of the originals, if it is elsewhere.

    Raises `ValueError` for a dataset that needs no conversion, or no `source`, and `DataNotFoundError` if originals are
    missing.
    """
    if dataset not in CONVERTED:
        raise ValueError(f"{dataset} needs no conversion; what does is {', '.join(CONVERTED)}")
    if dataset in _BESIDE and source is not None:
        raise ValueError(f"--source: {dataset}'s labels are written beside its originals, below --data-root")
    if root is None:
        raise DataNotFoundError(f"{dataset}: no folder is given; name the one that holds {dataset} (--data-root)")
    for folder in (root, source or root):
        if not folder.exists():
            raise DataNotFoundError(f"{folder}: there is no such folder")
    try:
        return _BESIDE[dataset](root) if dataset in _BESIDE else _ELSEWHERE[dataset](root, source)
    except OSError as error:
        raise DataNotFoundError(f"{dataset}: the originals cannot be looked at: {error}") from error


def convert(plan: Plan, processes: int = 1, dry_run: bool = False) -> int:
    """Carry out a plan and print what was done and what to do next; returns the number of problems.

    A file that cannot be made is a problem, and the others are still made. Raises `OSError` if no file can be written.
    """
    started = time.monotonic()
    if plan.origin and plan.origin[0].exists() and (other := _note(plan.origin[0])) != plan.origin[1]:
        folder, other = plan.origin[0].parent, other.strip()
        _complain(f"error: {folder} holds labels made from {other}, not {plan.origin[1].strip()}; move it away")
        return 1
    for remark in plan.remarks:
        print(f"{plan.dataset}: {remark}")
    for problem in plan.problems:
        _complain(f"problem: {problem}")
    missing = _missing(plan, sweep=not dry_run)
    targets = sum(len(job.targets) for job in plan.jobs)
    absent = sum(len(paths) for _, paths in missing)
    lists = [path for path in plan.lists if not path.exists()]
    if dry_run:
        example = f", such as {missing[0][1][0]}" if missing else ""
        print(f"would write {absent:,} of {targets:,} files{example}; {targets - absent:,} are there already")
        for path in lists:
            print(f"would write {path}, {len(plan.lists[path]):,} lines")
        return len(plan.problems)

    if plan.origin and not plan.origin[0].exists() and absent == targets:  # the origin of existing labels is unknown
        write_atomically(*plan.origin)
    written, problems = 0, len(plan.problems)
    with Progress(f"{plan.dataset} originals converted", len(missing)) as progress:
        for outcome in in_processes(_attempt, [job for job, _ in missing], processes):
            written += outcome.written
            if outcome.remark:
                progress.say(f"remark: {printable(outcome.remark, 2000)}")
            if outcome.problem:
                problems += 1
                progress.say(f"problem: {printable(outcome.problem, 2000)}")
            progress.advance()
    if not problems:
        for path, names in plan.lists.items():
            if problem := _write_list(path, names):
                problems += 1
                _complain(f"problem: {problem}")
    elif lists:
        _complain(f"not written before all labels are there: {', '.join(map(str, lists))}")

    if not (written or lists or problems):
        print(f"{plan.dataset}: nothing to do, all {targets:,} files are there")
    else:
        seconds = time.monotonic() - started
        there = targets - absent
        print(
            f"{plan.dataset}: {written:,} files written to {plan.folder}, {there:,} were there, "
            f"{problems:,} problems ({seconds:,.0f} s)"
        )
    if problems:
        print("Next: put the originals right and run the same command again; it makes what is missing")
    else:
        print(f"Next: python -m segnext.data check {plan.dataset} --data-root {shlex.quote(str(plan.folder))}")
    return problems


def _note(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _complain(message: str) -> None:
    print(printable(message, 2000), file=sys.stderr)


def _missing(plan: Plan, sweep: bool) -> list[tuple[Job, list[Path]]]:
    """The jobs with missing files, and these files. Names are enough: a file under its final name is complete.

    With `sweep`, delete temporary files of processes that were killed while they wrote.
    """
    names: dict[Path, set[str]] = {}
    for folder in {path.parent for job in plan.jobs for path in job.targets}:
        names[folder] = set()
        if folder.is_dir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    names[folder].add(entry.name)
                    if sweep and TEMPORARY.fullmatch(entry.name):
                        _remove_dead(Path(entry.path))
    missing = []
    for job in plan.jobs:
        if absent := [path for path in job.targets if path.name not in names[path.parent]]:
            missing.append((job, absent))
    return missing


def _remove_dead(path: Path) -> None:
    try:
        if time.time() - path.stat().st_mtime > LEFT_AFTER:
            path.unlink()
    except FileNotFoundError:  # its process is alive and has just finished the file
        pass


def _write_list(path: Path, names: Sequence[str]) -> str:
    """Write the names, one per line. An existing list is kept; if it has other names, return the problem."""
    if not path.exists():
        write_atomically(path, "".join(f"{name}\n" for name in names))
    elif others := listed(path) - set(names):
        return f"{path} is there but names {some(sorted(others))}, which it should not; take them out, or move it away"
    return ""


@dataclass(frozen=True)
class _Outcome:
    """The outcome of one job."""

    written: int = 0
    problem: str = ""
    remark: str = ""


def _attempt(job: Job) -> _Outcome:
    """Run a job. Raises `OSError` if a file cannot be written, because then no other can be, either."""
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
