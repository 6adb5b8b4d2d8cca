"""The grammar of a study: a table of the paper as rows of models, with the printed values and the paper's claims."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from segnext.config import Model

COSTS = ("params_m", "gflops")
"""The metrics that need no training."""

# Metric of a printed value -> column of the derived CSV with our value.
MEASURED_AS = {
    "params_m": "params",
    "gflops": "gmacs",
    "miou_ss": "miou_ss",
    "miou_ms": "miou_ms",
    "top1": "top1",
    "fps": "fps",
}

LOOKED_AT = ("gradcam_inside", "thin_boundary_iou")
"""Metrics of claims that no table prints: the percent of Grad-CAM's heat inside the class's true pixels
(`studies.figures`), and the mean boundary IoU of a dataset's thin classes."""

THIN = ("pole", "person", "pedestrian")
"""The strip-like objects of Sec. 3.1, as datasets name them."""

DATASETS = {
    "imagenet1k": ("ImageNet-1K", 1000),
    "ade20k": ("ADE20K", 150),
    "cityscapes": ("Cityscapes", 19),
    "cityscapes_test": ("Cityscapes test", 19),
    "coco_stuff164k": ("COCO-Stuff", 171),  # Official code; the paper's 172 count "unlabeled"
    "voc2012_test": ("Pascal VOC 2012 test", 21),  # Paper: Sec. 4, "20 foreground classes and a background class"
    "pascal_context": ("Pascal Context", 59),  # Ours: as the compared rows; the paper does not say whether 59 or 60
    "isaid": ("iSAID", 16),  # Paper: Sec. 4, "15 foreground classes and a background class"
}
"""The paper's datasets: their titles, and the number of classes of a model for them."""

Printed = dict[tuple[str, str], float]
"""Values as the paper prints them, by (dataset, metric)."""

Reasons = dict[tuple[str, str], str]
"""Why a printed cost is not the measured one, by (dataset, metric)."""


@dataclass(frozen=True)
class Panel:
    """The columns of a table about one dataset. Call it with a row's printed numbers to name them by column.

    `ADE = Panel("ade20k", ("gflops", "miou_ss"))`; `ADE(6.6, 41.1)`, or `ADE(6.6, None)` if the paper prints no mIoU.
    Join the numbers of several panels by `|`.
    """

    dataset: str
    columns: tuple[str, ...] = ("params_m", "gflops", "miou_ss", "miou_ms")
    input_size: tuple[int, int] = (512, 512)  # (height, width) at which costs are counted
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)  # applied to every row's model
    protocol: str = ""  # the only protocol that trains it; empty: any

    def __post_init__(self) -> None:
        assert self.dataset in DATASETS, self.dataset
        assert set(self.columns) <= set(MEASURED_AS), self.columns

    def __call__(self, *values: float | None) -> Printed:
        """Name a row's printed numbers, given in the order of the columns."""
        pairs = zip(self.columns, values, strict=True)
        return {(self.dataset, metric): value for metric, value in pairs if value is not None}

    def why(self, **reasons: str) -> Reasons:
        """Reasons, by metric, why a row's printed cost differs from the measured one, with the evidence."""
        assert set(reasons) <= set(COSTS), reasons
        return {(self.dataset, metric): reason for metric, reason in reasons.items()}

    @property
    def key(self) -> str:
        """Its unique name within the study, for the command line and a job's specification."""
        return self.dataset

    @property
    def title(self) -> str:
        """The title of the dataset, such as `Pascal Context`."""
        return DATASETS[self.dataset][0]

    @property
    def classes(self) -> int:
        """The number of classes that the models predict."""
        return DATASETS[self.dataset][1]

    @property
    def task(self) -> str:
        """`classification` (ImageNet) or `segmentation`."""
        return "classification" if self.dataset == "imagenet1k" else "segmentation"

    def trains(self, row: Row) -> bool:
        """Whether this panel trains the row."""
        return True

    @property
    def accuracies(self) -> tuple[str, ...]:
        """The columns that need a trained model; none if the panel has only costs."""
        return tuple(metric for metric in self.columns if metric not in COSTS)


class _Line:
    """What measured and quoted rows have in common."""

    name: str
    detail: str
    printed: Printed
    also: Mapping[str, Printed]

    @property
    def label(self) -> str:
        """The name with its detail in brackets."""
        return f"{self.name} ({self.detail})" if self.detail else self.name

    def prints(self, panel: Panel, metric: str) -> float | None:
        """The printed value; None if the table has none."""
        return self.printed.get((panel.dataset, metric))

    def elsewhere(self, panel: Panel, metric: str) -> dict[str, float]:
        """Other values that the paper prints for the same quantity, by place, if it disagrees with itself."""
        key = (panel.dataset, metric)
        return {source: values[key] for source, values in self.also.items() if key in values}

    def spread(self, panel: Panel, metric: str) -> float:
        """The range of the paper's own values for the same quantity."""
        values = [*self.elsewhere(panel, metric).values(), self.prints(panel, metric)]
        known = [value for value in values if value is not None]
        return max(known) - min(known) if known else 0.0


