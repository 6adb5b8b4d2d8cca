"""Compares two results folders, B against A: records with the same id, and the seeds of the same rows.

A record that both have is `equal` (all measured numbers are the same), `equal to rounding` (metrics within `ROUNDING`
points, costs within a billionth, speeds with overlapping quartiles) or `different`. Numbers that only one of them has,
because older code did not measure them, are not compared.

A row is compared by the means of its seeds: Welch's test, corrected by Holm's method over all rows and metrics for
which both sides have at least three seeds and not the very same runs. The chance that any row is wrongly said to differ
is at most 5 % for the whole comparison. Runs that both sides share make that chance smaller, never larger
(test_compare.py simulates it). `no difference` is judged per row: its 90 % interval is within `TOLERANCE`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from segnext.config import digest
from studies.declare.study import MEASURED_AS
from studies.judge import pooling
from studies.judge.significance import ERROR, MINIMUM_SEEDS, Difference, Side, decide, welch
from studies.judge.verdicts import EPSILON
from studies.records.provenance import made_by_todays_code
from studies.records.schema import KINDS, Record, RunRecord
from studies.records.store import Store, precision
from studies.tables import studies

ROUNDING = 0.01
"""Points by which two ways of computing the same value may differ."""

EXACT = 1e-9
"""Relative tolerance for costs, which are counted."""

TOLERANCE = f"±{EPSILON['miou_ss']:.1f} mIoU, ±{EPSILON['top1']:.1f} Top-1"
"""The tolerance within which rows count as not different; the same as for printed and measured values."""

WORDS = {
    "differs": f"Welch's test over seeds, Holm's method over the comparison: p adjusted is at most {ERROR}",
    "no difference": f"not shown to differ, and the row's own 90 % interval lies within the tolerance: {TOLERANCE}",
    "not resolved": "neither; nor is anything said where no seed differs from another: no spread is no certainty",
    "few seeds": f"fewer than {MINIMUM_SEEDS} seeds on a side: the difference shows, nothing is said",
    "same runs": "both sides have the very same runs with the same numbers: there is nothing to test",
    "only A": "B has no run of it",
    "only B": "A has no run of it",
}
"""The words for a row, each with its rule."""

Measured = float | int | str | None

Likeness = Literal["equal", "equal to rounding", "different"]

_MEASURED = {
    "run": ("metrics", "confusion", "confusion_ms", "cue"),
    "evaluation": ("metrics", "confusion", "confusion_ms", "cue"),
    "cost": ("params", "gmacs", "gmacs_fvcore"),
    "speed": ("latency", "memory"),
    "server": ("value",),
    "shortcut": ("chance", "within", "beyond"),
}
assert set(_MEASURED) == set(KINDS)


@dataclass(frozen=True)
class Pair:
    """A record that both sides have. `largest` is the number that differs most, with both values; None if equal."""

    id: str
    kind: str
    likeness: Likeness
    compared: int
    largest: tuple[str, float | None, float | None] | None
    made: tuple[str, ...]  # differences in how the two records were made


Values = dict[int, tuple[str, float]]
"""Record id and value, by seed."""


@dataclass(frozen=True)
class Row:
    """A row under a protocol on a dataset, for one metric."""

    names: tuple[str, ...]  # STUDY/ROW of every table that shows these runs
    protocol: str
    dataset: str
    learning_rate: float
    iterations: int
    metric: str
    a: Values
    b: Values
    word: str = ""
    found: Difference | None = None
    made: tuple[str, ...] = ()  # differences in how the records of the two sides were made
    mixed: tuple[str, str] = ("", "")  # per side, what its runs do not share

    @property
    def sides(self) -> tuple[list[float], list[float]]:
        """The values of B and of A: the difference is B - A."""
        return [value for _, value in self.b.values()], [value for _, value in self.a.values()]

    @property
    def shared(self) -> int:
        """The number of runs that both sides have with the same value; they are no independent evidence."""
        return len(set(self.a.values()) & set(self.b.values()))


@dataclass(frozen=True)
class Comparison:
    """The result of comparing B with A."""

    pairs: Sequence[Pair]
    only: tuple[Mapping[str, str], Mapping[str, str]]  # records that only A has, and only B: id -> kind
    rows: Sequence[Row]
    unlisted: tuple[int, int]  # runs of each side that no row of today's tables shows

    def of(self, *words: str) -> list[Row]:
        """The rows with one of these words."""
        return [row for row in self.rows if row.word in words]

    @cached_property
    def tested(self) -> int:
        """The number of comparisons for which Holm's method corrects."""
        return len(self.of("differs", "no difference", "not resolved"))

    @cached_property
    def other_costs(self) -> list[Pair]:
        """Costs of the same model that differ; they are counted, so such a difference is certain."""
        return [pair for pair in self.pairs if pair.kind == "cost" and pair.likeness == "different"]

    @property
    def differs(self) -> bool:
        """Whether anything differs beyond chance."""
        return bool(self.of("differs") or self.other_costs)


