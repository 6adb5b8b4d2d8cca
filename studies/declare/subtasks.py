"""Sub-tasks of the generated data set that a study's rows are trained on, and what is predicted there.

    subtasks=micro(
        WITHOUT_CONTEXT,
        quick=(subtask("gate", below("no-attention", "full", "the product lets one map gate another")),),
        quick_full=(*controls("gate", ("no-attention", "full"), "full"), *at_rates("gate", ...)),
    )

A prediction is written before the runs that test it: `studies/tables/predictions.json` has each with the commit that
first had it, and `tests/test_subtasks.py` holds that ledger to the history and every record to the ledger.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

WITHOUT_STRIPS: Mapping[str, Any] = {**MICROSCOPE, "branches": ()}
"""An encoder that sees 20 pixels: what lies farther, the decoder's module has to bring."""

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

RATES = (0.001, 0.004, 0.016)
"""Learning rates that a sub-task is repeated at, to see how far its outcome depends on the one that all rows share."""

Control = Literal["", "no-cue", "local"]
"""The sub-task itself; its deciding cue painted neutral, so that nothing can solve it; every pixel in the colour of its
class, so that everything can."""

Sign = Literal["+", "-", "0"]
Says = Literal["paper", "mechanism"]


@dataclass(frozen=True)
class Prediction:
    """How one row should differ from another in accuracy, over pixels whose cue lies at these distances.

    `sign`: `+` the first row is more accurate, `-` less, `0` equal to within `MARGIN`. `source`: who says so; the
    paper's own claim, or the mechanism: a count of the pixels that a row can see. The reference may be `CHANCE`.
    """

    row: str
    reference: str
    sign: Sign
    why: str
    source: Says = "mechanism"
    distances: tuple[int, int] = (1, 255)  # pixels, the second excluded


def above(
    row: str, reference: str, why: str = "", distances: tuple[int, int] = (1, 255), source: Says = "mechanism"
) -> Prediction:
    """The row is more accurate than the reference."""
    return Prediction(row, reference, "+", why, source, distances)


def below(
    row: str, reference: str, why: str = "", distances: tuple[int, int] = (1, 255), source: Says = "mechanism"
) -> Prediction:
    """The row is less accurate than the reference."""
    return Prediction(row, reference, "-", why, source, distances)


def equal(
    row: str, reference: str, why: str = "", distances: tuple[int, int] = (1, 255), source: Says = "mechanism"
) -> Prediction:
    """The row is as accurate as the reference, to within `MARGIN`."""
    return Prediction(row, reference, "0", why, source, distances)


def at_chance(row: str, why: str = "", distances: tuple[int, int] = (1, 255)) -> Prediction:
    """The row guesses."""
    return equal(row, CHANCE, why, distances)


@dataclass(frozen=True, kw_only=True)
class Subtask(Panel):
    """A sub-task as a panel of a study, trained under a protocol of its own.

    `twin` names the task that differs from `name` in one thing (`gate`'s `additive`), `control` what is done to its
    cue. With a `learning_rate` it is trained at that instead of its recipe's, on the images that are there to choose
    one. The rows are those that something is predicted of, and the `unpredicted`. `changes` are made to every row's
    model, and are in each record.
    """

    dataset: str = field(init=False)
    columns: tuple[str, ...] = ("miou_ss",)
    input_size: tuple[int, int] = (96, 96)
    protocol: str = "quick"
    name: str
    twin: str = ""
    control: Control = ""
    learning_rate: float | None = None
    predictions: tuple[Prediction, ...] = ()
    unpredicted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", f"diagnostic/{self.task_name}")

    @property
    def task_name(self) -> str:
        """The generator's name: `strips-no-cue`."""
        return "-".join(filter(None, (self.name, self.twin, self.control)))

    @property
    def title(self) -> str:
        """The sub-task's name, with its learning rate where that is another than the recipe's: `strips at 0.001`."""
        return self.task_name if self.learning_rate is None else f"{self.task_name} at {self.learning_rate:g}"

    @property
    def key(self) -> str:
        """The name of its recipe, and of itself in a job's specification: `diagnostic/strips at 0.001`."""
        return f"diagnostic/{self.title}"

    @property
    def purpose(self) -> str:
        """`control` where the cue is removed or local, `learning rate` where only that is another, `idea` otherwise."""
        if self.learning_rate is not None:
            return "learning rate"
        return "control" if self.control else "idea"

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows that are trained here."""
        named = [row for one in self.predictions for row in (one.row, one.reference) if row != CHANCE]
        return tuple(dict.fromkeys((*named, *self.unpredicted)))

    @property
    def classes(self) -> int:
        """What the models predict."""
        return CLASSES.get(self.name, 2)

    def trains(self, row: Row) -> bool:
        """Whether this row is trained here."""
        return row.slug in self.rows


def subtask(name: str, *predictions: Prediction) -> Subtask:
    """A sub-task with what is predicted of its rows."""
    return Subtask(name=name, predictions=predictions)


def twin(name: str, of: str, *predictions: Prediction, unpredicted: tuple[str, ...] = ()) -> Subtask:
    """The sub-task `of` but for one thing: `twin("additive", "gate", ...)`, whose classes a sum can tell."""
    return Subtask(name=of, twin=name, predictions=predictions, unpredicted=unpredicted)


def controls(
    name: str,
    rows: Sequence[str],
    reference: str,
    *,
    local: str = "every pixel tells its own class",
    order: Sequence[Control] = ("no-cue", "local"),
) -> list[Subtask]:
    """The two controls: without the cue these rows guess; with a local cue they are all as good as the reference.

    The reference is trained without the cue, too, where it is among the rows; else another table does so.
    """
    found: dict[Control, tuple[Prediction, ...]] = {
        "no-cue": tuple(at_chance(row, "nothing tells the classes apart") for row in rows),
        "local": tuple(equal(row, reference, local) for row in rows if row != reference),
    }
    return [Subtask(name=name, control=control, predictions=found[control]) for control in order]


def at_rates(
    name: str, *predictions: Prediction, why: str = "as at the rate that all rows share", rates: Sequence[float] = RATES
) -> list[Subtask]:
    """The sub-task once more at each of these learning rates, with the same predictions at each."""
    said = tuple(dataclasses.replace(one, why=why) for one in predictions)
    return [Subtask(name=name, learning_rate=rate, predictions=said) for rate in rates]


def micro(
    changes: Mapping[str, Any], *, quick: Sequence[Subtask] = (), quick_full: Sequence[Subtask] = ()
) -> tuple[Subtask, ...]:
    """A table's sub-tasks, by the protocol that trains them, on micro models: every row's own with these changes."""
    return tuple(
        dataclasses.replace(one, changes=changes, protocol=protocol)
        for protocol, own in (("quick", quick), ("quick-full", quick_full))
        for one in own
    )
