"""What a worker prints, and the end of it that is kept beside the record: results/logs/RUN.txt.gz.

Records are committed, and so are these: no host, and no path but from the repository, the data or the runs.
"""

from __future__ import annotations

import gzip
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segnext.config import Run
from segnext.files import write_atomically
from studies.records.store import REPOSITORY, results_folder, runs_folder
from studies.records.workspace import Workspace

if TYPE_CHECKING:
    from segnext.training.train import Step

LINES, LONGEST = 200, 500
"""What is kept: so many lines, none longer than so many characters."""

READ = 1 << 18
"""Bytes of a log's end that are looked at."""

STEPS = 50
"""So many steps of a training are printed, evenly spread, and its last one."""


def say_step(run: Run, step: Step, every: int) -> None:
    """Print where the training is: about `STEPS` times a run, at steps of which the curve has a line (each `every`)."""
    iterations = run.train.iterations
    between = every * max(1, round(iterations / STEPS / every))
    if step.iteration % between == 0 or step.iteration == iterations:
        say(
            f"iteration {step.iteration:,} of {iterations:,}: loss {step.loss:.4f}, "
            f"learning rate {step.learning_rate:.3g}, {step.images_per_second:.1f} images/s"
        )


def say_result(record: dict[str, Any]) -> None:
    """Print what the test gave: the numbers of the whole split."""
    numbers = {name: value for name, value in record.get("metrics", {}).items() if isinstance(value, float)}
    say(", ".join(f"{name} {value:.2f}" for name, value in numbers.items()) or "tested: no score of its own")


def say(text: str) -> None:
    """Print a line with the time, into the run's log."""
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}", flush=True)


def keep_tail(workspace: Workspace) -> None:
    """Keep the end of what a run has printed, compressed, always to the same bytes; nothing where there is no log."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        with open(workspace.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - READ))
            text = file.read().decode(errors="replace")
    except OSError:
        return
    lines = [line[:LONGEST] for line in text.splitlines()[-LINES:]]
    for pattern, word in _private(workspace):
        lines = [pattern.sub(word, line) for line in lines]
    if lines:
        content = gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)
        write_atomically(results_folder() / "logs" / f"{workspace.run_id}.txt.gz", content)


def _private(workspace: Workspace) -> Iterator[tuple[re.Pattern[str], str]]:
    """What is not to be read in public, the longest first, and what stands in its place."""
    folders = {
        Path.cwd(): ".",
        REPOSITORY: ".",
        runs_folder(): "RUNS",
        results_folder(): "RESULTS",
        Path(sys.prefix): "PYTHON",
        Path(sys.base_prefix): "PYTHON",
        Path.home(): "HOME",
        **({Path(root): "DATA"} if (root := workspace.told().data_root) else {}),
    }
    attempts = workspace.attempts()
    hosts = {socket.gethostname(), socket.getfqdn(), os.environ.get("SLURMD_NODENAME", "")}
    hosts |= {name for attempt in attempts for name in (attempt.host, attempt.node)}
    places = {str(folder): word for folder, word in folders.items() if len(folder.parts) > 1}
    for path in sorted(places, key=len, reverse=True):
        yield re.compile(rf"{re.escape(path)}(?![\w.-])"), places[path]
    yield from ((re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])"), "HOST") for name in _longest_first(hosts))


def _longest_first(names: Iterable[str]) -> list[str]:
    return sorted(filter(None, names), key=len, reverse=True)
