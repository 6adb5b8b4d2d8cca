"""What others published, for reading: a column of every table, a word on every claim, and a page by source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports.blocks.table import METRICS, Cell, Column, Fold, Line, Source, Table, Value, number
from studies.declare import published as declared
from studies.declare.published import Published
from studies.declare.study import Claim, Panel, Reported, Row, Study
from studies.judge import others, referee
from studies.judge.others import Difference, Level
from studies.tables import studies

TITLE = "What others measured"
SLUG = "others"
NOBODY = "nobody"  # the word of studies.judge.others for a claim without a source; pages show a dash
CAPTION = (
    "Others: values that other projects published, the range over the trainings that count, and how many sources lie "
    "within ε (costs: the rounding of a print) of the printed value; every value leads to its source."
)


def elsewhere(study: Study, panel: Panel, metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics of a panel for which somebody else published anything."""
    rows = study.rows
    return tuple(metric for metric in metrics if any(_shown(_level(study, panel, row, metric)) for row in rows))


def others_cell(study: Study, panel: Panel, row: Row | Reported, metric: str) -> Cell:
    """What others measured for one printed value, each number with its source."""
    level = _level(study, panel, row, metric)
    values = [line.value for line in level.counted]
    low, high = (min(values), max(values)) if values else (None, None)
    facts: dict[str, Value] = {f"{metric}_others_low": low, f"{metric}_others_high": high}
    facts |= {f"{metric}_others_sources": len(level.sources), f"{metric}_others_within": level.within}
    return Cell(_range(level), facts, sources=tuple(_source(line) for line in _shown(level)))


def others_in_short(study: Study, panel: Panel, row: Row | Reported, metric: str) -> Cell:
    """The range of what others measured for one printed value, with a link to its first source."""
    level = _level(study, panel, row, metric)
    if not level.counted:
        return Cell()
    values = [number(value, 2) for value in sorted(line.value for line in level.counted)]
    of = f"{len(level.sources)} source{'s' if len(level.sources) > 1 else ''}"
    near = of if level.within is None else f"{level.within} of {len(level.sources)} near"
    said = "; ".join(line.words for line in level.counted)
    source = Source(near, place_of(level.counted[0]), said)
    return Cell(" to ".join(dict.fromkeys((values[0], values[-1]))), sources=(source,))


def _level(study: Study, panel: Panel, row: Row | Reported, metric: str) -> Level:
    return others.level(others.published(), study, row, panel, metric)


def _shown(level: Level) -> tuple[Published, ...]:
    return (*level.counted, *level.apart)


def _range(level: Level) -> str:
    """`41.04 to 41.50; 2 of 2 within ±1.0`."""
    values = sorted(line.value for line in level.counted)
    if not values:
        return "–"
    low, high = number(values[0], 2), number(values[-1], 2)
    text = low if low == high else f"{low} to {high}"
    if level.within is None or level.tolerance is None:
        return text
    tolerance = number(level.tolerance, 1 if level.tolerance >= 0.1 else 2)
    return f"{text}; {level.within} of {len(level.sources)} within ±{tolerance}"


def _source(line: Published) -> Source:
    why = f" ({mark})" if (mark := _mark(line)) else ""
    return Source(number(line.value, 2) + why, place_of(line), line.words)


def place_of(line: Published) -> str:
    """Where a line stands on the page about others."""
    return f"{SLUG}.html#{SLUG}-{line.role}-{line.id}"


def _mark(line: Published) -> str:
    """What a number is that stands apart from independent trainings that were read at the source; else empty."""
    if line.kind != "retrained":
        return "released weights" if line.kind == "checkpoint" else line.kind
    if not line.independent:
        return "related group"
    return "" if line.quality == "verified" else line.quality


def said_cell(study: Study, claim: Claim) -> Cell:
    """What others say of a claim, in a word that leads to the differences behind it; a dash where nobody measured it.

    `not alike`: a source has both rows, but not trained or tested alike, so that its difference does not count.
    """
    said = others.claim(others.published(), study, claim)
    facts: dict[str, Value] = {"others": said.word or None, "others_sources": len(said.differences)}
    silent = said.word == NOBODY
    if silent:
        facts["others"] = None
    if not said.word or (silent and not said.apart):
        return Cell(values=facts, title=others.RULES[NOBODY] if silent else "")
    place = f"{SLUG}.html#{SLUG}-claims-{claim.slug}-{_slug((said.differences or said.apart)[0].source)}"
    if silent:
        return Cell("not alike", facts, sources=(Source("not alike", place, _sum(said.apart)),))
    return Cell(said.words, facts, verdict=said.word, sources=(Source(said.words, place, _sum(said.differences)),))


