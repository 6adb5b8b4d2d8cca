"""What runs will cost: hours from measured step times, disk space from model sizes; "unknown" without a measurement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from segnext.config import Run, canonical, compiler, digest
from segnext.files import write_atomically
from studies.plan.runs import PlannedRun
from studies.records.store import Store, runs_folder
from studies.records.typed import Damaged, read, to_json
from studies.slurm.profile import Profile

STATE = 3 * 4  # bytes per parameter in a saved state: its value and AdamW's two moments
STATES = 2  # states that a run keeps
WEIGHTS = 4  # bytes per parameter in weights.pt


@dataclass(frozen=True)
class StepTime:
    """A measured step time, as images per second in training, and the device."""

    images_per_second: float
    device: str  # the GPU's name, or cpu
    processes: int
    precision: str
    compile: str = ""
    committed: bool = False  # from the repository: measured elsewhere, and used only without a measurement here


@dataclass(frozen=True)
class Estimate:
    """The cost of some runs. `hours` covers the `timed` runs; the `untimed` ones have no measured step time."""

    hours: float  # GPU-hours, or hours of a process on the CPU
    timed: int
    untimed: int
    devices: tuple[str, ...]  # devices on which step times were measured
    disk: float | None  # bytes; None if the size of a model is unknown
    otherwise: int = 0  # number of `timed` runs whose step was measured with another `compile`

    @property
    def time(self) -> str:
        """The hours in words."""
        words = []
        if self.timed:
            on = " and ".join(self.devices)
            runs = f" for {self.timed} of {self.timed + self.untimed} runs" if self.untimed else ""
            unit = "process-hours" if self.devices == ("cpu",) else "GPU-hours"
            other = f" ({self.otherwise} runs with another --compile than theirs)" if self.otherwise else ""
            words.append(f"{_round(self.hours)} {unit}{runs}, by step times measured on {on}{other}")
        if self.untimed:
            words.append(("the rest: " if self.timed else "") + "unknown (studies.probe measures step times)")
        return "; ".join(words) or "none: nothing is trained"

    @property
    def space(self) -> str:
        """The disk in words."""
        return "unknown" if self.disk is None else f"{size(self.disk)} of checkpoints and weights"


def estimate(planned_runs: Sequence[PlannedRun], resources: Profile, store: Store) -> Estimate:
    """The cost of these runs with these resources, as far as measurements tell."""
    times = step_times(store)
    hours, timed, otherwise, devices = 0.0, 0, 0, []
    trained = [planned for planned in planned_runs if planned.evaluation is None]
    for planned in trained:
        own = resources.at(planned.stage)
        kind = own.where.partition(":")[0]
        found = newest(times.get(step_key(planned.run), ()), kind == "cpu", own.precision, own.compile)
        if found is None:
            continue
        timed += 1
        # n processes take an n-th of the time, so the device-hours are the same.
        per_device = found.images_per_second / found.processes
        hours += planned.total * planned.run.train.batch / per_device / 3600
        devices.append(found.device)
        otherwise += found.compile != own.compile
    disk = _disk(trained, store)
    return Estimate(hours, timed, len(trained) - timed, tuple(dict.fromkeys(devices)), disk, otherwise)


def newest(times: Iterable[StepTime], cpu: bool, precision: str, compiled: str) -> StepTime | None:
    """The best step time for this kind of device and precision: measured here, then compiled alike, then the newest."""
    fitting = [time for time in times if (time.device == "cpu") == cpu and time.precision == precision]
    return max(reversed(fitting), key=lambda time: (not time.committed, time.compile == compiled), default=None)


def step_key(run: Run) -> str:
    """A key for what a step's time depends on: the model, the crop, the classes and the batch."""
    accumulate = canonical(run.train).get("accumulate", 1)
    return _key(canonical(run.model), list(run.data.crop), run.data.classes, run.train.batch, accumulate)


def _key(model: dict[str, Any], crop: Any, classes: int, batch: int, accumulate: int) -> str:
    parts = {"model": model, "crop": crop, "classes": classes, "batch": batch, "accumulate": accumulate}
    return digest(parts)


def step_times(store: Store) -> dict[str, list[StepTime]]:
    """Measured step times by `step_key`, newest last.

    They come from results/probes, which is part of the repository, from finished runs, and from `studies.probe` here.
    """
    found: dict[str, list[StepTime]] = {}
    for path in sorted((store.folder / "probes").glob("*.json")):
        _add(found, path, store, committed=True)
    for record in sorted(store.runs(), key=lambda record: record.provenance.finished or ""):
        config, origin = record.config, record.provenance
        if (rate := record.training.images_per_second) is None:
            continue
        rate *= max(1, origin.runs_per_gpu)  # of the card, which others had as well
        time = StepTime(rate, origin.device or "", origin.processes, origin.precision, compiler(origin.compiled))
        key = _key(config.model, config.data.crop, config.data.classes, config.train.batch, config.train.accumulate)
        found.setdefault(key, []).append(time)
    for path in sorted(probes_folder().glob("*.json"), key=lambda path: path.stat().st_mtime):
        _add(found, path, store, committed=False)
    return found


@dataclass(frozen=True)
class Probe:
    """The fields of results/probes/*.json and runs/probes/*.json that are read."""

    key: str
    device: str
    precision: str
    images_per_second: Annotated[float, Meta(gt=0)]
    compiled: bool | str = ""


def _add(found: dict[str, list[StepTime]], path: Path, store: Store, committed: bool) -> None:
    """Add the step time in a file that `keep` wrote; a damaged file is named in `store.damage`."""
    try:
        probe = read(path, Probe, "delete it, or restore it from git")
    except Damaged as damaged:
        store.damage.append(damaged)
        return
    if probe is not None:
        compiled = compiler(probe.compiled)
        time = StepTime(probe.images_per_second, probe.device, 1, probe.precision, compiled, committed)
        found.setdefault(probe.key, []).append(time)


def probes_folder() -> Path:
    """The folder in which `studies.probe` keeps step times: beside the runs, because they belong to this cluster.

    Step times for other users are committed to results/probes (packed by `tests/benchmarks/gpu.py`).
    """
    return runs_folder() / "probes"


def keep(run: Run, facts: dict[str, Any]) -> Path:
    """Write a measured step time, replacing an older one for the same device, precision and compiler."""
    key = step_key(run)
    path = probes_folder() / f"{key}-{digest([facts['device'], facts['precision'], facts['compiled']])[:6]}.json"
    write_atomically(path, to_json({"key": key, **facts}))
    return path


def _disk(planned_runs: Iterable[PlannedRun], store: Store) -> float | None:
    """Bytes that runs leave under runs/, their last states and their weights; None if a model's size is unknown."""
    sizes = {digest(cost.config.model): cost.params for cost in store.costs()}
    sizes |= {digest(run.config.model): run.trained.params for run in store.runs()}
    total = 0.0
    for planned in planned_runs:
        params = sizes.get(digest(canonical(planned.run.model)))
        if params is None:
            return None
        total += params * (STATES * STATE + WEIGHTS)
    return total


def _round(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 0.1 else f"{hours:.3f}"


def size(count: float) -> str:
    """Bytes as readable text, `1.2 GB`."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
