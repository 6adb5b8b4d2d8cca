"""Printed values that are wrong or inconsistent, worst first: costs that were measured again, values that the paper
prints twice, its words against its tables, an implausible gain, and accuracies that every other training misses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.blocks.table import METRICS, Cell, Column, Line, Source, Table, Value, number
from reports.sections.discrepancies import differing
from reports.sections.others import place_of
from reports.sections.tables import as_printed
from studies.declare.study import Panel, Reported, Row, Study
from studies.facts.gather import Evidence
from studies.judge import others

SLUG = "wrong-prints"
ROUNDED = 0.1
"""A cost that lies nearer to its print is one of rounding: it stands among all costs, not here."""

UNLIKELY = 2.0  # a gain from multi-scale testing of more than this many times the largest of all other rows

KINDS = {
    "measured": "measured again",
    "words": "words against a table",
    "gain": "implausible gain",
    "twice": "printed twice",
    "others": "others' trainings",
}
"""What shows that a value is wrong."""


@dataclass(frozen=True)
class Misprint:
    """A printed value, what stands against it, and how far the two lie apart as a part of the printed one."""

    key: str
    kind: str
    study: Study
    what: str
    printed: str
    instead: str
    off: float
    why: str
    values: dict[str, Value]
    sources: tuple[Source, ...] = ()

    @property
    def anchor(self) -> str:
        """Its line on the page."""
        return f"#{SLUG}-{self.key}"

    @property
    def percent(self) -> str:
        """How far it is off."""
        return number(100 * self.off, 0 if abs(self.off) >= 0.01 else 1, signed=True) + "\N{NO-BREAK SPACE}%"


def misprints(everything: Sequence[Evidence]) -> list[Misprint]:
    """All of them, worst first; what several tables repeat is said once."""
    found: dict[tuple[str, ...], Misprint] = {}
    for evidence in everything:
        study = evidence.study
        gains = _gains(study)
        for one in (*_costs(evidence), *_words(evidence), *_twice(study), *_windows(study), *_of_others(study)):
            known = found.get(_same(one), one)
            found[_same(one)] = min(known, one, key=lambda each: len(each.what))
        for row, panel in _implausible(study, gains):
            one = _gain(study, row, panel, gains)
            found.setdefault(_same(one), one)
    return sorted(found.values(), key=lambda one: -abs(one.off))


DOUBTED = "miou_ss"
"""The metric of a value that an implausible gain speaks against."""


def doubtful(study: Study) -> dict[tuple[str, str], str]:
    """By row and data set: why a printed accuracy that claims rest on is probably a misprint."""
    gains = _gains(study)
    return {(row.slug, panel.dataset): _gain(study, row, panel, gains).why for row, panel in _implausible(study, gains)}


def table(everything: Sequence[Evidence]) -> Table:
    """One line per printed value that something stands against."""
    columns = (
        Column("Printed value of", align="text"),
        Column("Where", align="left", chosen=True),
        Column("Printed"),
        Column("Against it", align="text"),
        Column("Off"),
        Column("What shows it", align="left", chosen=True),
        Column("Why", align="text"),
    )
    found = misprints(everything)
    counts = {kind: sum(one.kind == kind for one in found) for kind in KINDS}
    told = ", ".join(f"{count} {KINDS[kind]}" for kind, count in counts.items() if count)
    caption = (
        f"{len(found)} printed values that something stands against, worst first: {told or 'none'}.",
        f"Off: of the printed value. Costs that lie less than {ROUNDED} off, and SegFormer's, which its own paper "
        "counted by another tool, stand among all costs below.",
        "Our own accuracies call no print wrong here: they have verdicts of their own. Others' trainings are listed "
        "where none of their sources lies within ε of the print; two single runs differ by "
        f"{others.UNCERTAIN:.1f} anyway.",
    )
    return Table(SLUG, "Printed values that are wrong or inconsistent", caption, columns, tuple(map(_line, found)))


def _line(one: Misprint) -> Line:
    names: dict[str, Value] = {"study": one.study.slug, "kind": one.kind, **one.values}
    cells = (
        Cell(one.what, names),
        Cell(one.study.number, sources=(Source(one.study.number, f"#{one.study.slug}"),)),
        Cell(one.printed),
        Cell(one.instead, sources=one.sources),
        Cell(one.percent, {"off": one.off}),
        Cell(KINDS[one.kind]),
        Cell(one.why or "unexplained", {"reason": one.why}, verdict="" if one.why else "unexplained"),
    )
    return Line(one.key, cells)


def _same(one: Misprint) -> tuple[str, ...]:
    """Two tables that print one row alike, and whose values are wrong alike, are one misprint."""
    ends = (one.printed, one.instead) if one.kind != "twice" else tuple(sorted((one.printed, one.instead.split()[0])))
    return (one.kind, str(one.values.get("dataset")), str(one.values.get("metric")), *ends)


def _costs(evidence: Evidence) -> Iterator[Misprint]:
    """The printed costs of the paper's own rows that lie further off than rounding."""
    for one in differing(evidence):
        if isinstance(one.row, Reported) or abs(one.measured - one.printed) < ROUNDED:
            continue
        record = evidence.expenses[one.panel.dataset, one.row.slug].record
        shown = f"{number(one.measured, 3)} measured"
        values = _names(one.panel, one.row, one.metric, one.printed) | {"against_low": one.measured}
        yield Misprint(
            f"cost-{one.key}",
            "measured",
            one.study,
            _named(one.study, one.panel, one.row, one.metric),
            as_printed(one.printed),
            shown,
            one.measured / one.printed - 1,
            one.why,
            values | {"against_high": one.measured},
            (Source(shown, record, "cost record"),),
        )


