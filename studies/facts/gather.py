"""What the records say about a study, arranged for reading: its costs, and its accuracies per protocol and length.

The CSVs of results/ and the pages of a report are made of the same values, so that they cannot differ.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from segnext.config import Platform, digest
from studies.declare.protocols import Protocol, Recipe
from studies.declare.study import LOOKED_AT, MEASURED_AS, THIN, Claim, Panel, Reported, Row, Study
from studies.judge import pooling, verdicts
from studies.judge.looks import Stand
from studies.judge.pooling import Origin
from studies.judge.verdicts import Judgement
from studies.plan import looking
from studies.plan.state import standing
from studies.records.attempts import LostAttempt, lost
from studies.records.lines import Line
from studies.records.provenance import made_by_todays_code
from studies.records.schema import (
    CostRecord,
    EvaluationRecord,
    File,
    Record,
    RunRecord,
    ScoredRecord,
    ServerRecord,
    SpeedRecord,
)
from studies.records.store import Store, View, frame_speed, square_cost, square_speed

UNITS = {"params_m": 1e6, "gflops": 1.0}
"""The metrics that are costs, and what one printed unit is in the records: parameters in millions, FLOPs in G."""


@dataclass(frozen=True)
class Seed:
    """One measured accuracy, its record, and what a reader must be warned of. The seed is the run's, or Ham's."""

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
class Timings:
    """The speed records of one platform, by row and side of the square image."""

    platform: Platform
    records: Mapping[tuple[str, int], SpeedRecord]


@dataclass(frozen=True)
class Tested:
    """Finished weights of a row, a run's or a file's, and what their tests gave: by metric, then by Ham's seed."""

    row: str
    name: str  # `seed 0` of a run, or the file's name
    values: Mapping[str, tuple[Seed, ...]]
    own: Mapping[str, float] = field(default_factory=dict)  # a run's own evaluation, if Ham's seed 0 was tested again


