"""Finds one run from what a user types: a selector of one row, or an id. The run need not have been started."""

from __future__ import annotations

import argparse
import re

from studies.declare.protocols import PROTOCOLS, protocol
from studies.plan.jobspec import specified_planned_run
from studies.plan.options import positive
from studies.plan.runs import PlannedRun, plan, select
from studies.plan.state import standing
from studies.records.schema import EvaluationRecord, RunRecord
from studies.records.store import Store
from studies.records.workspace import Workspace
from studies.tables import study

_ID = re.compile(r"[0-9a-f]{12}")


def add_declared(parse: argparse.ArgumentParser) -> None:
    """Add the options that select a run of a row."""
    parse.add_argument("--protocol", default="paper", help=f"one of {', '.join(PROTOCOLS)} (default: paper)")
    parse.add_argument("--limit-iterations", type=positive, metavar="N", help="the run that ends after N iterations")


def declared(text: str, options: argparse.Namespace, store: Store) -> PlannedRun:
    """The run of a row on its study's first dataset, with the first seed unless one is named; or the run with an id.

    Raises `ValueError` if there is no such run.
    """
    if _ID.fullmatch(text):
        return _of_id(text, store)
    chosen = protocol(options.protocol)
    selections = select([text], chosen, None, None)
    if len(selections[0].rows) != 1:
        rows = ", ".join(f"{selections[0].study.slug}/{row.slug}" for row in selections[0].rows)
        raise ValueError(f"{text} has several rows; name one: {rows}")
    runs = [planned for planned in plan(selections, chosen, options.limit_iterations, store) if not planned.upstream]
    if not runs:
        raise ValueError(f"{text}: {'; '.join(chosen.left_out(selections[0].study)) or 'none of it is trained'}")
    return runs[0]


def record_of(planned: PlannedRun, store: Store) -> RunRecord | EvaluationRecord | None:
    """The record of a planned run, or None."""
    return store.evaluation(planned.evaluation) if planned.evaluation else store.run(planned.run)


def _of_id(identifier: str, store: Store) -> PlannedRun:
    spec = Workspace(identifier).spec()
    if spec is not None:
        return specified_planned_run(spec, store)
    if not isinstance(store.records.get(identifier), RunRecord):
        raise ValueError(f"there is no run {identifier}, neither recorded nor started here")
    found = store.line_of(identifier)
    if found is None:
        raise ValueError(f"run {identifier} is of no row that is declared today")
    view, line = found
    assert line.seed is not None, identifier  # lines of runs have a seed
    assert view.iterations is not None, identifier
    declared = study(line.study)
    row = declared.row(line.row)
    run = view.protocol.run(view.panel, row, line.seed, view.iterations)
    return PlannedRun(declared, view.panel, row, run, standing(run, store))