def _twice(study: Study) -> Iterator[Misprint]:
    """Values for which the paper prints another elsewhere."""
    for panel in study.panels:
        for row in study.rows:
            for metric in panel.columns:
                printed = row.prints(panel, metric)
                for place, other in row.elsewhere(panel, metric).items():
                    if printed is None or other == printed:
                        continue
                    yield Misprint(
                        f"twice-{study.slug}-{panel.dataset}-{row.slug}-{metric}",
                        "twice",
                        study,
                        _named(study, panel, row, metric),
                        as_printed(printed),
                        f"{as_printed(other)} in {place}",
                        other / printed - 1,
                        "One network, one data set, one metric: one of the two is wrong, or there were two trainings.",
                        _names(panel, row, metric, printed) | {"against_low": other, "against_high": other},
                    )


def _of_others(study: Study) -> Iterator[Misprint]:
    """Accuracies that no counting source comes near."""
    for panel in study.panels:
        for row in study.rows:
            for metric in panel.accuracies:
                level = others.level(others.published(), study, row, panel, metric)
                if not level.counted or level.within != 0 or level.printed is None:
                    continue
                values = sorted(line.value for line in level.counted)
                ends = " to ".join(dict.fromkeys(number(value, 2) for value in (values[0], values[-1])))
                count = len(level.sources)
                told = f"{count} sources trained it again, all" if count > 1 else "One source trained it again,"
                quoted = "quoted" if isinstance(row, Reported) else "printed"
                yield Misprint(
                    f"others-{study.slug}-{panel.dataset}-{row.slug}-{metric}",
                    "others",
                    study,
                    _named(study, panel, row, metric),
                    as_printed(level.printed),
                    f"{ends} in others' runs",
                    sum(values) / len(values) / level.printed - 1,
                    f"{told} more than {level.tolerance:.1f} away from what is {quoted}.",
                    _names(panel, row, metric, level.printed) | {"against_low": values[0], "against_high": values[-1]},
                    tuple(Source(line.source, place_of(line), line.words) for line in level.sources),
                )


@dataclass(frozen=True)
class _Said:
    """A share that the text states, of the costs that two rows print."""

    study: str
    place: str
    text: str
    row: str
    peer: str
    dataset: str
    metric: str
    percent: float


_TEXT = (
    _Said("table9", "Sec. 4.3", "SegNeXt-B's GFLOPs below SegFormer-B2's", "b", "segformer-b2",
          "cityscapes", "gflops", 40.0),
)  # fmt: skip
"""What the text says of its own tables, where the two disagree."""


