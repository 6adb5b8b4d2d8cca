"""Sub-tasks of the generated data set that a study's rows are trained on, and what is predicted there.

A prediction is written before the runs that test it: `tests/test_subtasks.py` holds every record to the commit
that it was made at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from studies.study import Panel, Row

CLASSES = {"scale": 3, "fine": 5}
"""Of the sub-tasks that have not two."""

MARGIN = 5.0
"""Percentage points of accuracy within which two rows count as equal: a tenth of the way from chance to perfect."""

CHANCE = "chance"
"""The reference of a prediction that is no row: one class in two, or in three."""

MICROSCOPE: Mapping[str, Any] = {"size": "microscope", "stages": (1,), "head_norm": "bn"}
"""One block at stride 4, read by the decoder as it is, so that a pixel sees no farther than can be counted. In the head
BN, because GN averages over the whole image (measured: GN alone solves `key`)."""

WITHOUT_CONTEXT: Mapping[str, Any] = {**MICROSCOPE, "context": "none"}
"""Nothing global: a pixel sees `REACH` and no more."""

REACH = {"none": 20, "7x7": 32, "11x11": 40, "21x21": 60, "full": 60, "lka": 56, "msca head alone": 68}
"""Pixels to one side that a pixel's class can depend on in `WITHOUT_CONTEXT`; a test counts them by gradients."""

TO_SEE: Mapping[str, str] = {
    "scale": "how far a pixel has to see for two opposite edges of its square",
    "fine": "distance to the outside of the pixel's own object",
}
"""Of the sub-tasks whose distance is not that to a cue."""

LEARNT = 75.0
"""Percent accuracy from which a run counts as having learnt a task of two classes: half of that way."""


TOLD_NEARBY: Mapping[str, str] = {
    "gate-additive": "A disc's own shade tells 5 of 6 by design: the class is a sum.",
    "scale": "A patch without a second edge tells that a square is not small: what is not seen tells, too.",
}
"""By sub-task, why a patch that does not hold the whole cue is above chance, where it is."""


@dataclass(frozen=True)
class Prediction:
    """How one row should differ from another in accuracy, over pixels whose cue lies at these distances.

    `sign`: `+` the first row is more accurate, `-` less, `0` equal to within `MARGIN`. `source`: who says so; the
    paper's own claim, or the mechanism: a count of the pixels that a row can see. The reference may be `CHANCE`.
    """

    row: str
    reference: str
    sign: Literal["+", "-", "0"]
    why: str
    source: Literal["paper", "mechanism"] = "mechanism"
    distances: tuple[int, int] = (1, 255)  # pixels, the second excluded


@dataclass(frozen=True)
class Subtask(Panel):
    """A sub-task as a panel of a study: `Subtask("strips", rows, predictions)`, trained under a protocol of its own.

    `changes` are made to every row's model, and are in each record. `diagnostic/strips at 0.002` is the sub-task at
    another learning rate than the protocol's, on the images that are there to choose one.
    """

    columns: tuple[str, ...] = ("miou_ss",)
    input_size: tuple[int, int] = (96, 96)
    rows: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    protocol: str = "quick"

    def __post_init__(self) -> None:
        named = {row for p in self.predictions for row in (p.row, p.reference)}
        assert named <= {*self.rows, CHANCE}, self.dataset

    @property
    def task_name(self) -> str:
        """`strips-no-cue` of `diagnostic/strips-no-cue at 0.001`."""
        return self.dataset.removeprefix("diagnostic/").split(" at ")[0]

    @property
    def title(self) -> str:
        """The sub-task's name."""
        return self.dataset.removeprefix("diagnostic/")

    @property
    def classes(self) -> int:
        """What the models predict."""
        return CLASSES.get(self.task_name.removesuffix("-local"), 2)

    def trains(self, row: Row) -> bool:
        """Whether this row is trained here."""
        return row.slug in self.rows
