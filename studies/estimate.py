"""What runs will take: hours from step times that were measured, disk from the sizes of models; else "unknown"."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segnext.config import Run, canonical, digest
from segnext.files import write_atomically
from studies.plan import Cell
from studies.profile import Profile
from studies.store import Store, runs_folder, to_json

STATE = 3 * 4  # bytes of a parameter in a saved state: its value and AdamW's two moments
STATES = 2  # of a run that are kept
WEIGHTS = 4  # bytes of a parameter in weights.pt


@dataclass(frozen=True)
class StepTime:
    """A measured step: how many images a second went through training, and on what."""

    images_per_second: float
    device: str  # the GPU's name, or cpu
    processes: int
    precision: str


@dataclass(frozen=True)
class Estimate:
    """What some runs will take. `hours` are those of the runs in `timed`, which the others' are not known from."""

    hours: float  # of the device: GPU-hours, or hours of a process's cores
    timed: int
    untimed: int
    devices: tuple[str, ...]  # that the step times were measured on
    disk: float | None  # bytes; None where the size of a model is not known

    def __str__(self) -> str:
        words = []
        if self.timed:
            on = " and ".join(self.devices)
            runs = f" for {self.timed} of {self.timed + self.untimed} runs" if self.untimed else ""
            unit = "process-hours" if self.devices == ("cpu",) else "GPU-hours"
            words.append(f"{_round(self.hours)} {unit}{runs}, by step times measured on {on}")
        if self.untimed:
            words.append(("the rest: " if self.timed else "hours: ") + "unknown (studies.probe measures step times)")
        words.append("disk: " + ("unknown" if self.disk is None else f"{size(self.disk)} of checkpoints and weights"))
        return "; ".join(words)


def estimate(cells: Sequence[Cell], resources: Profile, store: Store) -> Estimate:
    """What these runs will take with these resources, as far as measurements tell."""
    times = step_times(store)
    hours, timed, devices = 0.0, 0, []
    trained = [cell for cell in cells if cell.evaluation is None]
    for cell in trained:
        own = resources.at(cell.stage)
        kind = own.where.partition(":")[0]
        fitting = [
            time
            for time in times.get(step_key(cell.run), ())
            if (time.device == "cpu") == (kind == "cpu") and time.precision == own.precision
        ]
        if not fitting:
            continue
        newest = fitting[-1]
        timed += 1
        # With n processes it takes an n-th of the time, and as many device-hours.
        per_device = newest.images_per_second / newest.processes
        hours += cell.total * cell.run.train.batch / per_device / 3600
        devices.append(newest.device)
    return Estimate(hours, timed, len(trained) - timed, tuple(dict.fromkeys(devices)), _disk(trained, store))


def step_key(run: Run) -> str:
    """What a step's time depends on: the model, the crop, the classes and the batch."""
    train = canonical(run.train)
    parts = {"model": canonical(run.model), "crop": list(run.data.crop), "classes": run.data.classes}
    return digest({**parts, "batch": train["batch"], "accumulate": train.get("accumulate", 1)})


def step_times(store: Store) -> dict[str, list[StepTime]]:
    """Measured step times by `step_key`, the newest last: from finished runs and, after these, from `studies.probe`."""
    found: dict[str, list[StepTime]] = {}
    for record in sorted(store.kind("run"), key=lambda record: record["provenance"]["finished"]):
        config, origin = record["config"], record["provenance"]
        train, data = config["train"], config["data"]
        parts = {"model": config["model"], "crop": data["crop"], "classes": data["classes"]}
        key = digest({**parts, "batch": train["batch"], "accumulate": train.get("accumulate", 1)})
        rate = record["training"]["images_per_second"]
        time = StepTime(rate, origin["device"], origin.get("processes", 1), origin.get("precision", "float32"))
        found.setdefault(key, []).append(time)
    for path in sorted(probes_folder().glob("*.json"), key=lambda path: path.stat().st_mtime):
        probe = json.loads(path.read_text())
        found.setdefault(probe["key"], []).append(
            StepTime(probe["images_per_second"], probe["device"], 1, probe["precision"])
        )
    return found


def probes_folder() -> Path:
    """Where `studies.probe` keeps what it measured: beside the runs, for it is of this cluster."""
    return runs_folder() / "probes"


def keep(run: Run, facts: dict[str, Any]) -> Path:
    """Keep a measured step time in the place of an older one of the same device and precision."""
    key = step_key(run)
    path = probes_folder() / f"{key}-{digest([facts['device'], facts['precision'], facts['compiled']])[:6]}.json"
    write_atomically(path, to_json({"key": key, **facts}))
    return path


def _disk(cells: Iterable[Cell], store: Store) -> float | None:
    """What runs leave under runs/: their last states and their weights."""
    sizes = {digest(record["config"]["model"]): record["params"] for record in store.kind("cost")}
    sizes |= {digest(r["config"]["model"]): r["trained"]["params"] for r in store.kind("run")}
    total = 0.0
    for cell in cells:
        params = sizes.get(digest(canonical(cell.run.model)))
        if params is None:
            return None
        total += params * (STATES * STATE + WEIGHTS)
    return total


def _round(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 0.1 else f"{hours:.3f}"


def size(count: float) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
