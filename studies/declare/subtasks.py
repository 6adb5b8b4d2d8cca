"""Sub-tasks of the generated data set that a study's rows are trained on, and what is predicted there.

A prediction is written before the runs that test it: `tests/test_subtasks.py` holds every record to the commit
that it was made at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from studies.declare.study import Panel, Row

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
"""Pixels to one side that a pixel's class can depend on in `WITHOUT_CONTEXT`; a test counts them by gradients.

Along a row or a column: what is seen is a square, whose corners are farther away."""

TO_SEE: Mapping[str, str] = {
    "scale": "distance to the farther of two opposite edges of the pixel's square",
    "fine": "distance to the outside of the pixel's own object",
}
"""Of the sub-tasks whose distance is not that to a cue."""

LEARNT = 75.0
"""Percent accuracy from which a run counts as having learnt a task of two classes: half of that way."""

CEILING = 99.0
"""Percent accuracy from which on a task is too easy to tell rows apart."""

TOLD_NEARBY: Mapping[str, str] = {
    "gate-additive": "A disc's own shade tells 5 of 6 by design: the class is a sum.",
    "scale": "A patch without a second edge tells that a square is not small: what is not seen tells, too.",
}
"""By sub-task, why a patch that does not hold the whole cue is above chance, where it is."""

_COUNTED = (
    "Every image has as many marks of either colour: who counts those in sight guesses better than chance beyond it."
)
_CORNERS = (
    "Sight is counted along a row or a column: pixels in the corners of the square that a row sees are farther away."
)
_ONE_CLASS = (
    "All of an image is one class: of the test pixels 21 away or more, one guess for all is right for 46 or 54 %."
)

CAVEATS: Mapping[str, str] = {
    "strips": f"{_COUNTED} strips-independent has none of that.",
    "strips-diagonal": f"{_CORNERS} {_COUNTED}",
    "strips-blobs": _COUNTED,
    "scale": "An edge within 19 pixels, or none, tells all classes, and every row sees farther: reach does not decide.",
    "key": f"{_ONE_CLASS} {_CORNERS}",
    "key-no-cue": _ONE_CLASS,
    "fine": (
        "Most pixels of objects are the discs'. Those of the background, which no cue decides, are not counted here: a "
        "false alarm costs mIoU alone. Decoder (a) reads stage 1, too."
    ),
}
"""By sub-task, what its accuracies also depend on."""


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
    def purpose(self) -> str:
        """`control` where the cue is removed or local, `learning rate` where only that is another, `idea` otherwise."""
        if " at " in self.title:
            return "learning rate"
        return "control" if self.title.endswith(("-no-cue", "-local")) else "idea"

    @property
    def classes(self) -> int:
        """What the models predict."""
        return CLASSES.get(self.task_name, 2)

    def trains(self, row: Row) -> bool:
        """Whether this row is trained here."""
        return row.slug in self.rows
