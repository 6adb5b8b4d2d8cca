"""What others measured, judged: levels by source, differences within one source, and how far seeds lie apart.

A number counts when its source trained the network itself, is independent of the paper's authors, was read at the
source, and was not replaced there. A source is one project and has one word. Nothing here is pooled with our runs, and
no p is computed: almost every number is of one training.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from studies.declare import published as declared
from studies.declare.published import Published
from studies.declare.study import COSTS, Claim, Panel, Reported, Row, Study
from studies.judge import verdicts
from studies.tables import studies

SEED_SD = 0.5
"""How far apart the mIoU of two seeds of one recipe lies, as others report: `pooled_sd` of their spreads, rounded."""
UNCERTAIN = 1.96 * math.sqrt(2) * SEED_SD  # by this much two single runs differ anyway, 19 times of 20
JUDGED = ("miou_ss", "miou_ms")  # the metrics that SEED_SD is about
TESTED_BY_THE_PAPER = {"ade20k": "aligned"}  # the authors' code aligns images to 32

RULES = {
    "same": f"the source's difference is above 0 and within ±{UNCERTAIN:.1f} of the printed one",
    "smaller": f"above 0, and more than {UNCERTAIN:.1f} below the printed one",
    "larger": f"more than {UNCERTAIN:.1f} above the printed one",
    "opposite": f"{UNCERTAIN:.1f} or more below 0",
    "unclear": f"0 or below, by less than {UNCERTAIN:.1f}; or no difference above 0 is printed",
    "mixed": "the sources disagree",
    "nobody": "no source measured both rows alike",
}
"""The words on a claim from what others published: `UNCERTAIN` is what two single runs differ by."""

METHOD = (
    "A source is one project; its newest training of a row counts, if it trained the row itself, is independent of the "
    "paper's authors, was read at the source and was not replaced there. Two rows are compared only within one source, "
    "one framework and one way of testing. A test of released weights is no training, and other data decide nothing. "
    f"{UNCERTAIN:.1f} is 1.96 √2 {SEED_SD}: one run each, seeds {SEED_SD} apart, as others report."
)


@dataclass(frozen=True)
class Level:
    """What others measured for one printed value. `sources` has one line a source, `counted` one a set of weights."""

    printed: float | None
    tolerance: float | None  # None where no level is judged
    counted: tuple[Published, ...]
    apart: tuple[Published, ...]  # tests of released weights, statements of authors, related groups, excerpts
    sources: tuple[Published, ...]

    @property
    def within(self) -> int | None:
        """How many sources lie within the tolerance of the printed value."""
        if self.printed is None or self.tolerance is None:
            return None
        return sum(abs(line.value - self.printed) <= self.tolerance + 1e-9 for line in self.sources)


@dataclass(frozen=True)
class Difference:
    """A difference between two rows within one source; with `why_not` where it does not count."""

    better: Published
    worse: Published
    word: str
    why_not: str = ""

    @property
    def source(self) -> str:
        """The project."""
        return self.better.source

    @property
    def value(self) -> float:
        """Better − worse."""
        return self.better.value - self.worse.value


@dataclass(frozen=True)
class Said:
    """What others say of a claim: a word of RULES, or none of a claim on costs; and the differences behind it."""

    word: str
    differences: tuple[Difference, ...] = ()
    apart: tuple[Difference, ...] = ()

    @property
    def words(self) -> str:
        """The word, and how many sources it rests on."""
        if self.word in ("", "nobody"):
            return self.word
        count = len(self.differences)
        return f"{self.word} ({count} source{'s' if count > 1 else ''})"


@dataclass(frozen=True)
class SeedSpread:
    """How far the trainings of one network lie apart, as its source says."""

    lines: tuple[Published, ...]
    n: int | None
    sd: float | None
    low: float | None = None
    high: float | None = None


@cache
def published() -> tuple[Published, ...]:
    """Every line beside the declarations, checked against them. `ValueError` for a damaged or wrong line."""
    lines = declared.read()
    declared.check(lines, studies())
    return lines


def counts(line: Published) -> bool:
    """Whether a line counts towards accuracies: an independent training of its source, read there, not replaced."""
    own = line.kind == "retrained" and line.quality == "verified"
    return line.role == "evidence" and own and line.independent and not line.superseded


def of_row(lines: Iterable[Published], study: Study, slug: str) -> list[Published]:
    """Every line about a row, evidence or not."""
    return [line for line in lines if (line.study, line.row) == (study.slug, slug)]


def level(lines: Iterable[Published], study: Study, row: Row | Reported, panel: Panel, metric: str) -> Level:
    """Others' values of one cell of a table. For a cost, that of released weights is as good as any."""
    cell = [line for line in _evidence(lines, study, row.slug, panel.dataset, metric) if not line.superseded]
    kinds = ("retrained", "checkpoint") if metric in COSTS else ("retrained",)
    counted = [line for line in cell if line.kind in kinds and line.quality == "verified" and line.independent]
    shown = tuple(_of_weights(counted))
    tolerance = verdicts.ROUNDING if metric in COSTS else None
    if metric in verdicts.EPSILON:
        tolerance = verdicts.epsilon(metric, row.spread(panel, metric))
    sources = tuple(_newest(own) for _, own in _grouped(shown, "source"))
    apart = tuple(line for line in cell if line not in counted)
    return Level(row.prints(panel, metric), tolerance, shown, apart, sources)


