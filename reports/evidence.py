"""What the records say about a study, arranged for reading: its costs, and its accuracies per protocol and length."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports import verdicts
from reports.verdicts import Judgement
from segnext.config import Data, Train
from studies.protocols import PROTOCOLS, Protocol
from studies.provenance import code_fingerprint
from studies.store import Record, Store, row_cost
from studies.study import MEASURED_AS, Claim, Study

UNITS = {"params_m": 1e6, "gflops": 1.0}
"""The metrics that are costs, and what one printed unit is in the records: parameters in millions, FLOPs in G."""


@dataclass(frozen=True)
class Seed:
    """One measured accuracy, its run's record, and what a reader must be warned of."""

    seed: int
    value: float
    record: str
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expense:
    """The measured costs of a row, in the printed units, and their record."""

    printed_units: Mapping[str, float]  # params_m, gflops
    gmacs_fvcore: float
    record: str


@dataclass(frozen=True)
class Variant:
    """A study under one protocol at one length. Different lengths are different variants and are never pooled."""

    study: Study
    protocol: Protocol
    iterations: int
    lines: tuple[Mapping[str, Any], ...]  # of the derived table
    marks: Mapping[str, tuple[str, ...]]  # by record

    @property
    def recipe(self) -> tuple[Data, Train]:
        """The data and the recipe, at the protocol's own length."""
        return self.protocol.recipe(self.study)

    @property
    def full(self) -> bool:
        """Whether it has the protocol's own length."""
        return self.iterations == self.recipe[1].iterations

    @property
    def comparable(self) -> bool:
        """Whether its accuracies may be held against printed ones: only the paper's protocol at full length."""
        return self.protocol.comparable and self.full

    @property
    def name(self) -> str:
        """`quick`, or `quick, 40 iterations` where it was cut short."""
        return self.protocol.name if self.full else f"{self.protocol.name}, {self.iterations} iterations"

    @property
    def slug(self) -> str:
        """The name in file names and anchors."""
        return f"{self.study.slug}-{self.protocol.name}" + ("" if self.full else f"-{self.iterations}")

    @property
    def seeds(self) -> list[int]:
        """The seeds that are finished or planned."""
        known = {line["seed"] for line in self.lines if line["seed"] is not None}
        return sorted(known) or list(self.protocol.seeds)

    @property
    def planned(self) -> int:
        """How many runs fill the table."""
        return len(self.study.trained) * len(self.seeds)

    @property
    def finished(self) -> list[Mapping[str, Any]]:
        """The lines that are measured."""
        return [line for line in self.lines if line["state"] == "done"]

    def measured(self, row: str, metric: str) -> tuple[Seed, ...]:
        """The values of a row, one per finished seed."""
        found = (line for line in self.finished if line["row"] == row and line[MEASURED_AS[metric]] is not None)
        return tuple(
            Seed(line["seed"], line[MEASURED_AS[metric]], line["run_id"], self.marks.get(line["run_id"], ()))
            for line in found
        )

    def values(self, row: str, metric: str) -> list[float]:
        """The values of a row without their origin."""
        return [seed.value for seed in self.measured(row, metric)]

    def judge(self, claim: Claim) -> Judgement:
        """The verdict on a claim about accuracies under this variant."""
        better, worse = (self.values(row, claim.metric) for row in (claim.better, claim.worse))
        return (verdicts.ordering if claim.kind == "greater" else verdicts.equivalence)(better, worse)


@dataclass(frozen=True)
class Evidence:
    """A study, and everything that was measured for it."""

    study: Study
    expenses: Mapping[str, Expense]  # by row, where measured
    variants: tuple[Variant, ...]

    @property
    def accuracies(self) -> list[str]:
        """The metrics of the table that training measures."""
        return [metric for metric in self.study.columns if metric not in UNITS]

    def judge_cost(self, claim: Claim) -> Judgement:
        """The verdict on a claim about costs: exact, whatever the protocol."""
        better, worse = (
            self.expenses[row].printed_units[claim.metric] if row in self.expenses else None
            for row in (claim.better, claim.worse)
        )
        return verdicts.costs(better, worse, claim.kind)

    def records(self, store: Store) -> list[Record]:
        """Every record behind this study, by id."""
        runs = {line["run_id"] for variant in self.variants for line in variant.finished}
        return [store.records[key] for key in sorted(runs | {expense.record for expense in self.expenses.values()})]


def gather(study: Study, store: Store) -> Evidence:
    """Read a study's evidence from the store. `ValueError` for a damaged record."""
    expenses = {}
    for row in study.trained:
        if record := store.cost(row_cost(study, row)):
            units = {metric: record[MEASURED_AS[metric]] / unit for metric, unit in UNITS.items()}
            expenses[row.slug] = Expense(units, record["gmacs_fvcore"], record["id"])
    warnings = {key: marks(record) for key, record in store.records.items()}
    grouped = itertools.groupby(store.table(study), key=lambda line: (line["protocol"], line["iterations"]))
    variants = (
        Variant(study, PROTOCOLS[protocol], iterations, tuple(lines), warnings)
        for (protocol, iterations), lines in grouped
    )
    return Evidence(study, expenses, tuple(variants))


def marks(record: Record) -> tuple[str, ...]:
    """What a reader must be warned of beside a number, in words that are shown next to its link."""
    return () if record["provenance"].get("code") == code_fingerprint() else ("stale code",)