@dataclass(frozen=True)
class Variant:
    """A panel of a study under one protocol at one length. Different lengths are different variants, never pooled."""

    study: Study
    panel: Panel
    protocol: Protocol
    iterations: int | None  # None: the protocol has no recipe for the panel
    lines: tuple[Line, ...]  # of the derived table
    marks: Mapping[str, tuple[str, ...]]  # by record
    origins: Mapping[str, Origin] = field(default_factory=dict)  # by record
    imported: tuple[Tested, ...] = ()  # weights that were trained elsewhere
    retested: tuple[Tested, ...] = ()  # finished runs that were tested again
    served: Mapping[tuple[str, str], str] = field(default_factory=dict)  # by run and metric: a test server's record
    looked_at: Mapping[tuple[str, str], float] = field(default_factory=dict)  # by run and metric of `LOOKED_AT`
    unfinished: Mapping[str, Counter[str]] = field(default_factory=dict)  # by row, where runs stand

    @cached_property
    def recipe(self) -> Recipe | None:
        """The recipe, at the protocol's own length."""
        return None if self.iterations is None else self.protocol.recipe(self.panel)

    @cached_property
    def full(self) -> bool:
        """Whether it has the protocol's own length."""
        return self.recipe is None or self.iterations == self.recipe.train.iterations

    @cached_property
    def comparable(self) -> bool:
        """Whether its accuracies may be held against printed ones: only the paper's protocol at full length."""
        return self.protocol.comparable and self.full

    @cached_property
    def name(self) -> str:
        """`quick`, or `quick, 40 iterations` where it was cut short; with the dataset where there are several."""
        dataset = f" on {self.panel.title}" if self._among_several else ""
        return f"{self.protocol.name}{dataset}" + ("" if self.full else f", {self.iterations} iterations")

    @cached_property
    def slug(self) -> str:
        """The name in file names and anchors."""
        dataset = f"-{self.panel.key}" if self._among_several else ""
        dataset = dataset.replace("diagnostic/", "").replace(" ", "-")
        return f"{self.study.slug}-{self.protocol.name}{dataset}" + ("" if self.full else f"-{self.iterations}")

    @property
    def _among_several(self) -> bool:
        several = self.protocol.comparable and sum(bool(panel.accuracies) for panel in self.study.panels) > 1
        return several or bool(self.panel.protocol)

    @cached_property
    def rows(self) -> list[Row]:
        """The rows that are trained here."""
        return [row for row in self.study.trained if self.panel.trains(row)]

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds that are finished or planned."""
        known = {line.seed for line in self.lines if line.seed is not None}
        return sorted(known) or list(self.protocol.seeds_for(self.study))

    @property
    def planned(self) -> int:
        """How many runs fill the table."""
        return len(self.rows) * len(self.seeds) if self.recipe else 0

    @cached_property
    def finished(self) -> list[Line]:
        """The lines that are measured."""
        return [line for line in self.lines if line.state == "done"]

    @cached_property
    def finished_by_row(self) -> Mapping[str, Sequence[Line]]:
        """The same by row."""
        found: dict[str, list[Line]] = {}
        for line in self.finished:
            found.setdefault(line.row, []).append(line)
        return found

    @property
    def progress(self) -> str:
        """How far the table is filled, in words."""
        files = f", {len(self.imported)} imported" if self.imported else ""
        return f"{len(self.finished)} of {self.planned} runs finished{files}"

    @property
    def counted(self) -> bool:
        """Whether the report's summaries count it: at full length, and more than weights of elsewhere."""
        return self.full and (self.protocol.comparable or bool(self.finished))

    @cached_property
    def telling(self) -> bool:
        """Whether there is something to compare: with a print, or two rows of a seed that are not one run.

        A run that several tables share would else open each of them with a single row.
        """
        if self.comparable or len(self.rows) == 1:
            return bool(self.finished or self.imported)
        runs = {(line.seed, line.run_id) for line in self.finished}
        return len(runs) > len({seed for seed, _ in runs})

    def measured(self, row: str, metric: str) -> tuple[Seed, ...]:
        """The values of a row, one per finished seed."""
        return self._measured.get((row, metric), ())

    @cached_property
    def _measured(self) -> dict[tuple[str, str], tuple[Seed, ...]]:
        found: dict[tuple[str, str], list[Seed]] = {}
        for line, metric in itertools.product(self.finished, (*MEASURED_AS, *LOOKED_AT)):
            looked_at = self.looked_at.get((line.run_id, metric))
            value = looked_at if metric in LOOKED_AT else line.measured(MEASURED_AS[metric])
            if value is not None and line.seed is not None:
                record = self.served.get((line.run_id, metric), line.run_id)
                seed = Seed(line.seed, value, record, self.marks.get(record, ()))
                found.setdefault((line.row, metric), []).append(seed)
        return {key: tuple(seeds) for key, seeds in found.items()}

    def values(self, row: str, metric: str) -> list[float]:
        """The values of a row without their origin."""
        return [seed.value for seed in self.measured(row, metric)]

    def mixture(self, records: Iterable[str]) -> str:
        """What the records behind one number do not share, in words; empty where they may be pooled."""
        return pooling.mixture(self.origins[record] for record in records)

    def mixed(self, row: str, metric: str) -> str:
        """The same of the values of a row."""
        return self.mixture(seed.record for seed in self.measured(row, metric))

    def precisions(self, row: str) -> str:
        """What the finished runs of a row were computed in; empty while there is none."""
        return pooling.precisions(self.origins[line.run_id] for line in self.finished_by_row.get(row, ()))

    def precision_of(self, seeds: Iterable[Seed]) -> str:
        """What these values were computed in."""
        return pooling.precisions(self.origins[seed.record] for seed in seeds)

    @property
    def mixtures(self) -> str:
        """What the finished runs of each row do not share, as the end of a figure's caption."""
        runs = {row.label: [line.run_id for line in self.finished_by_row.get(row.slug, ())] for row in self.rows}
        return "".join(f" † {label}: {words}." for label, own in runs.items() if (words := self.mixture(own)))

    @property
    def claims(self) -> list[Claim]:
        """The claims that these runs can judge: on accuracies of this panel, and on a printed one if comparable."""
        trained = {row.slug for row in self.study.trained}
        if not self.finished and not self.protocol.comparable:  # weights of elsewhere judge nothing
            return []
        return [
            claim
            for claim in self.study.claims
            if claim.metric in (*self.panel.accuracies, *LOOKED_AT)
            and self.study.panel(claim.dataset) == self.panel
            and (self.comparable or (claim.kind != "at least" and {claim.better, claim.worse} <= trained))
        ]

    def judge(self, claim: Claim, level: float = verdicts.LEVEL) -> Judgement:
        """The verdict on one of these claims alone; `Evidence.judge` corrects it for all that the table makes."""
        sides = (self.measured(slug, claim.metric) for slug in (claim.better, claim.worse))
        mixed = self.mixture(seed.record for seed in itertools.chain(*sides))
        return dataclasses.replace(self._judge(claim, level), mixed=mixed)

    def _judge(self, claim: Claim, level: float) -> Judgement:
        rows = {row.slug: row for row in self.study.rows}
        better = self._side(rows[claim.better], claim.metric)
        if None in (better, self._side(rows[claim.worse], claim.metric)):
            return Judgement("pending")  # a peer for which the paper prints nothing of the kind
        if claim.kind == "at least":
            return verdicts.ordering(better, rows[claim.worse].printed[self.panel.dataset, claim.metric], level)
        worse = self._side(rows[claim.worse], claim.metric)
        if claim.threshold is not None:
            first, second = (self.values(slug, claim.metric) for slug in (claim.better, claim.worse))
            return verdicts.learnt(first, second, claim.threshold, level)
        return (verdicts.ordering if claim.kind == "greater" else verdicts.equivalence)(better, worse, level)

    def _side(self, row: Row | Reported, metric: str) -> Any:
        """A `verdicts.Side`, or None for a peer without a printed value."""
        return row.prints(self.panel, metric) if isinstance(row, Reported) else self.values(row.slug, metric)