@dataclass(frozen=True)
class Row(_Line):
    """A row that is measured: the paper's name, a slug for the command line, the model, and the printed values."""

    name: str
    slug: str
    model: Model
    printed: Printed
    detail: str = ""  # text of another column of the table, or which reading of the row this is
    note: str = ""
    also: Mapping[str, Printed] = field(default_factory=dict)  # by place: other printed values for the same quantity
    why: Reasons = field(default_factory=dict)
    pretraining: str = ""  # dataset of a training between ImageNet-1K and the panel's own dataset


@dataclass(frozen=True)
class Reported(_Line):
    """A row that is only quoted: a peer's printed values. If it has a model, we measure its cost, not its accuracy."""

    name: str
    printed: Printed
    detail: str = ""
    model: Model | None = None
    note: str = ""
    also: Mapping[str, Printed] = field(default_factory=dict)
    why: Reasons = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The name in anchors, CSVs and claims: `Mask2Former (Swin-T)` is `mask2former-swin-t`."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class Claim:
    """What a table asserts about two of its rows, on one dataset (default: the study's first).

    `kind` is `greater`: `better` is above `worse` on `metric`; `equivalent`: no difference is expected; `at least`:
    `better` reaches the value printed for `worse`; `slope`: over the study's squares the cost of `better` grows with
    the number of pixels, that of `worse` with its square; or `learnt`: more runs of `better` than of `worse` reach
    `threshold`, for a task that a run either learns or does not.

    `printed` is the printed difference (better - worse), if there is one; `text` is what the paper says. A quoted row
    is judged by its printed value.
    """

    slug: str
    better: str
    worse: str
    metric: str
    printed: float | None
    text: str
    kind: Literal["greater", "equivalent", "at least", "slope", "learnt"] = "greater"
    dataset: str = ""
    threshold: float | None = None  # of `learnt`, in the metric's unit


def claims(
    slug: str,
    better: str,
    worse: str,
    text: str,
    printed: Printed,
    kind: Literal["greater", "equivalent"] = "greater",
) -> list[Claim]:
    """One claim per column about two rows, named `SLUG-METRIC`, with the printed differences.

    `claims("t5-ham-cc", "ham", "cc", "Ham above CC", ADE(None, None, 1.2, 1.3))` gives two, on `miou_ss` and `miou_ms`.
    """
    return [
        Claim(f"{slug}-{metric}", better, worse, metric, difference, text, kind, dataset)
        for (dataset, metric), difference in printed.items()
    ]


@dataclass(frozen=True)
class Study:
    """One table of the paper, with its `number` and `caption` as printed.

    `squares` are ascending sides, in pixels, of square images at which we also measure every row's cost, latency and
    peak memory, with the classes of the first panel, to see how they grow with the number of pixels.
    `timed` are networks, by name, whose frames per second we measure at the first panel's input size.
    `subtasks` of the generated dataset are trained under the quick protocols (`studies.declare.subtasks`).
    """

    slug: str
    number: str
    caption: str
    panels: tuple[Panel, ...]
    rows: Sequence[Row | Reported]
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = ()
    squares: tuple[int, ...] = ()
    timed: Mapping[str, Model] = field(default_factory=dict, hash=False)
    subtasks: tuple[Panel, ...] = ()

    def __post_init__(self) -> None:
        slugs = [row.slug for row in self.rows]
        assert len(set(slugs)) == len(slugs), f"{self.slug}: two rows share a slug"
        columns = {(panel.dataset, metric) for panel in self.panels for metric in panel.columns}
        for row in self.rows:
            named = {*row.printed, *row.why, *(key for values in row.also.values() for key in values)}
            assert named <= columns, f"{self.slug}: {row.slug} names a column that no panel has"
        for claim in self.claims:
            assert {claim.better, claim.worse} <= set(slugs), f"{self.slug}: claim {claim.slug} names an unknown row"
            printed = self.panel(claim.dataset).columns
            assert claim.metric in (*printed, *LOOKED_AT), f"{self.slug}: claim {claim.slug}"
            assert claim.kind != "slope" or (claim.metric in COSTS and self.squares), f"{self.slug}: claim {claim.slug}"
            assert (claim.kind == "learnt") == (claim.threshold is not None), f"{self.slug}: claim {claim.slug}"
        assert list(self.squares) == sorted(set(self.squares)), f"{self.slug}: squares do not ascend"

    @property
    def trained(self) -> list[Row]:
        """The rows that we measure, in the paper's order."""
        return [row for row in self.rows if isinstance(row, Row)]

    def row(self, slug: str) -> Row:
        """The row with this slug. Raises `ValueError`, suggesting the nearest name, if there is none."""
        rows = {row.slug: row for row in self.trained}
        if slug not in rows:
            raise ValueError(unknown(f"row of {self.slug}", slug, rows))
        return rows[slug]

    def panel(self, dataset: str = "") -> Panel:
        """The panel with this key (default: the first). Raises `ValueError`, suggesting the nearest, for another."""
        panels = (*self.panels, *self.subtasks)
        found = next((panel for panel in panels if dataset in ("", panel.key)), None)
        if found is None:
            raise ValueError(unknown(f"dataset of {self.slug}", dataset, [panel.key for panel in panels]))
        return found


def unknown(kind: str, name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """The error message for an unknown name: `unknown study 'tabel7' (did you mean table7?)`, or with all names."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
    return f"unknown {kind} {name!r} ({hint})"
