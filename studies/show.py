"""Everything known about a run: `python -m studies.show STUDY/ROW[@seed]`, or by its id.

Shows its resolved configuration, its upstream run, its state, its result with provenance, and what others measured for
the row (`studies.published` lists all of it). For a row that is only quoted, it shows what others measured.
Exit codes: 0 fine, 1 a file is damaged, 2 usage.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console

from segnext.config import canonical
from segnext.door import Column, Parser, command, console, print_json, show_table
from studies.declare import published
from studies.declare.published import Published
from studies.declare.study import Reported
from studies.judge import others
from studies.plan.declared import add_declared, declared, record_of
from studies.plan.options import shown
from studies.plan.runs import PlannedRun, settled, upstream
from studies.plan.started import words
from studies.published import show_listing
from studies.records import packed
from studies.records.causes import CAUSES
from studies.records.schema import EvaluationRecord, RunRecord
from studies.records.store import Store
from studies.records.typed import Damaged, tell
from studies.records.workspace import Workspace
from studies.tables import studies

FIRST = ("miou_ss", "miou_ms", "top1")  # of a run's scores


@command("python -m studies.show")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser.of("python -m studies.show", __doc__)
    parse.add_argument("run", metavar="STUDY/ROW[@seed]", help="a run, or its id")
    add_declared(parse)
    parse.add_argument("--json", action="store_true", help="as JSON, the record whole")
    options = parse.parse_args(arguments)
    store = Store()
    slug, _, row = options.run.partition("/")
    if slug in studies() and any(isinstance(found, Reported) and found.slug == row for found in studies()[slug].rows):
        return _quoted(slug, row, store, options.json)
    (planned,), _ = settled([declared(options.run, options, store)])
    record = record_of(planned, store)
    store.damage += Workspace(planned.id).damage()
    facts = _facts(planned, record, store)
    elsewhere = _others(planned.study.slug, planned.row.slug, store)
    if options.json:
        print_json({**facts, "others": list(map(dataclasses.asdict, elsewhere))})
        return tell(store.damage)
    out = console()
    out.print(f"{planned.label} under {planned.run.protocol}: {planned.row.label}, run {planned.id}")
    state = ": ".join(filter(None, (planned.state, planned.stands.cause, planned.stands.detail)))
    out.print(state)
    if record is not None:
        out.print(f"computed in {facts['precision']}")
    if planned.stands.cause and planned.state != "done":
        out.print(CAUSES[planned.stands.cause].words)
    if record is not None:
        _show_scores(out, facts["metrics"], record.classes)
    for title in ("attempts", "training", "trained", "provenance", "configuration", "files"):
        if facts.get(title):
            show_table((Column(title), Column("value", folds=True)), [list(pair) for pair in flat(facts[title])])
    _tell_others(out, elsewhere)
    return tell(store.damage)


def _quoted(slug: str, row: str, store: Store, as_json: bool) -> int:
    """Show a peer's row, which is never run here: only what others measured for it."""
    elsewhere = _others(slug, row, store)
    if as_json:
        print_json({"row": f"{slug}/{row}", "others": list(map(dataclasses.asdict, elsewhere))})
        return tell(store.damage)
    out, quoted = console(), published.row_of(studies()[slug], row)
    printed = ", ".join(f"{dataset} {metric} {value}" for (dataset, metric), value in quoted.printed.items())
    out.print(f"{slug}/{row}: {quoted.label}, quoted and never trained here; printed: {printed}")
    _tell_others(out, elsewhere)
    return tell(store.damage)


def _others(slug: str, row: str, store: Store) -> list[Published]:
    """What others measured for a row. If that list is damaged, note it and show the rest."""
    try:
        return others.of_row(others.published(), studies()[slug], row)
    except ValueError as error:
        store.damage.append(Damaged(published.PATH, str(error), "correct the line, or restore the file"))
        return []


def _tell_others(out: Console, lines: Sequence[Published]) -> None:
    if lines:
        show_listing(lines, "what others measured")


def _facts(planned: PlannedRun, record: RunRecord | EvaluationRecord | None, store: Store) -> dict[str, Any]:
    workspace = Workspace(planned.id)
    before, plain = upstream(planned), record.plain if record else {}
    files = {
        "record": store.path(planned.id),
        "log": workspace.log if workspace.log.exists() else workspace.folder / packed.NAME,
        "weights": workspace.weights,
        "states": workspace.states,
    }
    return {
        "run": planned.id,
        "row": planned.label,
        "state": planned.state,
        "detail": planned.stands.detail,
        "cause": planned.stands.cause,
        "job": planned.stands.job,
        "starts_from": before.id if before else planned.run.init,
        "precision": record.provenance.precision if record else None,
        "command": f"python -m studies.run {words(planned)}",
        "configuration": canonical(planned.wanted),
        "attempts": list(map(msgspec.structs.asdict, workspace.attempts())),
        **{key: value for key, value in plain.items() if key not in ("config", "id", "kind")},
        "files": {name: shown(path) for name, path in files.items() if os.path.exists(path)},
    }


def _show_scores(out: Console, metrics: dict[str, Any], classes: Sequence[str]) -> None:
    """The scores in a line, those of the tables first, and those of each class in a table."""
    whole = {name: f"{value:.2f}" for name, value in metrics.items() if isinstance(value, float)}
    if whole:
        names = (*(name for name in FIRST if name in whole), *(name for name in whole if name not in FIRST))
        out.print(", ".join(f"{name} {whole[name]}" for name in names))
    apart = {name: values for name, values in metrics.items() if isinstance(values, list)}
    if apart:
        columns = Column("class"), *(Column(name, right=True) for name in apart)
        values = zip(*apart.values(), strict=True)
        rows = [[name, *map(_percent, scores)] for name, scores in zip(classes, values, strict=True)]
        show_table(columns, rows)


def _percent(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"


def flat(facts: Any, path: str = "") -> list[tuple[str, str]]:
    """Nested facts as pairs of path and value: `train.batch` and `16`."""
    if isinstance(facts, dict):
        return [line for key in facts for line in flat(facts[key], f"{path}.{key}" if path else str(key))]
    if isinstance(facts, list) and any(isinstance(item, dict) for item in facts):
        return [line for number, item in enumerate(facts, start=1) for line in flat(item, f"{path} {number}".strip())]
    if isinstance(facts, list):
        return [(path, ", ".join(map(str, facts)))]
    return [(path, "" if facts is None else str(facts))]


if __name__ == "__main__":
    sys.exit(main())
