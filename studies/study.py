"""The grammar of a study: a paper table as rows of models, with what the paper printed and what it claims."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from segnext.config import Model

# What a paper value is called here, and the column of the derived CSV that answers it.
MEASURED_AS = {"params_m": "params", "gflops": "gmacs", "miou_ss": "miou_ss", "miou_ms": "miou_ms", "top1": "top1"}

Printed = Mapping[str, float]
"""Values as the paper prints them, by metric: `params_m`, `gflops`, `miou_ss`, `miou_ms`, `top1`."""


@dataclass(frozen=True)
class Row:
    """A row that is trained: the paper's name, a slug for the command line, the model, and the printed values."""

    name: str
    slug: str
    model: Model
    printed: Printed
    note: str = ""


@dataclass(frozen=True)
class Reported:
    """A row that is only quoted: a peer's printed values, never measured here."""

    name: str
    printed: Printed


@dataclass(frozen=True)
class Claim:
    """What a table asserts about two of its rows.

    `greater`: `better` lies above `worse` on `metric`; `equivalent`: no difference is expected.
    `printed` is the printed difference (better - worse), `text` what the paper says, in words.
    """

    slug: str
    better: str
    worse: str
    metric: str
    printed: float
    text: str
    kind: Literal["greater", "equivalent"] = "greater"


@dataclass(frozen=True)
class Study:
    """One table of the paper. `number` is how the paper names it, `caption` its words."""

    slug: str
    number: str
    caption: str
    dataset: str
    rows: Sequence[Row | Reported]
    claims: Sequence[Claim]
    columns: Sequence[str] = ("params_m", "gflops", "miou_ss", "miou_ms")
    input_size: tuple[int, int] = (512, 512)  # (height, width) at which the paper counts FLOPs
    notes: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        slugs = [row.slug for row in self.trained]
        assert len(set(slugs)) == len(slugs), f"{self.slug}: two rows share a slug"
        for claim in self.claims:
            assert {claim.better, claim.worse} <= set(slugs), f"{self.slug}: claim {claim.slug} names an unknown row"

    @property
    def trained(self) -> list[Row]:
        """The rows that are measured here, in the paper's order."""
        return [row for row in self.rows if isinstance(row, Row)]

    def row(self, slug: str) -> Row:
        """The row with this slug; `ValueError` with the nearest name otherwise."""
        rows = {row.slug: row for row in self.trained}
        if slug not in rows:
            raise ValueError(unknown(f"row of {self.slug}", slug, rows))
        return rows[slug]


def unknown(kind: str, name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """`unknown study 'tabel7' (did you mean table7?)`, or the list of what there is."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
    return f"unknown {kind} {name!r} ({hint})"


@cache
def studies() -> dict[str, Study]:
    """Every declared study by slug, in the paper's order: one module of `studies.tables` each."""
    from studies import tables

    names = sorted((m.name for m in pkgutil.iter_modules(tables.__path__)), key=_paper_order)
    found = (importlib.import_module(f"studies.tables.{name}").STUDY for name in names)
    return {study.slug: study for study in found}


def study(slug: str) -> Study:
    """The study with this slug; `ValueError` with the nearest name otherwise."""
    if slug not in studies():
        raise ValueError(unknown("study", slug, studies()))
    return studies()[slug]


def _paper_order(name: str) -> tuple[str, int]:
    head = name.rstrip("0123456789")
    return ("" if head == "table" else head, int(name[len(head) :] or 0))
