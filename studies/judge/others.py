"""What published numbers of others say: levels by source, differences within a source, and the spread over seeds.

A number counts if its source trained the network itself, is independent of the paper's authors, was verified at the
source, and was not replaced there. A source is one project and gives one word. These numbers are never pooled with our
runs, and there is no p value, because almost every number comes from a single training.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from studies.declare import published as declared
from studies.declare.published import Published
from studies.declare.study import COSTS, Claim, Panel, Reported, Row, Study
from studies.judge import verdicts
from studies.tables import studies

SEED_SD = 0.5
"""Standard deviation of mIoU over seeds of one recipe, as others report it: `pooled_sd` of their spreads, rounded."""
UNCERTAIN = 1.96 * math.sqrt(2) * SEED_SD  # 95 % of the differences between two single runs are smaller
JUDGED = ("miou_ss", "miou_ms")  # metrics to which SEED_SD applies
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
"""The words for a claim from published numbers, each with its rule."""

METHOD = (
    "A source is one project; its newest training of a row counts, if it trained the row itself, is independent of the "
    "paper's authors, was read at the source and was not replaced there. Two rows are compared only within one source, "
    "one framework and one way of testing. A test of released weights is no training, and other data decide nothing. "
    f"{UNCERTAIN:.1f} is 1.96 √2 {SEED_SD}: one run each, seeds {SEED_SD} apart, as others report."
)


@dataclass(frozen=True)
class Level:
    """What others measured for one printed value. `sources` has a line per source, `counted` one per set of weights."""

    printed: float | None
    tolerance: float | None  # None if no level is judged
    counted: tuple[Published, ...]
    apart: tuple[Published, ...]  # tests of released weights, statements of authors, related groups, excerpts
    sources: tuple[Published, ...]

    @property
    def within(self) -> int | None:
        """The number of sources within the tolerance of the printed value."""
        if self.printed is None or self.tolerance is None:
            return None
        return sum(abs(line.value - self.printed) <= self.tolerance + 1e-9 for line in self.sources)


@dataclass(frozen=True)
class Difference:
    """A difference between two rows within one source; `why_not` says why, if it does not count."""

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
    """What others say about a claim: a word of RULES ("" for a claim about costs) and the differences behind it."""

    word: str
    differences: tuple[Difference, ...] = ()
    apart: tuple[Difference, ...] = ()

    @property
    def words(self) -> str:
        """The word with the number of sources behind it."""
        if self.word in ("", "nobody"):
            return self.word
        count = len(self.differences)
        return f"{self.word} ({count} source{'s' if count > 1 else ''})"


@dataclass(frozen=True)
class SeedSpread:
    """The spread over trainings of one network, as its source reports it."""

    lines: tuple[Published, ...]
    n: int | None
    sd: float | None
    low: float | None = None
    high: float | None = None


@cache
def published() -> tuple[Published, ...]:
    """All published lines, checked against the declarations. Raises `ValueError` for a damaged or wrong line."""
    lines = declared.read()
    declared.check(lines, studies())
    return lines


def counts(line: Published) -> bool:
    """Whether a line counts for accuracies: an independent training by its source, verified there, not replaced."""
    own = line.kind == "retrained" and line.quality == "verified"
    return line.role == "evidence" and own and line.independent and not line.superseded


def of_row(lines: Iterable[Published], study: Study, slug: str) -> list[Published]:
    """All lines about a row, evidence or background."""
    return [line for line in lines if (line.study, line.row) == (study.slug, slug)]


def level(lines: Iterable[Published], study: Study, row: Row | Reported, panel: Panel, metric: str) -> Level:
    """Others' values for one cell of a table. A cost may also come from released weights."""
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
    """What others say about a claim on accuracies."""
    if asserted.metric in COSTS or asserted.kind == "slope":
        return Said("")
    dataset = study.panel(asserted.dataset).dataset
    known = lines if isinstance(lines, Sequence) else list(lines)
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
    """Spreads of mIoU over several trainings: a reported standard deviation, the trainings themselves, or a range.

    Trainings belong to one recipe if their weights' names differ only in a number at the end.
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
    """The pooled standard deviation of all spreads with a known n, which SEED_SD rounds; None if there are none."""
    known = [(spread.n - 1, spread.sd) for spread in found if spread.n and spread.n > 1 and spread.sd is not None]
    freedom = sum(degrees for degrees, _ in known)
    return math.sqrt(sum(degrees * sd**2 for degrees, sd in known) / freedom) if freedom else None


def planning_sd(metric: str) -> tuple[float, str] | None:
    """The spread over seeds to plan with if our records have none, and its source; None for metrics except mIoU."""
    if metric not in JUDGED:
        return None
    known = [spread for spread in spreads(published()) if spread.n and spread.sd is not None]
    sources = ", ".join(dict.fromkeys(spread.lines[0].source for spread in known))
    return SEED_SD, f"as others report ({sources}; pooled {pooled_sd(known):.2f})"


def _evidence(lines: Iterable[Published], study: Study, row: str, dataset: str, metric: str) -> Sequence[Published]:
    """The lines that are evidence for one cell; where they are all that were published, looked up."""
    cells = _every_cell() if lines is published() else _by_cell(lines)
    return cells.get((study.slug, row, dataset, metric), ())


@cache
def _every_cell() -> Mapping[tuple[str, str, str, str], Sequence[Published]]:
    return _by_cell(published())


def _by_cell(lines: Iterable[Published]) -> Mapping[tuple[str, str, str, str], Sequence[Published]]:
    found: dict[tuple[str, str, str, str], list[Published]] = {}
    for line in lines:
        if line.role == "evidence":
            found.setdefault((line.study, line.row, line.dataset, line.metric), []).append(line)
    return found


def _unlike(better: Published, worse: Published) -> str:
    """Why two lines of one source must not be compared; "" if they may."""
    for name in ("framework", "tested"):
        first, second = getattr(better, name), getattr(worse, name)
        if first != second:
            words = [declared.TESTS[word] if name == "tested" else word or "not stated" for word in (first, second)]
            return f"{words[0]} against {words[1]}"
    return ""


def _of_weights(lines: Sequence[Published]) -> Iterator[Published]:
    """Yield one line per set of weights: the newest tested as in the paper, or else the newest of all."""
    for _, own in _grouped(lines, "source", "weights_id"):
        as_printed = [line for line in own if line.tested == TESTED_BY_THE_PAPER.get(line.dataset)]
        yield _newest(as_printed or own)


def _newest(lines: Sequence[Published]) -> Published:
    return max(lines, key=_age)


def _age(line: Published) -> tuple[str, int, str]:
    """A sort key by date; on equal dates more trainings count as newer, then the later line."""
    return line.date, line.n or 0, line.id


def _grouped(lines: Iterable[Published], *names: str) -> list[tuple[tuple[str, ...], list[Published]]]:
    groups: dict[tuple[str, ...], list[Published]] = {}
    for line in lines:
        groups.setdefault(tuple(getattr(line, name) for name in names), []).append(line)
    return list(groups.items())
