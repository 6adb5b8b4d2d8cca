"""What would decide the paper's open claims and levels: runs, seeds, power, GPU-hours, and the cheapest order.

`programme` makes the whole plan; `first_lines` gives the steps for the report's first page. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from segnext.config import Run
from studies.declare.protocols import PROTOCOLS, Protocol
from studies.declare.study import COSTS, Reported, Study, unknown
from studies.judge import asked, power
from studies.judge.asked import Asked
from studies.judge.spread import Spread, spread_of
from studies.judge.verdicts import EPSILON, MARGIN
from studies.plan import cheapest
from studies.plan.hours import Clock, Hours, told
from studies.records.store import Store

MOST_SEEDS = 50
"""Most seeds per row that a plan asks for; a question that needs more is called undecidable, with that number."""

PRECISION, COMPILE = "bfloat16", "graphs"
"""The default precision and compiler of planned runs: the fast way on a GPU."""


@dataclass(frozen=True)
class Needed:
    """A run that a question needs, and the row that asks for it."""

    id: str
    study: str
    dataset: str
    row: str
    seed: int
    alone: bool  # whether this is the only dataset on which the protocol trains the study
    upstream: bool = False


@dataclass(frozen=True)
class Question:
    """An open claim or level, and what deciding it takes. With a `reason` it cannot be planned and needs no runs.

    `difference` is the printed one (for a level: its tolerance), `seeds` the number per row. `power` is the chance to
    decide a claim if the printed difference is true, `half` if half of it is; for a level, the chance of `reproduced`.
    """

    name: str
    kind: str  # claim, level or costs
    study: str
    dataset: str
    metric: str
    text: str
    verdict: str
    difference: float | None = None
    alpha: float | None = None
    spread: Spread | None = None
    seeds: int | None = None
    power: float | None = None
    half: float | None = None
    half_width: float | None = None
    have: int = 0
    runs: tuple[Needed, ...] = ()
    hours: float = 0.0  # of only its runs, upstream runs included
    reason: str = ""


@dataclass(frozen=True)
class Line:
    """A step of the plan: the questions that it decides, the runs and hours that it adds, and the commands to paste."""

    questions: tuple[Question, ...]
    runs: tuple[str, ...]
    hours: float
    arithmetic: float  # those of the hours that are not based on a measured step
    until: float  # hours of the plan up to and including this step
    commands: tuple[str, ...]

    @property
    def words(self) -> str:
        """The step as a line of text."""
        kinds = {kind: sum(question.kind == kind for question in self.questions) for kind in ("claim", "level")}
        costs = len(self.questions) - sum(kinds.values())
        counts = [f"{number} {kind}{'s' * (number > 1)}" for kind, number in kinds.items() if number]
        counts += [f"{costs} claim{'s' * (costs > 1)} about costs"] if costs else []
        tables = ", ".join(dict.fromkeys(question.study for question in self.questions))
        return f"{' and '.join(counts)} of {tables}: {hours_words(self.hours)}"


@dataclass(frozen=True)
class Programme:
    """The plan within a budget: its steps, the questions beyond the budget, and those that no budget decides."""

    protocol: str
    budget: float
    lines: tuple[Line, ...]
    beyond: tuple[Question, ...]  # questions that more hours could decide
    never: tuple[Question, ...]  # questions that cannot be decided, each with its reason
    decided: int
    elsewhere: tuple[str, ...]  # claims that the protocol does not train
    hours_from: str

    @property
    def hours(self) -> float:
        """The hours of the whole plan."""
        return self.lines[-1].until if self.lines else 0.0


def hours_words(hours: float) -> str:
    """Hours as text: `41 GPU-hours`."""
    return "no GPU-hours" if hours == 0 else f"{hours:,.0f} GPU-hours" if hours >= 10 else f"{hours:.1f} GPU-hours"


def deciding(name: str) -> Protocol:
    """The protocol of this name. Raises `ValueError` unless it decides the paper's claims."""
    names = [found.name for found in PROTOCOLS.values() if found.comparable]
    if name not in names:
        hint = f"--protocol {name} decides no claim of the paper; these do: {', '.join(names)}"
        raise ValueError(hint if name in PROTOCOLS else unknown("protocol", name, names))
    return PROTOCOLS[name]