@dataclass(frozen=True)
class Evidence:
    """A study, and everything that was measured for it."""

    study: Study
    expenses: Mapping[tuple[str, str], Expense]  # by dataset and row, where measured
    variants: tuple[Variant, ...]
    growth: Mapping[tuple[str, int], Expense]  # costs by row and side of the square image, where measured
    timings: tuple[Timings, ...]
    frames: Mapping[Platform, Mapping[str, SpeedRecord]]  # speed records of the networks that the study times, by name
    looks: Mapping[tuple[str, str], Stand] = field(default_factory=dict)  # by protocol and claim, where planned

    def judge(self, variant: Variant, claim: Claim) -> Judgement:
        """The verdict on a claim under a variant, corrected for every claim that the table makes under its protocol."""
        return self._judged[variant.slug, claim.slug]

    @cached_property
    def _judged(self) -> dict[tuple[str, str], Judgement]:
        families: dict[tuple[str, int | None], list[tuple[Variant, Claim]]] = {}
        for variant in self.variants:
            # The panels of a table have recipes of their own: at full length they belong together.
            family = families.setdefault((variant.protocol.name, None if variant.full else variant.iterations), [])
            family += [(variant, claim) for claim in variant.claims]
        found: dict[tuple[str, str], Judgement] = {}
        for family in families.values():
            judged = verdicts.holm([functools.partial(variant.judge, claim) for variant, claim in family])
            for (variant, claim), judgement in zip(family, judged, strict=True):
                found[variant.slug, claim.slug] = self._by_looks(variant, claim, judgement)
        return found

    def _by_looks(self, variant: Variant, claim: Claim, judgement: Judgement) -> Judgement:
        """What planned looks say of a claim (`studies.run --until-decided`) counts, and not all seeds together."""
        stand = self.looks.get((variant.protocol.name, claim.slug)) if variant.full else None
        if stand is None:
            return judgement
        if not stand.look:  # no look has its seeds yet
            word = judgement.verdict if judgement.verdict == "pending" else "few seeds"
            return dataclasses.replace(judgement, verdict=word, p=None, adjusted=None)
        word = "not resolved" if stand.verdict == "given up" else stand.verdict
        note = f"judged in planned looks: {stand.verdict} at look {stand.look}, on its seeds alone"
        mixed = "; ".join(filter(None, (judgement.mixed, note)))
        return Judgement(word, stand.difference, judgement.interval, p=stand.p, mixed=mixed)

    @property
    def cost_claims(self) -> list[Claim]:
        """The claims about costs: judged exactly, whatever the protocol."""
        return [claim for claim in self.study.claims if claim.metric in UNITS]

    def judge_cost(self, claim: Claim) -> Judgement:
        """The verdict on a claim about costs."""
        if claim.kind == "slope":
            return verdicts.slope(*(self._exponent(slug, claim.metric) for slug in (claim.better, claim.worse)))
        panel = self.study.panel(claim.dataset)
        rows = {row.slug: row for row in self.study.rows}
        better, worse = (self._cost(panel, rows[slug], claim.metric) for slug in (claim.better, claim.worse))
        return verdicts.costs(better, worse, claim.kind)

    def _cost(self, panel: Panel, row: Row | Reported, metric: str) -> float | None:
        if isinstance(row, Reported):
            return row.prints(panel, metric)
        expense = self.expenses.get((panel.dataset, row.slug))
        return None if expense is None else expense.printed_units[metric]

    def _exponent(self, row: str, metric: str) -> verdicts.Exponent | None:
        """How a row's cost grows; None while it is not measured on every square."""
        found = [(side, self.growth.get((row, side))) for side in self.study.squares]
        points = [(side**2, expense.printed_units[metric]) for side, expense in found if expense]
        return verdicts.exponent(points) if len(points) == len(found) else None

    def records(self, store: Store) -> list[Record]:
        """Every record behind this study, by id."""
        finished = [line for variant in self.variants for line in variant.finished]
        found = {line.run_id for line in finished}
        found |= {line.upstream_run_id for line in finished if line.upstream_run_id in store.records}
        found |= {expense.record for expense in (*self.expenses.values(), *self.growth.values())}
        found |= {record.id for timings in self.timings for record in timings.records.values()}
        found |= {record.id for frames in self.frames.values() for record in frames.values()}
        for variant in self.variants:
            found |= {key for (run, _), key in variant.served.items() if run in found}
            for tested in (*variant.imported, *variant.retested):
                found |= {seed.record for values in tested.values.values() for seed in values}
        return [store.records[key] for key in sorted(found)]


