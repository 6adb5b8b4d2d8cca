"""`studies.run --until-decided`: seeds in planned looks, until every claim of the selection is decided or given up.

The plan is written before the first run (`studies.plan.looking`). What is done next follows from it and the records
alone, so the same command goes on after whatever ended it; on SLURM it submits a look and leaves, and judges it when it
is called again (with `--follow` it stays).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from studies.declare.protocols import Protocol
from studies.judge.looks import Stand
from studies.plan.looking import Looks, keep, next_look, path_of, planned, rows_of, standings
from studies.plan.options import shown
from studies.plan.runs import Selection
from studies.records.store import Store

DEFAULT = (5, 10)
"""The looks of DESIGN.md, at 1 % and 4 %."""

NOT_STARTED = 3
"""The exit code of a pre-flight that failed: a plan that was just written for it is no plan of anything yet."""

Run = Callable[[str, Sequence[str], Sequence[str], Sequence[int]], int]
"""Carries out what `studies.run` does for a study, its rows, its data sets and its seeds; returns the exit code."""


def check_options(options: argparse.Namespace) -> None:
    """`ValueError` for options that do not go with `--until-decided`."""
    given = {
        "--seeds": options.seeds,
        "a selector with @seed": any("@" in selector for selector in options.selectors),
        "--only": options.only,
        "--rerun": options.rerun,
        "--limit-iterations": options.limit_iterations,
        "--json": options.json,
    }
    for name, value in given.items():
        if value:
            raise ValueError(f"{name} does not go with --until-decided, which chooses the runs by its plan")


def until_decided(
    out: Console, selections: Sequence[Selection], chosen: Protocol, options: argparse.Namespace, run: Run
) -> int:
    """Look after look of every selected study; returns the exit code."""
    code = 0
    for selection in selections:
        code = max(code, _one(out, selection, chosen, options, run))
        if code > 1:
            break
    return code


def _one(out: Console, selection: Selection, chosen: Protocol, options: argparse.Namespace, run: Run) -> int:
    study, rows = selection.study, [row.slug for row in selection.rows]
    plan = planned(study, chosen, rows, selection.datasets, options.looks or DEFAULT, Store())
    before = None
    while True:
        store = Store()
        stands = standings(plan, study, chosen, store)
        look = next_look(plan, stands)
        _tell(out, plan, stands, look, store)
        if look is None:
            return 0
        if look == before:
            out.print(f"look {look} is not complete: the same command goes on when its runs are over")
            return 0
        new = not options.dry_run and keep(plan, store)
        try:
            code = _carried_out(plan, selection, chosen, stands, look, run)
        except SystemExit as left:
            if new and left.code == NOT_STARTED:
                path_of(store, plan.study, plan.protocol).unlink()
            raise
        if code or options.dry_run:
            return code
        before = look


def _carried_out(
    plan: Looks, selection: Selection, chosen: Protocol, stands: Mapping[str, Stand], look: int, run: Run
) -> int:
    code, panels = 0, chosen.panels(selection.study)
    for panel in panels:
        if own := rows_of(plan, selection.study, stands, panel.dataset):
            datasets = [panel.dataset] if len(panels) > 1 else []
            code = max(code, run(selection.study.slug, own, datasets, plan.until(look)))
    return code


def _tell(out: Console, plan: Looks, stands: Mapping[str, Stand], look: int | None, store: Store) -> None:
    looks = ", ".join(f"{n} seeds at {100 * share:.1f} %" for n, share in zip(plan.seeds, plan.shares, strict=True))
    there = path_of(store, plan.study, plan.protocol)
    out.print(f"{plan.study} under {plan.protocol}, looks after {looks} ({shown(there)}):")
    for name, stand in stands.items():
        facts = [f"look {stand.look}"] * bool(stand.look)
        facts += [] if stand.difference is None else [f"difference {stand.difference:+.2f}"]
        facts += [] if stand.p is None else [f"p {stand.p:.3g}"]
        facts += [] if stand.conditional is None else [f"{100 * stand.conditional:.0f} % to be decided at the last"]
        out.print(f"  {name}: {stand.verdict}{' (' + ', '.join(facts) + ')' if facts else ''}")
    if look is None:
        out.print("all looks are over")
    else:
        out.print(f"look {look}: seeds {plan.first} to {plan.until(look)[-1]}")