def programme(
    wanted: Sequence[Study],
    chosen: Protocol,
    budget: float,
    store: Store,
    *,
    precision: str = PRECISION,
    compiled: str = COMPILE,
    with_levels: bool = True,
    extra: Sequence[str] = (),
) -> Programme:
    """The cheapest plan to decide these studies' open questions: claims first, then levels with the remaining hours.

    `extra` are options added to every command. Raises `ValueError` for a budget that is not positive.
    """
    if not 0 < budget < float("inf"):
        raise ValueError(f"--gpu-hours {budget:g}: a budget is a positive number of hours")
    clock = Clock(store, precision, compiled)
    hours: dict[str, Hours] = {}
    claims: list[Question] = []
    levels: list[Question] = []
    decided, elsewhere = 0, list[str]()
    for study in wanted:
        costs = [claim for claim in study.claims if claim.metric in COSTS]
        open_costs = [claim for claim in costs if asked.costs_missing(study, claim, store)]
        decided += len(costs) - len(open_costs)
        claims += [_about_costs(study, claim.slug, claim.text, claim.metric, claim.dataset) for claim in open_costs]
        found = asked.claims(study, chosen, store)
        decided += sum(one.decided for one in found)
        names = {one.name for one in found} | {claim.slug for claim in costs}
        elsewhere += [claim.slug for claim in study.claims if claim.slug not in names]
        of_metric = {metric: _spread(study, chosen, store, metric) for metric in EPSILON}
        claims += [_claim(one, of_metric, chosen, clock, hours) for one in found if not one.decided]
        if with_levels:
            rows = asked.levels(study, chosen, store)
            levels += [_level(one, of_metric, chosen, clock, hours) for one in rows if not one.decided]
    levels = list({_same_level(level): level for level in reversed(levels)}.values())[::-1]
    words = [*_computed(precision, compiled), *extra]
    lines, paid = _lines(claims, hours, budget, 0.0, frozenset(), chosen, words)
    more, _ = _lines(levels, hours, budget, lines[-1].until if lines else 0.0, paid, chosen, words)
    lines += more
    planned = {question.name for line in lines for question in line.questions}
    left = [question for question in (*claims, *levels) if question.name not in planned]
    runs = {run.id: hours[run.id] for line in lines for question in line.questions for run in question.runs}
    return Programme(
        chosen.name,
        budget,
        tuple(lines),
        tuple(question for question in left if not question.reason),
        tuple(question for question in left if question.reason),
        decided,
        tuple(elsewhere),
        told(runs.values()) if runs else "",
    )


def first_lines(
    chosen: Sequence[Study], store: Store, count: int = 3, budget: float = 200.0, protocol: str = "paper-pretrained"
) -> list[Line]:
    """The first steps of the plan for these studies' claims, for the report's first page."""
    found = programme(list(chosen), deciding(protocol), budget, store, with_levels=False)
    return list(found.lines[:count])


def _about_costs(study: Study, slug: str, text: str, metric: str, dataset: str) -> Question:
    return Question(slug, "costs", study.slug, study.panel(dataset).dataset, metric, text, "pending")


def _spread(study: Study, chosen: Protocol, store: Store, metric: str) -> Spread | None:
    """The spread of a metric over seeds, pooled over the rows and datasets of a table."""
    panels = chosen.panels(study)
    by_row = (asked.measured(study, panel, chosen, store).get(metric, {}) for panel in panels)
    return spread_of(metric, [list(seeds.values()) for rows in by_row for seeds in rows.values()])


