"""What runs will take: hours from step times that were measured, disk from the sizes of models; else "unknown"."""

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
    compile: str = ""
    committed: bool = (
        False  # came with the repository: measured elsewhere, and only used where nothing was measured here
    )


@dataclass(frozen=True)
class Estimate:
    """What some runs will take. `hours` are those of the runs in `timed`, which the others' are not known from."""

    hours: float  # of the device: GPU-hours, or hours of a process's cores
    timed: int
    untimed: int
    devices: tuple[str, ...]  # that the step times were measured on
    disk: float | None  # bytes; None where the size of a model is not known
    otherwise: int = 0  # of those in `timed`: with another `compile` than they will run with

    def __str__(self) -> str:
        words = []
        if self.timed:
            on = " and ".join(self.devices)
            runs = f" for {self.timed} of {self.timed + self.untimed} runs" if self.untimed else ""
            unit = "process-hours" if self.devices == ("cpu",) else "GPU-hours"
            other = f" ({self.otherwise} runs with another --compile than theirs)" if self.otherwise else ""
            words.append(f"{_round(self.hours)} {unit}{runs}, by step times measured on {on}{other}")
        if self.untimed:
            words.append(("the rest: " if self.timed else "hours: ") + "unknown (studies.probe measures step times)")
        words.append("disk: " + ("unknown" if self.disk is None else f"{size(self.disk)} of checkpoints and weights"))
        return "; ".join(words)


def estimate(cells: Sequence[PlannedRun], resources: Profile, store: Store) -> Estimate:
    """What these runs will take with these resources, as far as measurements tell."""
    times = step_times(store)
    hours, timed, otherwise, devices = 0.0, 0, 0, []
    trained = [cell for cell in cells if cell.evaluation is None]
    for cell in trained:
        own = resources.at(cell.stage)
        kind = own.where.partition(":")[0]
        found = newest(times.get(step_key(cell.run), ()), kind == "cpu", own.precision, own.compile)
        if found is None:
            continue
        timed += 1
        # With n processes it takes an n-th of the time, and as many device-hours.
        per_device = found.images_per_second / found.processes
        hours += cell.total * cell.run.train.batch / per_device / 3600
        devices.append(found.device)
        otherwise += found.compile != own.compile
    disk = _disk(trained, store)
    return Estimate(hours, timed, len(trained) - timed, tuple(dict.fromkeys(devices)), disk, otherwise)


def newest(times: Iterable[StepTime], cpu: bool, precision: str, compiled: str) -> StepTime | None:
    """The step time that tells most: of this kind of device and precision; measured here; compiled alike; the last."""
    fitting = [time for time in times if (time.device == "cpu") == cpu and time.precision == precision]
    return max(reversed(fitting), key=lambda time: (not time.committed, time.compile == compiled), default=None)


def step_key(run: Run) -> str:
    """What a step's time depends on: the model, the crop, the classes and the batch."""
    accumulate = canonical(run.train).get("accumulate", 1)
    return _key(canonical(run.model), list(run.data.crop), run.data.classes, run.train.batch, accumulate)


def _key(model: dict[str, Any], crop: Any, classes: int, batch: int, accumulate: int) -> str:
    parts = {"model": model, "crop": crop, "classes": classes, "batch": batch, "accumulate": accumulate}
    return digest(parts)


def step_times(store: Store) -> dict[str, list[StepTime]]:
    """Measured step times by `step_key`, the newest last.

    They are those of results/probes, which came with the repository, of finished runs, and of `studies.probe` here.
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
    """results/probes/*.json, runs/probes/*.json: what of a measured step time is read."""

    key: str
    device: str
    precision: str
    images_per_second: Annotated[float, Meta(gt=0)]
    compiled: bool | str = ""


def _add(found: dict[str, list[StepTime]], path: Path, store: Store, committed: bool) -> None:
    """What `keep` wrote. What is damaged is named in `store.damage`."""
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
    """Where `studies.probe` keeps what it measured: beside the runs, for it is of this cluster.

    What others shall start from is committed to results/probes (`tests/benchmarks/gpu.py` packs it so).
    """
    return runs_folder() / "probes"


def keep(run: Run, facts: dict[str, Any]) -> Path:
    """Keep a measured step time in the place of an older one of the same device and precision."""
    key = step_key(run)
    path = probes_folder() / f"{key}-{digest([facts['device'], facts['precision'], facts['compiled']])[:6]}.json"
    write_atomically(path, to_json({"key": key, **facts}))
    return path


def _disk(cells: Iterable[PlannedRun], store: Store) -> float | None:
    """What runs leave under runs/: their last states and their weights."""
    sizes = {digest(cost.config.model): cost.params for cost in store.costs()}
    sizes |= {digest(run.config.model): run.trained.params for run in store.runs()}
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