def _sum(found: Sequence[Difference]) -> str:
    return ", ".join(f"{one.source} {number(one.value, 2, signed=True)}" for one in found)


def tables() -> list[Table]:
    """The page about others: what a referee would ask, claims, sources, how far seeds lie apart, and every number."""
    lines = others.published()
    found = [_finding(finding) for finding in referee.findings(lines)]
    evidence = [line for line in lines if line.role == "evidence"]
    background = [line for line in lines if line.role == "background"]
    return [
        *found,
        _claims(lines),
        _sources(lines),
        _seeds(lines),
        _numbers("evidence", "Evidence", evidence, "About a row, a data set and a metric of the paper's tables."),
        _numbers("background", "Background", background, "Other data, metrics and variants, faulty set-ups, copies."),
    ]


def in_short() -> str:
    """How the claims stand in others' runs, in a sentence."""
    lines = others.published()
    words = Counter(others.claim(lines, study, claim).word for study in studies().values() for claim in study.claims)
    told = [f"{words[word]} {word}" for word in others.RULES if word != NOBODY and words[word]]
    count = sum(words[word] for word in others.RULES if word != NOBODY)
    return f"Others measured {count} of the paper's claims: {', '.join(told) or 'none'}."


def folds(shown: Sequence[Table]) -> tuple[list[Table], list[Fold]]:
    """What the page opens with, and what it folds away: each finding by its sentence, the rest by its title."""
    found = [Fold(f"{table.title}. {table.caption[0]}", (table,)) for table in shown if table.title not in _LISTS]
    lists = [Fold(f"{table.title}: {len(table.lines)} lines", (table,)) for table in shown if table.title in _LISTS]
    return [table for fold in found[:1] for table in fold.tables], [*found[1:], *lists]


_LISTS = ("Claims", "By source", "How far seeds lie apart", "Evidence", "Background")


def _finding(finding: referee.Finding) -> Table:
    source = Column("Source", align="text")
    columns = (Column("Of", align="text"), Column("Others"), Column(finding.against), Column("Difference"), source)
    lines = tuple(
        Line(
            str(place),
            (
                Cell(figure.what),
                Cell(number(figure.value, figure.digits)),
                Cell(number(figure.against, figure.digits)),
                Cell(number(figure.difference, figure.digits, signed=True)),
                _behind(figure.lines),
            ),
        )
        for place, figure in enumerate(finding.figures, start=1)
    )
    return Table(f"{SLUG}-{finding.slug}", finding.title, (finding.says,), columns, lines)


def _behind(lines: Sequence[Published]) -> Cell:
    sources = tuple(Source(line.id, place_of(line), line.words) for line in lines)
    return Cell(", ".join(dict.fromkeys(line.source for line in lines)), sources=sources)


def _claims(lines: Sequence[Published]) -> Table:
    columns = (
        Column("Claim", align="text"),
        Column("Source", align="text"),
        Column("Difference"),
        Column("Printed"),
        Column("Word", align="left"),
        Column("Why it does not count", align="text"),
    )
    rows, nobody = [], 0
    for study in studies().values():
        for claim in study.claims:
            said = others.claim(lines, study, claim)
            nobody += said.word == NOBODY
            for found in (*said.differences, *said.apart):
                cells = (
                    Cell(f"{study.number}: {found.better.model} − {found.worse.model}, {_metric(found.better)}"),
                    _behind((found.better, found.worse)),
                    Cell(number(found.value, 2, signed=True)),
                    Cell("–" if claim.printed is None else number(claim.printed, 1, signed=True)),
                    Cell(found.word or "–", verdict=found.word),
                    Cell(found.why_not or "–"),
                )
                rows.append(Line(f"{claim.slug}-{_slug(found.source)}", cells))
    caption = (others.METHOD, f"On {nobody} more claims about accuracies no source has both rows alike.")
    return Table(f"{SLUG}-claims", "Claims", caption, columns, tuple(rows))


def _metric(line: Published) -> str:
    names = {panel.dataset: panel.title for study in studies().values() for panel in study.panels}
    return f"{METRICS.get(line.metric, line.metric)} on {names.get(line.dataset, line.dataset)}"


