"""GPU-hours of single runs, from a step time measured on a GPU or else by arithmetic, and which of the two it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from segnext.config import Cost, Model, Run, canonical, digest
from studies.declare.study import Reported
from studies.plan.estimate import StepTime, newest, step_key, step_times
from studies.records.store import Store
from studies.tables import study

SUSTAINED = 20e12
"""FLOP/s of one GPU in training; an assumption, about what an A100 sustains in TF32 or bfloat16 (slurm/scaling.md)."""

BACKWARD = 3
"""A training step costs about three forward passes."""


@dataclass(frozen=True)
class Hours:
    """GPU-hours of one run on one GPU, without its test; `on` names the measured device, "" for arithmetic."""

    value: float
    on: str = ""


@dataclass
class Clock:
    """Estimates hours from the records and probes of one store, for one precision and one compiler."""

    store: Store
    precision: str
    compiled: str

    def of(self, run: Run) -> Hours:
        """The hours of a whole run, without those of its upstream runs."""
        images = run.train.iterations * run.train.batch
        found = newest(self._times.get(step_key(run), ()), False, self.precision, self.compiled)
        if found is not None:
            way = ", ".join(filter(None, (found.precision, found.compile or "eager")))
            return Hours(images * found.processes / found.images_per_second / 3600, f"{found.device} ({way})")
        return Hours(images * 2 * BACKWARD * self._macs(run) / SUSTAINED / 3600)

    @cached_property
    def _times(self) -> dict[str, list[StepTime]]:
        return step_times(self.store)

    @cached_property
    def _known(self) -> dict[tuple[str, str], list[tuple[int, float]]]:
        """Measured costs by task and network: pixels of the image and multiply-adds."""
        found: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for record in self.store.kind("cost"):
            config = record["config"]
            key = (config.get("task", "segmentation"), digest(config["model"]))
            found.setdefault(key, []).append((config["height"] * config["width"], record["gmacs"] * 1e9))
        return found

    def _macs(self, run: Run) -> float:
        """Multiply-adds for one image at the run's crop: as measured, scaled by pixels if it was another size.

        For a network that was never measured, the printed FLOPs of its size (Table 9) are used.
        """
        pixels = run.data.crop[0] * run.data.crop[1]
        exact = self.store.cost(Cost(run.model, run.data.classes, *run.data.crop, task=run.task))
        if exact is not None:
            return float(exact["gmacs"]) * 1e9
        if known := self._known.get((run.task, digest(canonical(run.model)))):
            side, macs = min(known, key=lambda found: abs(found[0] - pixels))
            return macs * pixels / side
        return printed_macs(run.model) * pixels


def printed_macs(model: Model) -> float:
    """Multiply-adds per pixel of a network of this size, as Table 9 prints SegNeXt's; the largest for other sizes."""
    table = study("table9")
    panel = table.panel("ade20k")
    printed = {
        row.model.size: row.prints(panel, "gflops")
        for row in table.rows
        if not isinstance(row, Reported) and row.model == dataclasses.replace(Model(), size=row.model.size)
    }
    gflops = printed.get(model.size) or max(value for value in printed.values() if value)
    return gflops * 1e9 / (panel.input_size[0] * panel.input_size[1])


def told(found: Iterable[Hours]) -> str:
    """How the hours of some runs were estimated, as text."""
    runs = list(found)
    on = ", ".join(dict.fromkeys(one.on for one in runs if one.on))
    timed = sum(bool(one.on) for one in runs)
    words = [f"{timed} of {len(runs)} runs by steps measured on {on}"] if timed else []
    if timed < len(runs):
        rest = "the others" if timed else "all"
        words.append(f"{rest} by arithmetic (FLOP at {SUSTAINED / 1e12:.0f} TFLOP/s; not measured)")
    return "; ".join(words)
