"""One process of a small training, for the tests that kill, stop and share it: `python tests/trainer.py OPTIONS`.

OPTIONS is JSON. Prints a line of JSON for every step and one at the end; exits 5 when it was stopped and 3 when the
loss was not finite, then with the message.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import resource
import signal
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch

from segnext import Data, Execution, Model, Run, Train
from segnext.data import cached, open_split
from segnext.distributed import distributed
from segnext.training.train import READ_LATE, Diverged, Stopped, train

DATA = Data("diagnostic/scene", 7, (96, 96), (64, 64), ratio=(0.75, 1.5), generator="1")
RUN = Run("test", 1, Model("micro", drop_path=0.2), DATA, Train(iterations=10, batch=8, warmup_iterations=2), seed=3)


def say(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")  # in one piece: torchrun gives its processes one pipe
    sys.stdout.flush()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlySource:
    """A source whose n-th load kills the process that loads."""

    def __init__(self, source, after: int) -> None:
        self._source, self._left = source, after
        self.fingerprint, self.contents = source.fingerprint, source.contents

    def __len__(self) -> int:
        return len(self._source)

    def load(self, index: int):
        self._left -= 1
        if self._left < 0:
            kill()
        return self._source.load(index)


def main(options: dict) -> int:
    torch.set_num_threads(1)
    READ_LATE["cpu"] = options.get("late", 0)
    changes = options.get("train", {})
    model = dataclasses.replace(RUN.model, **options.get("model", {}))
    run = dataclasses.replace(RUN, model=model, train=dataclasses.replace(RUN.train, **changes))
    source = cached(open_split(DATA, "train", None))
    if "die_in_load" in options:
        source = DeadlySource(source, options["die_in_load"])
    if "die_in_write" in options:
        calls, fsync = iter(range(options["die_in_write"])), os.fsync
        os.fsync = lambda file: kill() if next(calls, None) is None else fsync(file)
    if "largest_file" in options:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (options["largest_file"], resource.RLIM_INFINITY))
    asked: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, frame: asked.append(number))
    timeout = timedelta(seconds=options.get("timeout", 120))
    steps = 0

    def stop() -> bool:  # called in every process, once a step
        nonlocal steps
        steps += 1
        rank = os.environ.get("RANK", "0")
        if steps == options.get("die_in_step", {}).get(rank):
            kill()
        if steps == options.get("signal_in_step", {}).get(rank):
            os.kill(os.getpid(), signal.SIGUSR2)
        if steps == options.get("hang_in_step", {}).get(rank):
            os.kill(os.getpid(), signal.SIGSTOP)
        return bool(asked) or steps == options.get("stop", {}).get(rank)

    with distributed("cpu", options.get("processes", 1), timeout) as world:
        try:
            trained, _ = train(
                run,
                source,
                Path(options["folder"]),
                Execution(**{"checkpoint_interval": 2, **options.get("execution", {})}),
                world=world,
                on_step=lambda step: say(rank=world.rank, iteration=step.iteration, loss=step.loss),
                stop=stop,
            )
        except Stopped as stopped:
            say(rank=world.rank, stopped=str(stopped))
            return 5
        except Diverged as diverged:
            say(rank=world.rank, diverged=str(diverged))
            return 3
    content = hashlib.sha256()
    for tensor in trained.state_dict().values():
        content.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    say(rank=world.rank, size=world.size, weights=content.hexdigest())
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
