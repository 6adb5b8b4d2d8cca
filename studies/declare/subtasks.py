"""Sub-tasks of the generated dataset on which a study's rows are trained, and the predictions about them.

    subtasks=micro(
        WITHOUT_CONTEXT,
        quick=(subtask("gate", below("no-attention", "full", "the product lets one map gate another")),),
        quick_full=(*controls("gate", ("no-attention", "full"), "full"), *at_rates("gate", ...)),
    )

A prediction is written before the runs that test it. The ledger `studies/tables/predictions.json` has each prediction
with the commit that first had it; `test_subtasks.py` checks the ledger against the history, and every record
against the ledger.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from studies.declare.study import Panel, Row

CLASSES = {"scale": 3, "fine": 5}
"""The number of classes of the sub-tasks that do not have two."""

MARGIN = 5.0
"""Percentage points of accuracy within which two rows count as equal: a tenth of the way from chance to perfect."""

CHANCE = "chance"
"""The reference of a prediction that is not a row: the accuracy of guessing one of two or three classes."""

MICROSCOPE: Mapping[str, Any] = {"size": "microscope", "stages": (1,), "head_norm": "bn"}
"""One block at stride 4, which the decoder reads directly, so that the reach of a pixel can be counted. The head has
BN, because GN averages over the whole image (measured: GN alone solves `key`)."""

WITHOUT_CONTEXT: Mapping[str, Any] = {**MICROSCOPE, "context": "none"}
"""Nothing global: a pixel's reach is `REACH` and no more."""

WITHOUT_STRIPS: Mapping[str, Any] = {**MICROSCOPE, "branches": ()}
"""An encoder with a reach of 20 pixels: the decoder's module must contribute what is farther away."""

REACH = {"none": 20, "7x7": 32, "11x11": 40, "21x21": 60, "full": 60, "lka": 56, "msca head alone": 68}
"""Pixels to one side, along a row or a column, on which a pixel's class can depend in `WITHOUT_CONTEXT`.

A test counts them by gradients. What a pixel sees is a square, whose corners are farther away."""

TO_SEE: Mapping[str, str] = {
    "scale": "distance to the farther of two opposite edges of the pixel's square",
    "fine": "distance to the outside of the pixel's own object",
}
"""What the distance means in the sub-tasks where it is not that to a cue."""

LEARNT = 75.0
"""Percent accuracy from which a run has learnt a task of two classes: halfway from chance to perfect."""

CEILING = 99.0
"""Percent accuracy from which a task is too easy to distinguish rows."""

TOLD_NEARBY: Mapping[str, str] = {
    "gate-additive": "A disc's own shade tells 5 of 6 by design: the class is a sum.",
    "scale": "A patch without a second edge tells that a square is not small: what is not seen tells, too.",
}
"""By sub-task, why a patch without the whole cue is above chance, if it is."""

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
"""By sub-task, what else its accuracies depend on."""

RATES = (0.001, 0.004, 0.016)
"""Learning rates at which a sub-task is repeated, to see how much its outcome depends on the shared one."""

Control = Literal["", "no-cue", "local"]
"""The sub-task itself (""); its deciding cue painted neutral, so that no network can solve it; or every pixel in the
colour of its class, so that every network can."""

Sign = Literal["+", "-", "0"]
Says = Literal["paper", "mechanism"]


@dataclass(frozen=True)
class Prediction:
    """How one row should differ from another in accuracy, over pixels whose cue is at these distances.

    `sign`: `+` the first row is more accurate, `-` less, `0` equal to within `MARGIN`. `source`: the paper's own claim,
    or the mechanism, which counts the pixels that a row can see. The reference may be `CHANCE`.
    """

    row: str
    reference: str
    sign: Sign
    why: str
    source: Says = "mechanism"
    distances: tuple[int, int] = (1, 255)  # in pixels, end excluded


def above(
    row: str, reference: str, why: str = "", distances: tuple[int, int] = (1, 255), source: Says = "mechanism"
) -> Prediction:
    """Predict that the row is more accurate than the reference."""
    return Prediction(row, reference, "+", why, source, distances)


def below(
    row: str, reference: str, why: str = "", distances: tuple[int, int] = (1, 255), source: Says = "mechanism"
) -> Prediction:
    """Predict that the row is less accurate than the reference."""
    return Prediction(row, reference, "-", why, source, distances)


