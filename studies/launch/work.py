"""What a worker does for one run, or for one test of finished weights: train, test, and write the record.

What to do and where to resume is read from disk at its start.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segnext.config import ClassificationData, Cost, Data, Evaluation, Run, Weights, canonical
from segnext.data import Source, cached, open_split
from segnext.data.generated.diagnostic import GeneratedSource
from segnext.data.imagenet import ClassFolderSource
from studies.launch.curve import CURVE_COLUMNS, Curve
from studies.launch.tail import keep_tail, say, say_result, say_step
from studies.plan.jobspec import specified_evaluation, specified_run
from studies.plan.runs import metrics_shown
from studies.plan.state import superseded
from studies.plan.weights import pretrained_file, sha256, verified
from studies.records.causes import UpstreamMissing, cause_of, oom_kills
from studies.records.provenance import code_fingerprint, provenance
from studies.records.store import Store
from studies.records.working_state import Progress, job, timestamp
from studies.records.workspace import SILENT_AFTER, Claimed, Workspace
from studies.tables import study

if TYPE_CHECKING:
    from torch import nn

    from segnext.distributed import World
    from segnext.testing.metrics import Score
    from segnext.training.train import Step


def work(
    identifier: str,
    asked_to_stop: Callable[[], bool],
    world: World | None = None,
    why: Callable[[], str] = lambda: "stopped",
    root: Path | None = None,
) -> int:
    """Train and evaluate a run, or test finished weights, and write the record; returns the exit code.

    In a world of several processes the first owns the run and writes; the others only compute, and leave with it.
    `why` is the cause that `asked_to_stop` has, `root` the folder with the data instead of the planned one.
    """
    from segnext.distributed import World
    from segnext.training.state import load_state
    from segnext.training.train import Stopped

    world = world or World()
    if not world.first:
        return _help(identifier, asked_to_stop, world, root)
    workspace = Workspace(identifier)
    begun = False
    try:
        with workspace.claim(patience=2 * SILENT_AFTER if job() else 0.0):
            if _finished(workspace):
                return 0
            load_state(workspace.states, put_aside=True)  # from here on the names say what can be loaded
            killed_before = oom_kills()
            with workspace.attempt(code=code_fingerprint("run"), **_resources(workspace, world)) as attempt:
                try:
                    this = _Job(workspace, lambda: asked_to_stop() or workspace.lost, world, root)
                    begun = all(world.gather(True))
                    if (record := this.record()) is not None:
                        say_result(record)
                        keep_tail(workspace)
                        Store().add(record)
                except Stopped as stopped:
                    attempt.cause, attempt.message = why(), str(stopped)
                    print(stopped, flush=True)
                    return 5
                except Exception as error:
                    attempt.cause = cause_of(error, out_of_memory=oom_kills() > killed_before)
                    attempt.message = str(error).strip().split("\n")[0]
                    traceback.print_exc()
                    return 1
                attempt.cause = "trained" if record is None else "done"
                return 0
    except Claimed as claimed:
        print(claimed, file=sys.stderr)
        return 1
    finally:
        if not begun:
            world.gather(False)  # the others wait to hear whether there is something to do


def _finished(workspace: Workspace) -> bool:
    """Whether there is nothing left to do: a record that this run was not asked to replace."""
    store = Store()
    return store.path(workspace.run_id).exists() and not superseded(workspace, store)


def _resources(workspace: Workspace, world: World) -> dict[str, int]:
    """What an attempt costs while it lasts."""
    on_gpu = workspace.told().execution.device.startswith("cuda")
    return {"processes": world.size, "gpus": world.size if on_gpu else 0, "sharing": _sharing() if on_gpu else 1}


def _sharing() -> int:
    """How many runs the card of this process was given to."""
    return max(1, int(os.environ.get("SEGNEXT_SHARING", "1")))


def _help(identifier: str, asked_to_stop: Callable[[], bool], world: World, root: Path | None) -> int:
    from segnext.training.train import Stopped

    if not all(world.gather(True)):
        return 0
    try:
        _Job(Workspace(identifier), asked_to_stop, world, root).record()
    except Stopped:
        return 5
    return 0


class _Job:
    """What a worker does for one run. `ValueError` where today's declarations mean another one than was planned."""

    def __init__(
        self, workspace: Workspace, asked_to_stop: Callable[[], bool], world: World, root: Path | None
    ) -> None:
        import torch

        from segnext.precision import set_up

        self._workspace, self._asked_to_stop, self._world = workspace, asked_to_stop, world
        self._spec = spec = workspace.told()
        self._run = specified_run(spec)
        self._evaluation = specified_evaluation(spec, self._run)
        declared = (self._evaluation or self._run).id
        if declared != workspace.run_id:
            raise ValueError(f"what was planned as {workspace.run_id} is {declared} now; start it again")
        self._execution = spec.execution
        self._device = torch.device(self._execution.device)
        self._root = root or (Path(spec.data_root) if spec.data_root else None)
        self._started = time.time()
        tensorboard = workspace.folder / "tensorboard" if spec.tensorboard else None
        self._curve = Curve(workspace.curve, tensorboard)
        torch.set_num_threads(self._execution.threads)
        set_up(self._execution)  # a test without a training, too: torch's own default is TF32 in convolutions

    def record(self) -> dict[str, Any] | None:
        """Do the work; returns what the first process writes, None where it is not the time yet."""
        return self._test(self._evaluation) if self._evaluation else self._train()

    def _train(self) -> dict[str, Any] | None:
        """Train the run, keep its weights, test them, unless that is for another job."""
        from segnext.measure.cost import measure
        from segnext.released_weights import save_released

        run, workspace, first = self._run, self._workspace, self._world.first
        training = open_split(run.data, run.data.train_split, self._root)
        if not isinstance(training, ClassFolderSource):
            training = cached(training)
        initial, beginning = self._beginning()
        if first:
            workspace.report(Progress("train", workspace.last_state(), run.train.iterations), force=True)
            say(f"{self._spec.study}/{self._spec.row}@{run.seed} on {run.data.dataset}: run {run.id}")
        testing = open_split(run.data, run.data.test_split, self._root)
        model, seconds = self._fit(training, testing, initial)
        supersedes = self._spec.supersedes
        if first:
            # Once more if they are there: the record's digest is of these.
            save_released(model, workspace.weights, {"run": canonical(run)})
        if self._spec.train_only:
            return None
        tested = self._tested(model, testing)
        if not first:
            return None
        trained = measure(Cost(run.model, run.data.classes, *run.data.crop, task=run.task))
        return {
            "id": run.id,
            "kind": "run",
            "config": canonical(run),
            **tested,
            "weights": {"name": workspace.weights.name, "sha256": sha256(workspace.weights)},
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
                "final_loss": self._curve.keep(Store().folder / "curves", self._run.id),
            },
            "provenance": {
                **self._provenance("run"),
                **({"supersedes": supersedes} if supersedes else {}),
                "initial": beginning,
                "data": {**_data_facts("train", training), **_data_facts("test", testing)},
            },
        }

    def _fit(
        self, training: Source | ClassFolderSource, testing: Source | ClassFolderSource, initial: dict[str, Any] | None
    ) -> tuple[nn.Module, float]:
        """Train to the end, with a test every so often.

        For a test the training stops as for a signal, and goes on from its state: to the same bits, as tests hold.
        """
        from segnext.training.train import Stopped, train

        leaving = False

        def stop() -> bool:  # asked once after every step
            nonlocal leaving
            leaving = leaving or self._asked_to_stop()
            return leaving

        while True:
            self._test_midway(testing, self._settled(training))
            try:
                return train(
                    self._run,
                    training,
                    self._workspace.states,
                    self._execution,
                    initial=initial,
                    world=self._world,
                    on_step=self._draw,
                    stop=stop,
                    pause_every=self._execution.evaluation_interval,
                )
            except Stopped:
                if any(self._world.gather(leaving)):
                    raise

    def _settled(self, training: Source | ClassFolderSource) -> int:
        """After how many iterations the training goes on; the curve ends there. A state's name alone is no proof."""
        from segnext.training.state import load_state
        from segnext.training.train import identity_of, require_same_data

        done, states = 0, self._workspace.states
        if self._world.first:
            if (state := load_state(states, put_aside=True)) is not None:
                require_same_data(state, identity_of(training), states)
                done = state["iteration"]
            self._curve.forget_after(done)
        return self._world.gather(done)[0]

    def _test_midway(self, testing: Source | ClassFolderSource, done: int) -> None:
        """Add a single-scale test of the state after `done` iterations to the curve, where it is due and not there."""
        from segnext.model import build_network
        from segnext.training.state import load_state

        run, interval = self._run, self._execution.evaluation_interval
        unlabelled = not isinstance(testing, ClassFolderSource) and not testing.labelled
        if unlabelled or not interval or not done or done % interval or done == run.train.iterations:
            return
        there = self._world.first and any(p["iteration"] == done and "loss" not in p for p in self._curve.points())
        state = load_state(self._workspace.states)
        if self._world.gather(there)[0] or state is None or state["iteration"] != done:
            return
        model = build_network(run.model, run.data.classes, run.task)
        model.load_state_dict(state["model"])
        model.to(self._device)
        metrics: dict[str, float | None]
        if isinstance(testing, ClassFolderSource):
            metrics = {"top1": self._top1(model, testing)}
        else:
            assert isinstance(run.data, Data)
            metrics = {"miou_ss": self._score(model, testing, run.data, 0, multi_scale=False).miou}
        if self._world.first:
            self._curve.add({"iteration": done, **metrics})
            say(f"iteration {done:,}: {metrics}")

    def _test(self, evaluation: Evaluation) -> dict[str, Any]:
        """Test finished weights: a run's own once more, or a file's."""
        from segnext.model import build_network
        from segnext.released_weights import load_file, load_released

        run = self._run
        path = Path(self._spec.weights) if self._spec.weights else Workspace(run.id).weights
        if isinstance(evaluation.weights, Weights):
            digest = verified(path, evaluation.weights.sha256, path.name)
        else:
            digest = verified(path, Store().weights_digest(run.id), f"run {run.id}")
        model = build_network(evaluation.model, run.data.classes, run.task)
        load_released(model, load_file(path), path.name)
        testing = open_split(run.data, run.data.test_split, self._root)
        return {
            "id": evaluation.id,
            "kind": "evaluation",
            "config": canonical(evaluation),
            **({"stands_for": run.id} if isinstance(evaluation.weights, Weights) else {}),
            **self._tested(model.to(self._device), testing, evaluation.ham_seed),
            "weights": {"name": path.name, "sha256": digest},
            "provenance": {**self._provenance("evaluation"), "data": _data_facts("test", testing)},
        }

    def _beginning(self) -> tuple[dict[str, Any] | None, dict[str, str] | None]:
        """The weights that training starts from, and what a record says of them."""
        from segnext.released_weights import load_file

        init = self._run.init
        if init is None:
            return None, None
        if isinstance(init, Run):
            path, store = Workspace(init.id).weights, Store()
            if store.digest(init.id) is None or not path.exists():
                raise UpstreamMissing(
                    f"run {init.id} ({init.data.dataset}), which this one starts from, did not finish"
                )
            digest = verified(path, store.weights_digest(init.id), f"run {init.id}")
        else:
            path = pretrained_file(Path(self._spec.pretrained or "."), init)
            digest = sha256(path)
        return load_file(path), {"name": init.id if isinstance(init, Run) else path.name, "sha256": digest}

    def _draw(self, step: Step) -> None:
        """Report a step, and every so often add it to the curve."""
        iterations = self._run.train.iterations
        self._workspace.report(Progress("train", step.iteration, iterations, step.loss, step.images_per_second))
        if step.iteration % self._execution.log_interval == 0 or step.iteration == iterations:
            line = [step.iteration, step.loss, step.learning_rate, step.images_per_second]
            self._curve.add(dict(zip(CURVE_COLUMNS, line, strict=True)))
            say_step(self._run, step, self._execution.log_interval)

    def _tested(self, model: nn.Module, testing: Source | ClassFolderSource, ham_seed: int = 0) -> dict[str, Any]:
        """The parts of a record that a test gives."""
        if isinstance(testing, ClassFolderSource):
            return {"metrics": {"top1": self._top1(model, testing)}, "classes": list(testing.classes)}
        data = self._run.data
        assert isinstance(data, Data)
        if not testing.labelled:
            return self._predicted(model, testing, data)
        single = self._score(model, testing, data, ham_seed, multi_scale=False)
        found: dict[str, Any] = {
            "metrics": {
                "miou_ss": single.miou,
                "pixel_accuracy": single.pixel_accuracy,
                "mean_accuracy": single.mean_accuracy,
                "boundary_miou": single.boundary_miou,
                "iou": single.iou,
                "accuracy": single.accuracy,
                "boundary_iou": single.boundary_iou,
            },
            "classes": list(testing.classes),
            # A row a line: as numbers, a line each, 171 classes would take 30,000 lines.
            "confusion": [" ".join(map(str, row)) for row in single.confusion],
        }
        if self._execution.multi_scale or "miou_ms" in metrics_shown(self._run):
            multi = self._score(model, testing, data, ham_seed, multi_scale=True)
            found["metrics"] |= {"miou_ms": multi.miou, "iou_ms": multi.iou}
            found["confusion_ms"] = [" ".join(map(str, row)) for row in multi.confusion]
        return {**found, **self._by_distance(model, testing, data, ham_seed)}

    def _by_distance(self, model: nn.Module, testing: Source, data: Data, ham_seed: int) -> dict[str, Any]:
        """Of generated images: pixels, and those predicted right, by whole distance to the cue that decides them."""
        from segnext.testing.by_distance import by_distance
        from segnext.testing.evaluate import predictions

        if not isinstance(testing, GeneratedSource) or self._world.size > 1:
            return {}
        predicted = predictions(
            model,
            testing,
            data,
            batch=self._execution.evaluation_batch,
            device=self._device,
            ham_seed=ham_seed,
            workers=self._execution.workers,
        )
        pixels, right = by_distance(predicted, lambda number: testing.picture(number).distance)
        farthest = int(pixels.nonzero()[0].max(initial=0)) + 1
        return {"cue": {"pixels": " ".join(map(str, pixels[:farthest])), "right": " ".join(map(str, right[:farthest]))}}

    def _score(self, model: nn.Module, testing: Source, data: Data, ham_seed: int, *, multi_scale: bool) -> Score:
        from segnext.testing.evaluate import evaluate

        return evaluate(
            model,
            testing,
            data,
            multi_scale=multi_scale,
            batch=self._execution.evaluation_batch,
            device=self._device,
            ham_seed=ham_seed,
            share=(self._world.rank, self._world.size),
            workers=self._execution.workers,
            progress=self._watch("evaluate MS" if multi_scale else "evaluate SS"),
        )

    def _top1(self, model: nn.Module, testing: ClassFolderSource) -> float | None:
        from segnext.data.stream import Share
        from segnext.training.classification import Top1, evaluate_classification

        data = self._run.data
        assert isinstance(data, ClassificationData)
        own = evaluate_classification(
            model,
            testing,
            data,
            batch=self._execution.evaluation_batch,
            device=self._device,
            share=Share(self._world.rank, self._world.size),
            workers=self._execution.workers,
            progress=self._watch("evaluate Top-1"),
        )
        return sum(self._world.gather(own), Top1(0, 0)).percent

    def _predicted(self, model: nn.Module, testing: Source, data: Data) -> dict[str, Any]:
        """Predictions for a test server, whose labels are its own: packed beside the weights, as it takes them."""
        from segnext.testing.server_archive import export, predict

        if not self._world.first:
            return {}
        (metric, *_) = study(self._spec.study).panel(self._spec.dataset).accuracies
        multi_scale = metric == "miou_ms"
        predicted = predict(
            model,
            testing,
            data,
            multi_scale=multi_scale,
            batch=self._execution.evaluation_batch,
            device=self._device,
            workers=self._execution.workers,
            progress=self._watch("predict"),
        )
        manifest = export(
            predicted,
            self._workspace.folder / "predictions",
            dataset=data.dataset,
            classes=data.classes,
            run=self._run.id,
            settings={"multi_scale": multi_scale},
        )
        return {
            "metrics": {"miou_ss": None, "miou_ms": None},
            "classes": list(testing.classes),
            "predictions": {"name": manifest.archive, "sha256": manifest.sha256, "images": manifest.images},
        }

    def _watch(self, phase: str) -> Callable[[int, int], None]:
        from segnext.training.train import Stopped

        def progress(done: int, total: int) -> None:
            if self._world.first:
                self._workspace.report(Progress(phase, done, total))
            if self._asked_to_stop():
                raise Stopped(f"stopped in {phase}; the training is saved and the same command continues")

        return progress

    def _provenance(self, kind: str) -> dict[str, Any]:
        import torch

        attempts = self._workspace.attempts()
        return {
            **provenance(kind),
            "command": self._spec.command,
            "device": torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu",
            "processes": self._world.size,
            "threads": self._execution.threads,
            "precision": self._execution.precision,
            "compiled": self._execution.compile,
            "cudnn_benchmark": self._execution.cudnn_benchmark,
            "deterministic": self._execution.deterministic,
            "started": timestamp(min([self._started, *(attempt.started for attempt in attempts)])),
            "finished": timestamp(time.time()),
            "attempts": len(attempts),
            # Lost attempts included: to when they ended or, of those that were killed, were last seen.
            "process_seconds": round(sum(attempt.seconds * attempt.processes for attempt in attempts), 1),
            # A card that several runs share is spent by each in part.
            "gpu_seconds": round(sum(a.seconds * a.gpus / max(1, a.sharing) for a in attempts), 1),
            **({"runs_per_gpu": _sharing()} if self._device.type == "cuda" and _sharing() > 1 else {}),
        }


def _data_facts(use: str, source: Source | ClassFolderSource) -> dict[str, Any]:
    from segnext.training.train import identity_of

    return {f"{use}_images": len(source), **{f"{use}_{what}": value for what, value in identity_of(source).items()}}
