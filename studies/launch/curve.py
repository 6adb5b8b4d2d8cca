"""A run's curve: what its training draws as it goes, and what is kept of it beside the results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segnext.files import write_atomically

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CURVE_COLUMNS = ("iteration", "loss", "learning_rate", "images_per_second")

Point = Mapping[str, Any]
"""A step of the training has CURVE_COLUMNS; a test on the way has no loss."""


class Curve:
    """The points in a file, a JSON object a line; with a `tensorboard` folder they are drawn there, too."""

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        self._path, self._tensorboard = path, tensorboard
        self._writer: SummaryWriter | None = None

    def add(self, point: Point) -> None:
        """Append a point."""
        with open(self._path, "a") as file:
            file.write(json.dumps(point) + "\n")
        if self._tensorboard:
            self._draw(point, self._tensorboard)

    def points(self) -> list[Point]:
        """Every point so far."""
        return [json.loads(line) for line in self._path.read_text().splitlines()]

    def forget_after(self, iteration: int) -> None:
        """Drop the points that the training will draw again, and a line torn by a kill."""
        kept = []
        for line in self._path.read_text().splitlines() if self._path.exists() else []:
            try:
                point = json.loads(line)
            except ValueError:
                continue
            if point["iteration"] <= iteration:
                kept.append(line + "\n")
        write_atomically(self._path, "".join(kept))

    def keep(self, folder: Path, name: str) -> float:
        """Put the finished curve into a folder as CSV, the tests on the way apart; returns the last loss."""
        points = self.points()
        steps = [point for point in points if "loss" in point]
        write_atomically(folder / f"{name}.csv", _csv(CURVE_COLUMNS, steps))
        if tests := [point for point in points if "loss" not in point]:
            write_atomically(folder / f"{name}-tests.csv", _csv(tuple(tests[0]), tests))
        return float(steps[-1]["loss"])

    def _draw(self, point: Point, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(str(folder), purge_step=point["iteration"])
        for name, value in point.items():
            if name != "iteration" and value is not None:
                self._writer.add_scalar(name, value, point["iteration"])
        self._writer.flush()


def _csv(columns: Sequence[str], points: Sequence[Point]) -> str:
    lines = (",".join("" if point[key] is None else repr(point[key]) for key in columns) for point in points)
    return ",".join(columns) + "\n" + "".join(line + "\n" for line in lines)