def compare(a: Store, b: Store) -> Comparison:
    """Compare B with A. Damaged records are left out; `Store.damage` names them."""
    both = sorted(a.records.keys() & b.records.keys())
    pairs = [_pair(a.records[key], b.records[key]) for key in both]
    only = [
        {key: record.kind for key, record in mine.records.items() if key not in other.records}
        for mine, other in ((a, b), (b, a))
    ]
    rows = _rows(a, b)
    values = [row.a for row in rows], [row.b for row in rows]
    shown = [{record for of_row in side for record, _ in of_row.values()} for side in values]
    unlisted = [sum(r.id not in seen for r in store.kind("run")) for store, seen in zip((a, b), shown, strict=True)]
    return Comparison(pairs, (only[0], only[1]), _judged(rows, a, b), (unlisted[0], unlisted[1]))


def _pair(one: Record, other: Record) -> Pair:
    kind = one.kind
    mine, theirs = (dict(_flat(record, _MEASURED[kind])) for record in (one, other))
    shared = [key for key in mine if key in theirs]
    unequal = [key for key in shared if mine[key] != theirs[key]]
    values = ((key, mine[key], theirs[key]) for key in unequal)
    numbers = [(key, x, y) for key, x, y in values if not (isinstance(x, str) or isinstance(y, str))]
    largest = max(numbers, default=None, key=lambda number: _distance(*number[1:]))
    near = _overlap(one, other) if kind == "speed" else all(_near(kind, x, y) for _, x, y in numbers)
    likeness: Likeness = "equal" if not unequal else "equal to rounding" if near else "different"
    return Pair(one.id, kind, likeness, len(shared), largest, unlike([one], [other]))


def _flat(record: Record, keys: Iterable[str]) -> Iterator[tuple[str, Measured]]:
    """Yield every measured value by name; values that are not numbers, such as counts of pixels, as text."""
    for key in keys:
        value = record.get(key)
        for name, part in value.items() if isinstance(value, dict) else [(key, value)] if key in record else []:
            parts = part if isinstance(part, list) else [part]
            names: Iterable[object] = range(1, len(parts) + 1)
            if len(record.get("classes", ())) == len(parts):
                names = record["classes"]
            for of, item in zip(names, parts, strict=True):
                number = item is None or isinstance(item, float | int)
                yield (f"{name} {of}" if isinstance(part, list) else name), item if number else str(item)


def _distance(one: float | None, other: float | None) -> float:
    return math.inf if one is None or other is None else abs(other - one)


def _near(kind: str, one: float | None, other: float | None) -> bool:
    within = EXACT * max(abs(one or 0), abs(other or 0)) if kind == "cost" else ROUNDING
    return _distance(one, other) <= within


def _overlap(one: Record, other: Record) -> bool:
    """Whether the ranges between the quartiles of two speeds overlap."""
    ends = (record.get(key) for record in (one, other) for key in ("lower_quartile", "upper_quartile"))
    known = [end for end in ends if isinstance(end, float)]
    return len(known) == 4 and known[0] <= known[3] and known[2] <= known[1]


def made(record: Record) -> dict[str, str]:
    """The code, machine and data of a record, as far as it names them; older records name less."""
    origin = record["provenance"]
    names = ("code", "python", "processor", "device", "driver", "compiled", "processes", "threads", "initial")
    found = {name: str(origin[name]) for name in names if origin.get(name) is not None}
    found |= origin.get("packages", {})
    found |= {
        key.replace("_", " "): str(value) for key, value in (origin.get("data") or {}).items() if value is not None
    }
    if record.kind in ("run", "evaluation"):
        found["precision"] = precision(record)
    return found


