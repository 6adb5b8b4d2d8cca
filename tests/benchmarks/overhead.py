"""What the harness costs beside the steps: its commands, a worker's start, and what comes with every step.

`python tests/benchmarks/overhead.py [--step SECONDS]`. A paper-size step (16 images of 512x512) is measured where there
is a GPU; elsewhere `--step` is the step that the shares are of.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "benchmarks")]

COMMANDS = ("studies.run --help", "studies.list", "studies.status", "studies.show table6/full")

START = """
import sys, time
born = float(sys.argv[1])
told = []
def now(what):
    told.append((what, time.time()))
now("Python")
import studies.worker
now("the study layer")
import torch
now("torch")
import segnext.training.train, segnext.testing.evaluate, segnext.data.stream
now("the trainer")
from segnext.config import Execution
from segnext.data import cached, open_split
from segnext.data.stream import Loading, Share
from segnext.stochastic import numbers_needed, set_per_sample_randomness
from segnext.measure.machine import keep_freed
from studies.plan import plan, select
from studies.declare.protocols import protocol
from studies.records.store import Store
keep_freed()
torch.set_num_threads(1)
chosen = protocol("quick")
run = plan(select(["table7/c"], chosen, None, range(1)), chosen, None, Store())[0].run
now("the plan")
source = cached(open_split(run.data, run.data.train_split, None))
source.fingerprint()
now("the data")
model = segnext.training.train.build(run)
this = segnext.training.train.task(run, source)
optimiser = torch.optim.AdamW(this.groups(model.train()), fused=True)
now("the network")
batch = next(iter(this.batches(0, Share(), Loading(numbers=(run.seed, numbers_needed(model))))))
now("the first batch")
set_per_sample_randomness(model, batch.numbers)
this.loss(model, batch.images.contiguous(memory_format=torch.channels_last), batch.labels).backward()
optimiser.step()
now("the first step")
before = born
for what, at in told:
    print(f"{what}\\t{at - before:.3f}")
    before = at
"""


def seconds(work: Callable[[], object], repeat: int = 5) -> float:
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def commands(folder: Path) -> None:
    environment = {**os.environ, "SEGNEXT_RUNS": str(folder / "runs")}
    for command in COMMANDS:
        words = [sys.executable, "-m", *command.split()]

        def call(words: list[str] = words) -> None:
            subprocess.run(words, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.DEVNULL)

        print(f"python -m {command:22} {seconds(call):6.2f} s", flush=True)


def start() -> None:
    turns = []
    for _ in range(5):
        words = [sys.executable, "-c", START, str(time.time())]
        told = subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
        turns.append([line.split("\t") for line in told.splitlines()])
    names = [name for name, _ in turns[0]]
    medians = [statistics.median(float(turn[place][1]) for turn in turns) for place in range(len(names))]
    for name, median in zip(names, medians, strict=True):
        print(f"a worker's start: {name:16} {median:6.2f} s")
    print(f"a worker's start: {'in all':16} {sum(medians):6.2f} s", flush=True)


def each_step(folder: Path, step: float) -> None:
    """Reports, the curve, heartbeats, and checkpoints of every size of the network."""
    import torch

    from segnext.config import SIZES, Model
    from segnext.model import SegNeXt
    from segnext.training.state import save_state
    from segnext.training.train import CHECKPOINT_INTERVAL, CHECKPOINT_SHARE
    from studies.records.workspace import BEAT_SECONDS, Workspace

    os.environ["SEGNEXT_RUNS"] = str(folder / "runs")
    workspace = Workspace("0" * 12)
    workspace.folder.mkdir(parents=True)

    def report() -> None:
        workspace.report("train", 1, 160_000, loss=1.0, rate=1.0)

    def draw() -> None:
        with open(workspace.curve, "a") as file:
            file.write(
                json.dumps({"iteration": 1, "loss": 1.0, "learning_rate": 1e-5, "images_per_second": 1.0}) + "\n"
            )

    quiet = seconds(report, 1000)
    written = seconds(lambda: workspace.report("train", 1, 160_000, force=True, loss=1.0, rate=1.0), 50)
    line = seconds(draw, 200)
    beat = seconds(lambda: os.utime(workspace.folder), 200)
    a_step = quiet + line / 10 + (written / 0.5 + beat / BEAT_SECONDS) * step
    print(f"reports, curve and heartbeat: {1e3 * a_step:.3f} ms a step, {a_step / step:.3%} of a step of {step:g} s")
    for size in SIZES:
        if size not in "TSBL":
            continue
        network = SegNeXt(Model(size), 150)
        optimiser = torch.optim.AdamW(network.parameters(), fused=True)
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
        state = {"model": network.state_dict(), "optimiser": optimiser.state_dict()}
        took = seconds(lambda state=state: save_state(folder / "states", 1, state), 3)
        every = max(CHECKPOINT_INTERVAL * step, took / CHECKPOINT_SHARE)
        print(f"a checkpoint of {size}: {took:.2f} s, so every {every:.0f} s or more: {took / every:.2%} of the time")


def epoch_ends() -> None:
    """The longest wait for a batch at the end of an epoch beside the longest within one, workers loading ahead."""
    import numpy as np

    from segnext.config import Data
    from segnext.data.stream import Loading, stream

    class Small:
        """Sixteen images: an epoch is four batches of four."""

        classes, labelled = ("a", "b"), True

        def __len__(self) -> int:
            return 16

        def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            random = np.random.default_rng(index)
            return random.integers(0, 256, (360, 480, 3), np.uint8), random.integers(0, 2, (360, 480), np.uint8)

    data = Data("camvid", 2, (480, 360), (360, 480))
    waits: dict[bool, list[float]] = {False: [], True: []}
    started = time.perf_counter()
    for batch in stream(data, Small(), 0, 4, 0, 200, Loading(2)):
        waited, first_of_epoch = time.perf_counter() - started, batch.iteration % 4 == 0
        if batch.iteration >= 8:
            waits[first_of_epoch].append(waited)
        time.sleep(0.04)  # the step
        started = time.perf_counter()
    medians = {key: 1e3 * statistics.median(found) for key, found in waits.items()}
    print(
        f"waiting for a batch: {medians[True]:.2f} ms as an epoch begins, {medians[False]:.2f} ms within one (medians)"
    )


def main() -> None:
    """Print a line per figure."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--step", type=float, default=0.1)
    options = parse.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands(Path(folder))
        start()
        each_step(Path(folder), options.step)
        epoch_ends()


if __name__ == "__main__":
    main()