def _words(evidence: Evidence) -> Iterator[Misprint]:
    study = evidence.study
    for said in (said for said in _TEXT if said.study == study.slug):
        panel = study.panel(said.dataset)
        ours, peer = (_row(study, slug).prints(panel, said.metric) for slug in (said.row, said.peer))
        assert ours is not None
        assert peer is not None
        share = 100 * (1 - ours / peer)
        yield Misprint(
            f"words-{study.slug}-{said.row}-{said.peer}",
            "words",
            study,
            said.text,
            f"{said.percent:.0f}\N{NO-BREAK SPACE}%",
            f"{share:.0f}\N{NO-BREAK SPACE}% by the table",
            share / said.percent - 1,
            f"{said.place} says so of {panel.title}; the table prints {as_printed(ours)} against {as_printed(peer)}.",
            {
                "row": said.row,
                "dataset": said.dataset,
                "metric": said.metric,
                "printed": said.percent,
                "against_low": share,
                "against_high": share,
            },
        )


def _windows(study: Study) -> Iterator[Misprint]:
    """Costs of one whole image, beside an accuracy that comes from overlapping windows."""
    tested = 3 * 1024 * 1024  # Official code: slide_inference, 1024 windows at a stride of 768
    for panel in study.panels:
        height, width = panel.input_size
        rows = [row for row in study.trained if row.prints(panel, "gflops") is not None]
        if panel.dataset != "cityscapes" or height * width >= tested or not rows:
            continue
        prints = [as_printed(value) for row in rows if (value := row.prints(panel, "gflops")) is not None]
        yield Misprint(
            f"windows-{study.slug}",
            "words",
            study,
            f"SegNeXt's GFLOPs, {panel.title}",
            f"{prints[0]} to {prints[-1]}",
            f"times {tested / (height * width):.1f} as tested",
            tested / (height * width) - 1,
            f"The cost is of one whole {height}×{width} image; the mIoU is of three 1024×1024 windows.",
            {"dataset": panel.dataset, "metric": "gflops"},
        )


Gains = dict[tuple[str, str], float]


def _gains(study: Study) -> Gains:
    """What every printed row gains from multi-scale testing, by data set and row."""
    found: Gains = {}
    for panel in study.panels:
        for row in study.rows:
            single, multi = row.prints(panel, "miou_ss"), row.prints(panel, "miou_ms")
            if single is not None and multi is not None:
                found[panel.dataset, row.slug] = multi - single
    return found


def _implausible(study: Study, gains: Gains) -> Iterator[tuple[Row | Reported, Panel]]:
    """Rows that lose by it, or gain far more than every other row of the table."""
    for panel in study.panels:
        for row in study.rows:
            own = gains.get(key := (panel.dataset, row.slug))
            rest = [gain for other, gain in gains.items() if other != key]
            if own is not None and len(rest) > 2 and (own > UNLIKELY * max(rest) or own < 0):
                yield row, panel


def _gain(study: Study, row: Row | Reported, panel: Panel, gains: Gains) -> Misprint:
    single, multi = row.prints(panel, "miou_ss"), row.prints(panel, "miou_ms")
    assert single is not None
    assert multi is not None
    rest = [gain for other, gain in gains.items() if other != (panel.dataset, row.slug)]
    low, high = multi - max(rest), multi - min(rest)
    why = (
        f"With {as_printed(multi)} (MS) it would gain {number(multi - single, 1)} from multi-scale testing; every "
        f"other row gains {number(min(rest), 1)} to {number(max(rest), 1)}. A claim on it may rest on a misprint."
    )
    return Misprint(
        f"gain-{study.slug}-{panel.dataset}-{row.slug}",
        "gain",
        study,
        _named(study, panel, row, "miou_ss"),
        as_printed(single),
        f"{number(low, 1)} to {number(high, 1)} by its mIoU (MS)",
        (low + high) / 2 / single - 1,
        why,
        _names(panel, row, "miou_ss", single) | {"against_low": low, "against_high": high},
    )


def _row(study: Study, slug: str) -> Row | Reported:
    return next(row for row in study.rows if row.slug == slug)


def _named(study: Study, panel: Panel, row: Row | Reported, metric: str) -> str:
    where = f", {panel.title}" if len(study.panels) > 1 else ""
    return f"{row.label}{where}: {METRICS[metric]}"


def _names(panel: Panel, row: Row | Reported, metric: str, printed: float) -> dict[str, Value]:
    return {"row": row.slug, "dataset": panel.dataset, "metric": metric, "printed": printed}