def claim(lines: Iterable[Published], study: Study, asserted: Claim) -> Said:
    """What others say of a claim about accuracies."""
    if asserted.metric in COSTS or asserted.kind == "slope":
        return Said("")
    dataset = study.panel(asserted.dataset).dataset
    known = list(lines)
    sides = [
        [line for line in _evidence(known, study, slug, dataset, asserted.metric) if counts(line)]
        for slug in (asserted.better, asserted.worse)
    ]
    judged = asserted.kind == "greater" and asserted.metric in JUDGED
    printed = asserted.printed if judged else None
    differences, apart = list[Difference](), list[Difference]()
    for source in sorted({line.source for line in sides[0]} & {line.source for line in sides[1]}):
        pairs = [pair for pair in itertools.product(*sides) if {line.source for line in pair} == {source}]
        alike = [pair for pair in pairs if not _unlike(*pair)]
        better, worse = max(alike or pairs, key=lambda pair: [_age(line) for line in pair])
        word = word_of(better.value - worse.value, printed) if alike else ""
        found = Difference(better, worse, word, _unlike(better, worse))
        (differences if alike else apart).append(found)
    words = {found.word for found in differences}
    word = words.pop() if len(words) == 1 else "mixed" if words else "nobody"
    return Said(word, tuple(differences), tuple(apart))


def word_of(difference: float, printed: float | None) -> str:
    """The word for one source's difference, by RULES."""
    if printed is None or printed <= 0:
        return "unclear"
    if difference <= -UNCERTAIN:
        return "opposite"
    if difference <= 0:
        return "unclear"
    if abs(difference - printed) <= UNCERTAIN:
        return "same"
    return "smaller" if difference < printed else "larger"


def spreads(lines: Iterable[Published]) -> list[SeedSpread]:
    """What sources say of the mIoU of several trainings: a standard deviation, the trainings themselves, or a range.

    The trainings of one recipe are those whose weights are named alike but for a number at the end.
    """
    known = [line for line in lines if line.metric in JUDGED and line.kind != "copied" and not line.superseded]
    found = [SeedSpread((line,), line.n, line.sd) for line in known if line.sd is not None]
    numbered = [line for line in known if line.weighs and line.weights_id.rpartition("/")[2].isdecimal()]
    for _, runs in _grouped(numbered, "source", "model", "dataset", "metric"):
        if len(runs) > 1:
            values = [line.value for line in runs]
            found.append(SeedSpread(tuple(runs), len(runs), statistics.stdev(values), min(values), max(values)))
    ends = [line for line in known if line.statistic in ("lowest", "highest")]
    for _, pair in _grouped(ends, "source", "model", "dataset", "metric"):
        if {line.statistic for line in pair} == {"lowest", "highest"}:
            values = [line.value for line in pair]
            found.append(SeedSpread(tuple(pair), None, None, min(values), max(values)))
    return found


def pooled_sd(found: Iterable[SeedSpread]) -> float | None:
    """The standard deviation over every spread with its n: what SEED_SD rounds; None where there is none."""
    known = [(spread.n - 1, spread.sd) for spread in found if spread.n and spread.n > 1 and spread.sd is not None]
    freedom = sum(degrees for degrees, _ in known)
    return math.sqrt(sum(degrees * sd**2 for degrees, sd in known) / freedom) if freedom else None


def planning_sd(metric: str) -> tuple[float, str] | None:
    """The seed spread to plan with where our own records have none, and where it comes from; None but for mIoU."""
    if metric not in JUDGED:
        return None
    known = [spread for spread in spreads(published()) if spread.n and spread.sd is not None]
    sources = ", ".join(dict.fromkeys(spread.lines[0].source for spread in known))
    return SEED_SD, f"as others report ({sources}; pooled {pooled_sd(known):.2f})"


def _evidence(lines: Iterable[Published], study: Study, row: str, dataset: str, metric: str) -> Iterator[Published]:
    wanted = ("evidence", study.slug, row, dataset, metric)
    return (line for line in lines if (line.role, line.study, line.row, line.dataset, line.metric) == wanted)


def _unlike(better: Published, worse: Published) -> str:
    """Why two lines of one source are not held against each other; empty where they may be."""
    for name in ("framework", "tested"):
        first, second = getattr(better, name), getattr(worse, name)
        if first != second:
            words = [declared.TESTS[word] if name == "tested" else word or "not stated" for word in (first, second)]
            return f"{words[0]} against {words[1]}"
    return ""


def _of_weights(lines: Sequence[Published]) -> Iterator[Published]:
    """One line for each set of weights: tested as the paper does, where it was; else the newest."""
    for _, own in _grouped(lines, "source", "weights_id"):
        as_printed = [line for line in own if line.tested == TESTED_BY_THE_PAPER.get(line.dataset)]
        yield _newest(as_printed or own)


def _newest(lines: Sequence[Published]) -> Published:
    return max(lines, key=_age)


def _age(line: Published) -> tuple[str, int, str]:
    """What orders lines in time; among equals the mean of more trainings, then the later line."""
    return line.date, line.n or 0, line.id


def _grouped(lines: Iterable[Published], *names: str) -> list[tuple[tuple[str, ...], list[Published]]]:
    groups: dict[tuple[str, ...], list[Published]] = {}
    for line in lines:
        groups.setdefault(tuple(getattr(line, name) for name in names), []).append(line)
    return list(groups.items())