def _sources(lines: Sequence[Published]) -> Table:
    """By source: how far it is to be trusted, what it has, and what it says of the printed values."""
    columns = (
        Column("Source", align="text"),
        Column("How far to trust it", align="text"),
        Column("Numbers"),
        Column("That count"),
        Column("What it says of the paper's tables", align="text"),
    )
    trust, rows = declared.trust(), []
    counting = Counter(line.source for line in lines if others.counts(line))
    total = Counter(line.source for line in lines)
    for source in sorted(total, key=lambda name: (-counting[name], -total[name], name)):
        name = next((line for line in lines if line.source == source and line.address), None)
        cells = (
            Cell(source, sources=(Source(source, name.address, "its address"),) if name else ()),
            Cell(trust.get(source, "A single report.")),
            Cell(str(total[source])),
            Cell(str(counting[source])),
            Cell(_says(lines, source)),
        )
        rows.append(Line(_slug(source), cells))
    return Table(
        f"{SLUG}-sources",
        "By source",
        (f"{len(lines)} numbers of {len(total)} sources; {counting.total()} of them are trainings that count.",),
        columns,
        tuple(rows),
    )


def _says(lines: Sequence[Published], source: str) -> str:
    """How a source's trainings lie to what is printed: `Table 9, ADE20K: 4 of 5 within ε, −1.09 to +1.15`."""
    found: dict[str, list[tuple[float, bool]]] = {}
    own = [line for line in lines if line.source == source]
    cells = {(line.study, line.row, line.dataset) for line in own}
    for study in studies().values():
        for panel in study.panels:
            for row in (row for row in study.rows if (study.slug, row.slug, panel.dataset) in cells):
                for metric in panel.accuracies:
                    level = others.level(own, study, row, panel, metric)
                    if level.sources and level.printed is not None and level.within is not None:
                        near = found.setdefault(f"{study.number}, {panel.title}", [])
                        near += [(line.value - level.printed, level.within > 0) for line in level.sources]
    words = []
    for name, near in found.items():
        ends = dict.fromkeys(number(end, 2, signed=True) for end in (min(near)[0], max(near)[0]))
        inside = sum(within for _, within in near)
        words.append(f"{name}: {inside} of {len(near)} within ε, {' to '.join(ends)}")
    return "; ".join(words) or "–"


def _seeds(lines: Sequence[Published]) -> Table:
    source = Column("Source", align="text")
    columns = (Column("Network", align="text"), Column("Trainings"), Column("sd"), Column("Range"), source)
    found = others.spreads(lines)
    rows = tuple(
        Line(
            str(place),
            (
                Cell(f"{spread.lines[0].model}, {_metric(spread.lines[0])}"),
                Cell("–" if spread.n is None else str(spread.n)),
                Cell("–" if spread.sd is None else number(spread.sd, 2)),
                Cell(
                    "–"
                    if spread.low is None or spread.high is None
                    else f"{number(spread.low, 2)} to {number(spread.high, 2)}"
                ),
                _behind(spread.lines),
            ),
        )
        for place, spread in enumerate(found, start=1)
    )
    pooled = others.pooled_sd(found)
    words = "" if pooled is None else f"Pooled over those with their number, sd {pooled:.2f} mIoU; "
    caption = f"{words}{others.SEED_SD} is what claims are judged and runs planned with."
    return Table(f"{SLUG}-seeds", "How far seeds lie apart", (caption,), columns, rows)


def _numbers(role: str, title: str, lines: Sequence[Published], caption: str) -> Table:
    columns = (
        Column("Of", align="text"),
        Column("Data set", align="left"),
        Column("Metric", align="left"),
        Column("Value"),
        Column("n"),
        Column("Kind", align="left"),
        Column("Counts", align="left"),
        Column("Source and what differs", align="text"),
    )
    rows = []
    for line in lines:
        why = "superseded" if line.superseded else _mark(line)
        value = f"{line.value:g}" + ("" if line.statistic == "value" else f" ({line.statistic})")
        place = f"{line.study}/{line.row}: " if line.study and line.row else ""
        cells = (
            Cell(f"{place}{line.model}"),
            Cell(" ".join(filter(None, (line.dataset, line.split))) or "–"),
            Cell(METRICS.get(line.metric, line.metric)),
            Cell(value),
            Cell("–" if line.n is None else str(line.n)),
            Cell(line.kind),
            Cell("yes" if others.counts(line) else why or "no"),
            Cell(line.words, sources=(Source(line.id, line.address, "its address"),) if line.address else ()),
        )
        rows.append(Line(line.id, cells))
    return Table(f"{SLUG}-{role}", title, (f"{len(lines)} numbers. {caption}",), columns, tuple(rows))


def values() -> list[dict[str, Value]]:
    """Every column of every line, for the CSV."""
    return [
        {name: getattr(line, name) for name in declared.COLUMNS} | {"counts": others.counts(line)}
        for line in others.published()
    ]


def _slug(source: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in source.lower()).split())