@dataclass(frozen=True)
class Common:
    """What is the same for every study: warnings of records, tests of finished weights, lost attempts."""

    warnings: Mapping[str, tuple[str, ...]]
    retests: Mapping[str, Sequence[EvaluationRecord]]  # by `_weights`
    served: Mapping[tuple[str, str], str]  # by run and metric: a test server's record
    origins: Mapping[str, Origin]  # by record; that of a server's score is its run's
    lost: Sequence[LostAttempt]  # of runs without a record

    @cached_property
    def retested(self) -> frozenset[str]:
        """The runs whose weights were tested again."""
        weights = (test.config.weights for tests in self.retests.values() for test in tests)
        return frozenset(found for found in weights if isinstance(found, str))

    @cached_property
    def ended(self) -> Mapping[str, str]:
        """By run without a record, how its last attempt ended."""
        return {attempt.run_id: attempt.words for attempt in self.lost}


def common(store: Store, *, shown: bool = True) -> Common:
    """Read them once; `ValueError` for a damaged record.

    Without `shown`, for files, none of what changes with today's code or with runs/: no warnings, no lost attempts.
    """
    retests: dict[str, list[EvaluationRecord]] = {}
    for record in store.evaluated():
        retests.setdefault(_weights(record), []).append(record)
    served: dict[tuple[str, str], str] = {}
    for said in store.servers():
        config = said.config
        if _unscored(store.scored(config.run), config.metric):
            served.setdefault((config.run, config.metric), said.id)
    warnings = {key: marks(record) for key, record in store.records.items()} if shown else {}
    behind = {score: scored for (run, _), score in served.items() if (scored := store.scored(run)) is not None}
    known = {one.id: one for one in store.runs()} | {one.id: one for one in store.evaluated()} | behind
    return Common(warnings, retests, served, pooling.origins(known), lost(store) if shown else ())


