"""What others measured: published numbers about SegNeXt and its peers, each verified at its source.

`published.csv` beside this file has one number per line; `published_sources.csv` says how far to trust each source. A
line is `evidence` about a row, dataset and metric of a study, or `background`: other data, another metric, a variant, a
faulty set-up. `studies.judge.others` judges what the lines say about the paper.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from studies.declare.study import Reported, Row, Study, unknown

PATH = Path(__file__).with_suffix(".csv")
SOURCES = PATH.with_name("published_sources.csv")

KINDS = {
    "retrained": "trained by them",
    "checkpoint": "released weights, tested by them",
    "authors": "stated by a network's own authors",
    "copied": "copied from a paper",
}
QUALITIES = {
    "verified": "seen at the source",
    "excerpt": "seen in an excerpt of the source",
    "secondhand": "told by another",
}
ROLES = ("evidence", "background")
STATISTICS = {"value": "one value", "mean": "mean", "median": "median", "lowest": "lowest", "highest": "highest"}
YES_NO = {"yes": True, "no": False}
ACCURACIES = ("miou_ss", "miou_ms", "top1")
TESTS = {
    "": "as its framework tests",
    "aligned": "images aligned to 32",
    "not aligned": "images not aligned",
    "whole": "whole images",
    "windows": "in windows",
}
"""How a network was tested. Only networks tested alike are compared."""


@dataclass(frozen=True)
class Published:
    """One number that others published; fields are the columns of `published.csv`, in order. Empty: not stated."""

    id: str
    role: str  # one of ROLES
    study: str
    row: str
    model: str  # as the source names it
    dataset: str
    split: str
    metric: str
    value: float
    statistic: str  # one of STATISTICS
    n: int | None  # number of trainings
    sd: float | None  # their standard deviation
    kind: str  # one of KINDS
    independent: bool  # whether the paper's authors and related groups had no part in it
    superseded: str  # `weights_id` of the weights with which the source later replaced these
    weights_id: str  # one name per set of weights
    source: str  # the project that published it
    who: str
    where: str  # place in the source, with its version
    address: str
    date: str
    framework: str
    tested: str  # one of TESTS
    differs: str  # differences from the paper's protocol
    quality: str  # one of QUALITIES
    note: str

    @property
    def words(self) -> str:
        """Its origin in a sentence: `mmsegmentation (OpenMMLab), 2023-02-14: ...`."""
        parts = [KINDS[self.kind] + (f", n = {self.n}" if self.n else "")]
        parts += [self.framework, TESTS[self.tested] if self.tested else "", self.differs, self.note]
        about = "; ".join(part for part in (*parts, QUALITIES[self.quality]) if part)
        return f"{self.source} ({self.who}){f', {self.date}' if self.date else ''}: {about}. {self.where}."

    @property
    def weighs(self) -> bool:
        """Whether it is the result of trainings, not an end of a range."""
        return self.statistic in ("value", "mean", "median")


COLUMNS = tuple(field.name for field in fields(Published))
_TYPES = get_type_hints(Published)
_WORDS = {"role": ROLES, "kind": KINDS, "statistic": STATISTICS, "quality": QUALITIES, "tested": TESTS}
_DATE = re.compile(r"(\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?)?")
_NEEDED = ("id", "model", "metric", "source", "who", "where", "weights_id")


def read(path: Path = PATH) -> tuple[Published, ...]:
    """Read a file of this kind. Raises `ValueError`, saying what is wrong in which line and what to do."""
    found: list[Published] = []
    for number, line in _table(path, COLUMNS):
        try:
            found.append(typed(line))
        except ValueError as error:
            raise ValueError(f"damaged: {path}, line {number}: {error}; correct the line") from None
    return tuple(found)


def typed(line: Mapping[str, str]) -> Published:
    """A line of the file as a value. Raises `ValueError`, naming the field and its allowed values."""
    for name in _NEEDED:
        if not line[name].strip():
            raise ValueError(f"{name} is empty")
    for name, allowed in _WORDS.items():
        if line[name] not in allowed:
            raise ValueError(unknown(name, line[name], list(allowed)))
    if not _DATE.fullmatch(line["date"]):
        raise ValueError(f"date is {line['date']!r}: 2023, 2023-02 or 2023-02-14")
    found = Published(**{name: _value(name, line[name]) for name in COLUMNS})
    if found.n == 0 or (found.sd is not None and (found.sd < 0 or found.n == 1)):
        raise ValueError(f"n {line['n']} and sd {line['sd']}: n is 1 or more, sd not negative and of two or more")
    return found


def _value(name: str, text: str) -> Any:
    kinds = get_args(_TYPES[name]) or (_TYPES[name],)
    if kinds[0] is str or (not text and type(None) in kinds):
        return text if kinds[0] is str else None
    if kinds[0] is bool:
        if text not in YES_NO:
            raise ValueError(f"{name} is {text!r}: yes or no")
        return YES_NO[text]
    try:
        number = kinds[0](text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}: a {'whole number' if kinds[0] is int else 'number'}") from None
    if not math.isfinite(number) or "_" in text or (kinds[0] is int and not text.isdecimal()):
        raise ValueError(f"{name} is {text!r}: a finite number, whole ones without a sign")
    return number


def written(line: Mapping[str, str]) -> str:
    """A line as text for the file."""
    stream = io.StringIO()
    csv.DictWriter(stream, COLUMNS, lineterminator="\n").writerow(dict(line))
    return stream.getvalue()


def trust(path: Path = SOURCES) -> dict[str, str]:
    """How far to trust each source; sources of single reports are not listed. Raises `ValueError` if damaged."""
    return {line["source"]: line["trust"] for _, line in _table(path, ("source", "trust"))}


def _table(path: Path, columns: Sequence[str]) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"damaged: {path}: it is no UTF-8 text; restore it: git checkout {path.name}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ValueError(f"damaged: {path}, line {reader.line_num}: {error}; correct the line") from None
    if not rows or tuple(rows[0][1]) != tuple(columns):
        raise ValueError(f"damaged: {path}: its first line is not {','.join(columns)}; restore it")
    for number, row in rows[1:]:
        if len(row) != len(columns):
            raise ValueError(
                f"damaged: {path}, line {number}: {len(row)} columns, not {len(columns)}; correct the line"
            )
        yield number, dict(zip(columns, row, strict=True))


def check(lines: Sequence[Published], studies: Mapping[str, Study]) -> None:
    """Check that evidence is about what the studies declare, that no copy is evidence, and that no line repeats.

    Raises `ValueError` with the id of the line, or both ids of a pair.
    """
    seen: dict[object, str] = {}
    weights = {line.weights_id for line in lines}
    for line in lines:
        for key in (line.id, _same(line)):
            if key in seen:
                raise ValueError(
                    f"{line.id} repeats {seen[key]}: {line.model}, {line.metric} {line.value:g}; delete one"
                )
            seen[key] = line.id
        if line.superseded and (line.superseded not in weights or line.superseded == line.weights_id):
            raise ValueError(f"{line.id}: superseded by {line.superseded}, which no other line has as weights_id")
        if line.role == "evidence":
            try:
                _evidence(line, studies)
            except ValueError as error:
                raise ValueError(f"{line.id}: {error}; correct it, or make the line background") from None


def _same(line: Published) -> tuple[object, ...]:
    """The fields that are equal if two lines are the same number."""
    about = (line.study, line.row, line.model, line.dataset, line.split, line.metric, line.value, line.statistic)
    return (*about, line.kind, line.source, line.weights_id, line.tested, line.where, line.differs)


def _evidence(line: Published, studies: Mapping[str, Study]) -> None:
    if line.kind == "copied":
        raise ValueError("a copied number is no evidence")
    if line.quality == "secondhand":
        raise ValueError("a number that was told by another is no evidence")
    if not line.weighs:
        raise ValueError(f"the {line.statistic} of a range is no evidence by itself")
    if line.study not in studies:
        raise ValueError(unknown("study", line.study, studies))
    study = studies[line.study]
    row_of(study, line.row)
    columns = study.panel(line.dataset).columns if line.dataset else ()
    if line.metric not in columns:
        raise ValueError(unknown(f"metric of {line.study} on {line.dataset or 'no dataset'}", line.metric, columns))
    if line.value <= 0 or (line.metric in ACCURACIES and line.value > 100):
        raise ValueError(f"{line.metric} is {line.value:g}: accuracies are in percent, and nothing is below 0")


def row_of(study: Study, slug: str) -> Row | Reported:
    """A row of a study, measured or quoted. Raises `ValueError`, suggesting the nearest name, if there is none."""
    rows = {row.slug: row for row in study.rows}
    if slug not in rows:
        raise ValueError(unknown(f"row of {study.slug}", slug, rows))
    return rows[slug]