def equal(
    row: str, reference: str, why: str = "", distances: tuple[int, int] = (1, 255), source: Says = "mechanism"
) -> Prediction:
    """Predict that the row is as accurate as the reference, to within `MARGIN`."""
    return Prediction(row, reference, "0", why, source, distances)


def at_chance(row: str, why: str = "", distances: tuple[int, int] = (1, 255)) -> Prediction:
    """Predict that the row is at chance, to within `MARGIN`."""
    return equal(row, CHANCE, why, distances)


@dataclass(frozen=True, kw_only=True)
class Subtask(Panel):
    """A sub-task as a panel of a study, trained under its own protocol.

    `twin` names a task that differs from `name` in one respect (`additive` of `gate`); `control` says what is done to
    the cue. With a `learning_rate` it is trained at that rate instead of its recipe's, on the images for tuning. Its
    rows are those in predictions, and the `unpredicted`. `changes` apply to every row's model, and each record has
    them.
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
        """The generator's name for it, such as `strips-no-cue`."""
        return "-".join(filter(None, (self.name, self.twin, self.control)))

    @property
    def title(self) -> str:
        """The sub-task's name, with its learning rate if that is not the recipe's: `strips at 0.001`."""
        return self.task_name if self.learning_rate is None else f"{self.task_name} at {self.learning_rate:g}"

    @property
    def key(self) -> str:
        """Its name in recipes and in a job's specification, such as `diagnostic/strips at 0.001`."""
        return f"diagnostic/{self.title}"

    @property
    def purpose(self) -> str:
        """`learning rate` if it varies that, `control` if the cue is removed or local, otherwise `idea`."""
        if self.learning_rate is not None:
            return "learning rate"
        return "control" if self.control else "idea"

    @property
    def rows(self) -> tuple[str, ...]:
        """The slugs of the rows that are trained here."""
        named = [row for one in self.predictions for row in (one.row, one.reference) if row != CHANCE]
        return tuple(dict.fromkeys((*named, *self.unpredicted)))

    @property
    def classes(self) -> int:
        """The number of classes that the models predict."""
        return CLASSES.get(self.name, 2)

    def trains(self, row: Row) -> bool:
        """Whether this sub-task trains the row."""
        return row.slug in self.rows


def subtask(name: str, *predictions: Prediction) -> Subtask:
    """A sub-task with the predictions about its rows."""
    return Subtask(name=name, predictions=predictions)


def twin(name: str, of: str, *predictions: Prediction, unpredicted: tuple[str, ...] = ()) -> Subtask:
    """A sub-task that differs from `of` in one respect: `twin("additive", "gate", ...)`, which a sum can decide."""
    return Subtask(name=of, twin=name, predictions=predictions, unpredicted=unpredicted)


def controls(
    name: str,
    rows: Sequence[str],
    reference: str,
    *,
    local: str = "every pixel tells its own class",
    order: Sequence[Control] = ("no-cue", "local"),
) -> list[Subtask]:
    """The two controls: without the cue these rows are at chance; with a local cue all are as good as the reference.

    The reference is also trained without the cue if it is among the rows; otherwise another table does that.
    """
    found: dict[Control, tuple[Prediction, ...]] = {
        "no-cue": tuple(at_chance(row, "nothing tells the classes apart") for row in rows),
        "local": tuple(equal(row, reference, local) for row in rows if row != reference),
    }
    return [Subtask(name=name, control=control, predictions=found[control]) for control in order]


def at_rates(
    name: str, *predictions: Prediction, why: str = "as at the rate that all rows share", rates: Sequence[float] = RATES
) -> list[Subtask]:
    """The sub-task at each of these learning rates, with the same predictions at each."""
    said = tuple(dataclasses.replace(one, why=why) for one in predictions)
    return [Subtask(name=name, learning_rate=rate, predictions=said) for rate in rates]


def micro(
    changes: Mapping[str, Any], *, quick: Sequence[Subtask] = (), quick_full: Sequence[Subtask] = ()
) -> tuple[Subtask, ...]:
    """A table's sub-tasks by the protocol that trains them; `changes` turn every row's model into a micro model."""
    return tuple(
        dataclasses.replace(one, changes=changes, protocol=protocol)
        for protocol, own in (("quick", quick), ("quick-full", quick_full))
        for one in own
    )