def gather(study: Study, store: Store, standings: bool = False, shared: Common | None = None) -> Evidence:
    """Read a study's evidence from the store; with `standings` also which runs are running or queued, from runs/.

    `ValueError` for a damaged record.
    """
    shared = shared or common(store)
    expenses = {}
    for panel in study.panels:
        for row in study.rows:
            if record := store.row_cost(panel, row):
                expenses[panel.dataset, row.slug] = _expense(record)
    squares = [(row, side) for side in study.squares for row in study.trained]
    growth = {(row.slug, side): store.cost(square_cost(study, row, side)) for row, side in squares}
    timings = (
        Timings(
            platform,
            {
                (row.slug, side): speed
                for row, side in squares
                if (speed := store.speed(square_speed(study, row, side, platform)))
            },
        )
        for platform in (store.platforms() if study.squares else ())
    )
    looked_at = _looked_at(study, store)
    variants = (
        Variant(
            study,
            view.panel,
            view.protocol,
            view.iterations,
            tuple(view.lines),
            shared.warnings,
            shared.origins,
            tuple(_imported(view, store, shared)),
            tuple(_retested(view, store, shared)),
            shared.served,
            looked_at,
            _unfinished(study, view, store, None if standings else shared.ended),
        )
        for view in store.views(study)
        if view.panel.accuracies
    )
    return Evidence(
        study,
        expenses,
        tuple(variants),
        {key: _expense(record) for key, record in growth.items() if record},
        tuple(found for found in timings if found.records),
        _frames(study, store),
        looking.everywhere(study, store),
    )


def _frames(study: Study, store: Store) -> dict[Platform, dict[str, SpeedRecord]]:
    found = {
        platform: {name: record for name in study.timed if (record := store.speed(frame_speed(study, name, platform)))}
        for platform in store.platforms()
    }
    return {platform: records for platform, records in found.items() if records}


def _expense(record: CostRecord) -> Expense:
    units = {metric: getattr(record, MEASURED_AS[metric]) / unit for metric, unit in UNITS.items()}
    return Expense(units, record.gmacs_fvcore, record.id)


def _unfinished(study: Study, view: View, store: Store, ended: Mapping[str, str] | None) -> dict[str, Counter[str]]:
    """How the started runs of a view ended, by row: `failed: out of memory`; without `ended`, where they stand now."""
    found: dict[str, Counter[str]] = {}
    rows = {row.slug: row for row in study.trained}
    for line in view.lines if view.iterations else ():
        if line.state != "pending" or line.seed is None:
            continue
        words = ended.get(line.run_id, "") if ended is not None else ""
        if ended is None:
            stands = standing(view.protocol.run(view.panel, rows[line.row], line.seed, view.iterations), store)
            words = f"{stands.state}: {stands.cause.replace('_', ' ')}" if stands.cause else stands.state
        if words not in ("", "new"):
            found.setdefault(line.row, Counter())[words] += 1
    return found