def _claim(
    one: Asked, spreads: Mapping[str, Spread | None], chosen: Protocol, clock: Clock, hours: dict[str, Hours]
) -> Question:
    claim, alpha, rows = one.claim, power.first_step(one.family), len(one.rows)
    assert claim is not None
    start = Question(
        one.name,
        "claim",
        one.study.slug,
        one.panel.dataset,
        one.metric,
        claim.text,
        one.judgement.verdict,
        claim.printed,
        alpha,
        have=one.seeds,
    )
    spread = spreads.get(one.metric)
    if reason := _unplannable(one, spread):
        return dataclasses.replace(start, reason=reason)
    assert spread is not None
    difference = claim.printed if claim.printed is not None else EPSILON[one.metric]
    needed = power.claim_seeds(claim.kind, difference, MARGIN, spread.sd, alpha, rows)
    seeds = needed
    if needed is not None and one.seeds >= needed:  # they did not decide it: use the observed difference
        seeds = one.judgement.seeds
    start = dataclasses.replace(start, difference=difference, spread=spread, seeds=seeds)
    if seeds is None or seeds > MOST_SEEDS:
        return dataclasses.replace(start, reason=_too_many(claim.kind, difference, seeds, one.seeds, needed))
    chances = [
        power.claim_power(claim.kind, size, MARGIN, spread.sd, seeds, alpha, rows)
        for size in (difference, difference / 2)
    ]
    return _with_runs(dataclasses.replace(start, power=chances[0], half=chances[1]), one, chosen, clock, hours)


def _unplannable(one: Asked, spread: Spread | None) -> str:
    """Why no number of seeds can be given; "" if it can."""
    claim = one.claim
    assert claim is not None
    if one.metric == "fps":
        return f"frames a second are measured: python -m studies.run {one.study.slug} --only speed --device cuda"
    if claim.kind != "at least" and len(one.rows) == 1 and one.constant is None:
        quoted = next(r.label for r in one.study.rows if isinstance(r, Reported) and r.slug == claim.worse)
        return f"the paper prints no such value of {quoted}, which is only quoted"
    if spread is None:
        return f"neither a difference is printed nor a spread of {one.metric} known to plan with"
    if one.judgement.verdict == "not resolved" and one.judgement.p is None:
        return "all seeds of a row gave the same value"
    return ""


def _too_many(kind: str, difference: float, seeds: int | None, have: int, planned: int | None) -> str:
    size = f"a printed difference of {difference:.1f}"
    if planned is not None and have >= planned:
        size = f"the {have} seeds that were planned left it open; what they showed"
    if seeds is None and kind == "equivalent":
        return f"{size} lies at the edge of the margin of ±{MARGIN}: no number of seeds shows either"
    needs = f"more than {power.MOST_SEEDS:,}" if seeds is None else f"{seeds:,}"
    return f"{size} needs {needs} seeds a row"


def _level(
    one: Asked, spreads: Mapping[str, Spread | None], chosen: Protocol, clock: Clock, hours: dict[str, Hours]
) -> Question:
    row = one.study.row(one.rows[0])
    tolerance = asked.tolerance(row, one.panel, one.metric)
    text = f"{row.label}: within ±{tolerance:.1f} of the printed {one.constant}"
    start = Question(
        one.name,
        "level",
        one.study.slug,
        one.panel.dataset,
        one.metric,
        text,
        one.judgement.verdict,
        tolerance,
        spread=spreads.get(one.metric),
        have=one.seeds,
    )
    if start.spread is None:
        return dataclasses.replace(start, reason=f"no spread of {one.metric} is known to plan with")
    seeds = power.level_seeds(start.spread.sd, tolerance)
    if seeds is not None and one.seeds >= seeds:
        return dataclasses.replace(
            start, seeds=one.seeds, reason=f"its {one.seeds} seeds are there: the interval crosses ±{tolerance:.1f}"
        )
    if seeds is None or seeds > MOST_SEEDS:
        needs = "too many" if seeds is None else f"{seeds:,}"
        return dataclasses.replace(
            start, seeds=seeds, reason=f"an interval within ±{tolerance:.1f} needs {needs} seeds"
        )
    chance = power.level_power(start.spread.sd, tolerance, seeds)
    width = power.half_width(start.spread.sd, seeds)
    start = dataclasses.replace(start, seeds=seeds, power=chance, half_width=width)
    return _with_runs(start, one, chosen, clock, hours)


def _same_level(level: Question) -> tuple[object, ...]:
    """A key that is equal for levels of the same runs, so that tables that share runs ask for them once."""
    runs = frozenset(run.id for run in level.runs if not run.upstream)
    return (level.metric, level.difference, runs) if runs else (level.name,)


