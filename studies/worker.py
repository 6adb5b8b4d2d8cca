"""One job = one run: `python -m studies.worker RUN_ID`. What to do and where to resume is read from disk at its start.

Exit codes: 0 the record exists, 1 failed (the attempt says why), 5 stopped by a signal and resumable.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from segnext.config import Cost, Execution, Run, canonical
from segnext.data import DataError, Source, open_split
from segnext.files import write_atomically
from studies.protocols import protocol
from studies.provenance import provenance
from studies.store import Store
from studies.study import study
from studies.workspace import Claimed, Workspace

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
CURVE_COLUMNS = ("iteration", "loss", "learning_rate", "images_per_second")


def specification(
    study_slug: str,
    dataset: str,
    row: str,
    run: Run,
    data_root: Path | None,
    execution: dict[str, Any],
    command: str,
) -> dict[str, Any]:
    """What a worker needs to know, as JSON."""
    return {
        "study": study_slug,
        "dataset": dataset,  # the panel of the table; what the run is trained on is the protocol's
        "row": row,
        "protocol": run.protocol,
        "seed": run.seed,
        "iterations": run.train.iterations,
        "data_root": str(data_root) if data_root else None,
        "execution": execution,
        "command": command,
    }


def specified_run(spec: dict[str, Any]) -> Run:
    """The run that a specification means, by today's declarations."""
    declared = study(spec["study"])
    panel = declared.panel(spec["dataset"])
    return protocol(spec["protocol"]).run(panel, declared.row(spec["row"]), spec["seed"], spec["iterations"])


def work(run_id: str, asked_to_stop: Callable[[], bool]) -> int:
    """Train and evaluate a run and write its record; returns the exit code."""
    from segnext.train import Stopped

    workspace = Workspace(run_id)
    spec = workspace.read_spec()
    try:
        with workspace.claim():
            if Store().path(run_id).exists():
                return 0
            with workspace.attempt() as attempt:
                try:
                    run = specified_run(spec)
                    if run.id != run_id:
                        raise ValueError(f"what was planned as {run_id} is declared as {run.id} now; start it again")
                    Store().add(_measure(run, spec, workspace, asked_to_stop))
                except Stopped as stopped:
                    attempt.update(cause="stopped", message=str(stopped))
                    print(stopped, flush=True)
                    return 5
                except Exception as error:
                    attempt.update(cause=_cause(error), message=str(error).strip().split("\n")[0])
                    traceback.print_exc()
                    return 1
                attempt.update(cause="done")
                return 0
    except Claimed as claimed:
        print(claimed, file=sys.stderr)
        return 1


def _measure(run: Run, spec: dict[str, Any], workspace: Workspace, asked_to_stop: Callable[[], bool]) -> dict[str, Any]:
    import torch

    from segnext.cost import measure
    from segnext.data import cached
    from segnext.evaluate import evaluate
    from segnext.metrics import Score
    from segnext.train import Step, Stopped, train

    execution = Execution(**spec["execution"])
    torch.set_num_threads(execution.threads)
    started = time.time()
    root = Path(spec["data_root"]) if spec["data_root"] else None
    training = cached(open_split(run.data, run.data.train_split, root))
    testing = open_split(run.data, run.data.test_split, root)

    workspace.report("train", workspace.last_state(), run.train.iterations, force=True)
    _forget_after(workspace.curve, workspace.last_state())
    last: Step | None = None

    def on_step(step: Step) -> None:
        nonlocal last
        last = step
        workspace.report("train", step.iteration, run.train.iterations, loss=step.loss, rate=step.images_per_second)
        if step.iteration % execution.log_interval == 0 or step.iteration == run.train.iterations:
            line = [step.iteration, step.loss, step.learning_rate, step.images_per_second]
            with open(workspace.curve, "a") as file:
                file.write(json.dumps(dict(zip(CURVE_COLUMNS, line, strict=True))) + "\n")

    model, seconds = train(run, training, workspace.states, execution, on_step=on_step, stop=asked_to_stop)

    def watch(phase: str) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            workspace.report(phase, done, total)
            if asked_to_stop():
                raise Stopped(f"stopped in {phase}; the training is saved and the same command continues")

        return progress

    device = torch.device(execution.device)

    def score(phase: str, multi_scale: bool) -> Score:
        return evaluate(
            model,
            testing,
            run.data,
            multi_scale=multi_scale,
            batch=execution.evaluation_batch,
            device=device,
            progress=watch(phase),
        )

    single, multi = score("evaluate SS", multi_scale=False), score("evaluate MS", multi_scale=True)
    trained = measure(Cost(run.model, run.data.classes, *run.data.crop))

    curve = [json.loads(line) for line in workspace.curve.read_text().splitlines()]
    text = ",".join(CURVE_COLUMNS) + "\n"
    text += "".join(",".join(repr(point[key]) for key in CURVE_COLUMNS) + "\n" for point in curve)
    write_atomically(Store().folder / "curves" / f"{run.id}.csv", text)
    return {
        "id": run.id,
        "kind": "run",
        "config": canonical(run),
        "metrics": {
            "miou_ss": single.miou,
            "miou_ms": multi.miou,
            "pixel_accuracy": single.pixel_accuracy,
            "iou": single.iou,
            "iou_ms": multi.iou,
        },
        "classes": list(training.classes),
        "trained": {
            "params": trained.params,
            "gmacs": trained.gmacs,
            "gmacs_fvcore": trained.gmacs_fvcore,
            "height": run.data.crop[0],
            "width": run.data.crop[1],
        },
        "training": {
            "iterations": run.train.iterations,
            "seconds": round(seconds, 3),
            "images_per_second": round(run.train.iterations * run.train.batch / seconds, 3),
            "final_loss": curve[-1]["loss"],
        },
        "provenance": {
            **provenance(),
            "command": spec["command"],
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": execution.threads,
            "data": _data_provenance(training, testing),
            "started": _timestamp(min([started, *(attempt["started"] for attempt in workspace.attempts())])),
            "finished": _timestamp(time.time()),
            "attempts": len(workspace.attempts()),
        },
    }


def _data_provenance(training: Source, testing: Source) -> dict[str, Any]:
    return {
        "train_images": len(training),
        "train_fingerprint": training.fingerprint(),
        "test_images": len(testing),
        "test_fingerprint": testing.fingerprint(),
    }


def _timestamp(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _forget_after(curve: Path, iteration: int) -> None:
    """Drop the curve's lines that the training will draw again, and a line torn by a kill."""
    kept = []
    for line in curve.read_text().splitlines() if curve.exists() else []:
        try:
            point = json.loads(line)
        except ValueError:
            continue
        if point["iteration"] <= iteration:
            kept.append(line + "\n")
    write_atomically(curve, "".join(kept))


def _cause(error: Exception) -> str:
    """Why an attempt failed, in a word that decides what to do next."""
    if isinstance(error, DataError):
        return "data"
    if isinstance(error, ArithmeticError):
        return "diverged"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk full"
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES):
        return "not writable"
    return "code"


def main(run_id: str) -> int:
    """Work on the run until it is done, a signal asks to stop, or the process that started this one is gone."""
    stopping = False
    parent = os.getppid()

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    return work(run_id, lambda: stopping or os.getppid() != parent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