def _looked_at(study: Study, store: Store) -> dict[tuple[str, str], float]:
    """What claims need and no table has, by run and metric; nothing for a study without such claims."""
    wanted = {claim.metric for claim in study.claims} & set(LOOKED_AT)
    found: dict[tuple[str, str], float] = {}
    pictured = store.digests.listed("cam") if "gradcam_inside" in wanted else {}
    for record in store.runs() if wanted else ():
        thin = [place for place, name in enumerate(record.classes) if name in THIN]
        edges = [record.metrics.boundary_iou[place : place + 1] for place in thin]
        if known := [edge[0] for edge in edges if edge and edge[0] is not None]:
            found[record.id, "thin_boundary_iou"] = statistics.fmean(known)
        share = heat_inside(store, record) if f"{record.id}.json" in pictured else None
        if share is not None:
            found[record.id, "gradcam_inside"] = share
    return found


def heat_inside(store: Store, record: ScoredRecord) -> float | None:
    """The percent of Grad-CAM's heat inside the class's true pixels, mean over images; None without such pictures."""
    if (facts := store.pictures(record.id)) is None:
        return None
    shares = [float(inside) for _, inside, _ in map(str.split, facts.shares) if inside != "-"]
    same = record.weights is not None and facts.weights == record.weights.sha256
    return 100 * statistics.fmean(shares) if shares and same else None


def _unscored(run: ScoredRecord | None, metric: str) -> bool:
    """Whether a finished run has no score of its own: its labels are a test server's alone."""
    return run is not None and run.metrics.value(MEASURED_AS[metric]) is None


def _weights(record: RunRecord | EvaluationRecord) -> str:
    """What the tests of the same weights on the same data share; a run's record gives that of its own weights."""
    config = record.plain["config"]
    weights = config["weights"] if isinstance(record, EvaluationRecord) else record.id
    return digest([weights, config["model"], config["data"]])


def _imported(view: View, store: Store, shared: Common) -> Iterator[Tested]:
    for line in view.lines:
        record = store.records.get(line.run_id) if line.state == "imported" else None
        if not isinstance(record, EvaluationRecord) or not isinstance(file := record.config.weights, File):
            continue
        if values := _by_metric(view.panel, shared.retests[_weights(record)], shared.warnings):
            yield Tested(line.row, file.name, values)


def _retested(view: View, store: Store, shared: Common) -> Iterator[Tested]:
    """A run's own evaluation stands for Ham's seed 0, unless it was tested again with it."""
    for line in view.lines:
        record = store.records.get(line.run_id) if line.run_id in shared.retested else None
        if not isinstance(record, RunRecord) or not (tests := shared.retests.get(_weights(record), ())):
            continue
        repeated = any(test.config.ham_seed == 0 for test in tests)
        values = _by_metric(view.panel, tests if repeated else [record, *tests], shared.warnings)
        own = _by_metric(view.panel, [record] if repeated else [], shared.warnings)
        yield Tested(line.row, f"seed {line.seed}", values, {key: seed.value for key, (seed,) in own.items()})


def _by_metric(
    panel: Panel, tests: Sequence[RunRecord | EvaluationRecord], warnings: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[Seed, ...]]:
    """The accuracies of some tests, by the seed of Ham's bases."""
    found: dict[str, tuple[Seed, ...]] = {}
    for metric in panel.accuracies:
        values = [(_ham_seed(one), one.metrics.value(MEASURED_AS[metric]), one.id) for one in tests]
        seeds = (Seed(ham, value, key, warnings.get(key, ())) for ham, value, key in values if value is not None)
        if ordered := tuple(sorted(seeds, key=lambda seed: seed.seed)):
            found[metric] = ordered
    return found


def _ham_seed(record: RunRecord | EvaluationRecord) -> int:
    """The seed of Ham's bases: a run's own evaluation used 0."""
    return record.config.ham_seed if isinstance(record, EvaluationRecord) else 0


def marks(record: Record) -> tuple[str, ...]:
    """What a reader must be warned of beside a number, in words that are shown next to its link."""
    if isinstance(record, ServerRecord):
        return ("test server",)
    return () if made_by_todays_code(record) else ("stale code",)