def _with_runs(question: Question, one: Asked, chosen: Protocol, clock: Clock, hours: dict[str, Hours]) -> Question:
    assert question.seeds is not None
    runs = list(_runs(one, question.seeds, chosen, clock.store))
    for run, needed in runs:
        if needed.id not in hours:
            hours[needed.id] = clock.of(run)
    needs = {needed.id: needed for _, needed in runs}
    total = cheapest.total(needs, {key: hours[key].value for key in needs})
    return dataclasses.replace(question, runs=tuple(needs.values()), hours=total)


def _runs(one: Asked, seeds: int, chosen: Protocol, store: Store) -> Iterator[tuple[Run, Needed]]:
    """Yield the missing runs for this many seeds of every row, each after its upstream runs."""
    alone = len(chosen.panels(one.study)) == 1
    for row in one.rows:
        first = chosen.run(one.panel, one.study.row(row), 0)
        for seed in _seeds(seeds, one.values.get(row, {})):
            run = first.seeded(seed)
            place = (one.study.slug, one.panel.dataset, row, seed, alone)
            before = run.init
            while isinstance(before, Run) and store.run(before) is None:
                yield before, Needed(before.id, *place, upstream=True)
                before = before.init
            yield run, Needed(run.id, *place)


def _seeds(count: int, have: Iterable[int]) -> list[int]:
    """The seeds to add to the existing ones, smallest first."""
    there = set(have)
    return [seed for seed in range(count + len(there)) if seed not in there][: max(0, count - len(there))]


def _lines(
    questions: Sequence[Question],
    hours: Mapping[str, Hours],
    budget: float,
    spent: float,
    paid: frozenset[str],
    chosen: Protocol,
    words: Sequence[str],
) -> tuple[list[Line], frozenset[str]]:
    """The steps within the rest of the budget, and all runs paid for after them."""
    by_name = {question.name: question for question in questions if not question.reason}
    needs = {name: frozenset(run.id for run in question.runs) - paid for name, question in by_name.items()}
    prices = {key: found.value for key, found in hours.items()}
    kept = cheapest.within(needs, prices, budget - spent)
    found = list[Line]()
    for step in cheapest.steps({name: needs[name] for name in kept}, prices):
        members = tuple(by_name[name] for name in step.targets)
        spent += step.hours
        own = set(step.runs)
        # A run that several tables share is named by the question with the most runs, which needs fewer commands.
        by_size = sorted(members, key=lambda question: len(question.runs))
        runs = {run.id: run for question in by_size for run in question.runs if run.id in own}
        commands = [*_cost_commands(members), *_commands(runs.values(), chosen, words)]
        arithmetic = sum(prices[key] for key in step.runs if not hours[key].on)
        found.append(Line(members, step.runs, step.hours, arithmetic, spent, tuple(commands)))
        paid |= own
    return found, paid


def _cost_commands(questions: Iterable[Question]) -> Iterator[str]:
    studies_ = dict.fromkeys(question.study for question in questions if question.kind == "costs")
    if studies_:
        yield f"python -m studies.run {' '.join(studies_)} --only cost"


def _commands(runs: Iterable[Needed], chosen: Protocol, words: Sequence[str]) -> Iterator[str]:
    """Yield one command for all rows of a study with the same seeds; `studies.run` adds their upstream runs itself."""
    seeds: dict[tuple[str, str, bool, str], list[int]] = {}
    for run in runs:
        if not run.upstream:
            seeds.setdefault((run.study, run.dataset, run.alone, run.row), []).append(run.seed)
    together: dict[tuple[str, str, bool, str], list[str]] = {}
    for (study, dataset, alone, row), own in seeds.items():
        together.setdefault((study, dataset, alone, ranges(own)), []).append(row)
    for (study, dataset, alone, own_seeds), rows in together.items():
        options = ["--rows", ",".join(rows)] + ([] if alone else ["--datasets", dataset]) + ["--seeds", own_seeds]
        yield f"python -m studies.run {shlex.join([study, *options, '--protocol', chosen.name, *words])}"


def ranges(seeds: Iterable[int]) -> str:
    """Seeds in the syntax of `--seeds`: `0-4,7`."""
    found = list[list[int]]()
    for seed in sorted(set(seeds)):
        if found and found[-1][-1] == seed - 1:
            found[-1].append(seed)
        else:
            found.append([seed])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in found)


def _computed(precision: str, compiled: str) -> list[str]:
    return ["--precision", precision, *(["--compile", compiled] if compiled else [])]