def unlike(a: Sequence[Record], b: Sequence[Record]) -> tuple[str, ...]:
    """Differences in how the records of two sides were made, `torch 2.14.0 → 2.15.0`, among facts that both name."""
    sides = [[made(record) for record in side] for side in (a, b)]
    names = dict.fromkeys(name for side in sides for one in side for name in one)
    told = []
    for name in names:
        values = [sorted({one[name] for one in side if name in one}) for side in sides]
        if all(values) and values[0] != values[1]:
            same = name == "code" and all(made_by_todays_code(record) for record in (*a, *b))
            told.append(f"{name} {' → '.join(map(' and '.join, values))}" + (" (equal to rounding)" if same else ""))
    return tuple(told)


def _rows(a: Store, b: Store) -> list[Row]:
    """The rows of both sides, one per configuration and metric; a run that several tables share is in one row."""
    sides: tuple[dict[Any, Values], dict[Any, Values]] = ({}, {})
    names: dict[Any, dict[str, None]] = {}
    facts: dict[Any, tuple[str, str, float, int, str]] = {}
    for store, found in zip((a, b), sides, strict=True):
        for study in studies().values():
            for view in store.views(study):
                for line in (line for line in view.lines if line.state == "done" and view.iterations):
                    config = store.finished(line.run_id).plain["config"]
                    assert line.seed is not None
                    assert line.iterations is not None
                    cell = digest({key: value for key, value in config.items() if key != "seed"})
                    for metric in view.panel.accuracies:
                        value = line.measured(MEASURED_AS[metric])
                        if metric in EPSILON and value is not None:  # frames per second depend on the machine
                            key = cell, metric
                            found.setdefault(key, {})[line.seed] = line.run_id, value
                            names.setdefault(key, {})[f"{line.study}/{line.row}"] = None
                            rate, length = config["train"]["learning_rate"], line.iterations
                            facts[key] = line.protocol, line.dataset, rate, length, metric
    mine, theirs = sides
    return [Row(tuple(names[key]), *facts[key], mine.get(key, {}), theirs.get(key, {})) for key in facts]


def decided(family: Sequence[tuple[Side, Side]]) -> list[Difference]:
    """Decide comparisons by Holm's method, which is the rule of `significance` without a margin."""
    return decide(family, math.inf)


def _judged(rows: Sequence[Row], a: Store, b: Store) -> list[Row]:
    """The rows, each with its word."""
    family = [row for row in rows if _word(row) == ""]
    differences = iter(decided([row.sides for row in family]))
    judged = []
    for row in rows:
        word, found = _word(row), None
        if word == "":
            found = next(differences)
            word = "differs" if found.differs and found.differs.shows else _unresolved(row)
        elif word == "few seeds":
            (found,) = decided([row.sides])
        (mine, mixed_a), (theirs, mixed_b) = _origins(row.a, row.b, a), _origins(row.b, row.a, b)
        differs = unlike(mine, theirs) if mine and theirs else ()
        judged.append(dataclasses.replace(row, word=word, found=found, made=differs, mixed=(mixed_a, mixed_b)))
    return judged


def _origins(own: Values, other: Values, store: Store) -> tuple[list[RunRecord], str]:
    """A side's records without the shared ones (or all, if none are left), and what all of them do not share."""
    shared = set(own.values()) & set(other.values())
    alone = [store.finished(key) for key, value in own.values() if (key, value) not in shared]
    every = [store.finished(key) for key, _ in own.values()]
    return alone or every, pooling.mixture(map(pooling.origin, every))


def _word(row: Row) -> str:
    """The word for a row that needs no test; "" if it needs one."""
    if not (row.a and row.b):
        return "only A" if row.a else "only B"
    if row.a == row.b:
        return "same runs"
    return "few seeds" if min(len(row.a), len(row.b)) < MINIMUM_SEEDS else ""


def _unresolved(row: Row) -> str:
    t = welch(*row.sides)
    return "no difference" if t and t.equal(EPSILON[row.metric]) <= ERROR else "not resolved"
