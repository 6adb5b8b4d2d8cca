"""Finds runs that were started here by what a user types."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Sequence

from studies.declare.protocols import PROTOCOLS
from studies.plan.jobspec import specified_planned_run
from studies.plan.options import SELECTOR, numbers, positive, words_of
from studies.plan.runs import PlannedRun, matches
from studies.records.glance import glances
from studies.records.store import Store, runs_folder
from studies.records.typed import Damaged
from studies.records.working_state import JobSpec

_IDENTIFIER = re.compile(r"(evaluation-)?[0-9a-f]{12}")


def add_selectors(parse: argparse.ArgumentParser) -> None:
    """Add selectors and the options that narrow them."""
    parse.add_argument("selectors", nargs="*", metavar=SELECTOR, help="default: every run that was started here")
    parse.add_argument("--protocol", choices=tuple(PROTOCOLS), help="only runs of this protocol")
    parse.add_argument("--rows", type=words_of, metavar="A,B", help="only these rows, by slug")
    parse.add_argument("--seeds", type=numbers, metavar="0,1,2", help="only these seeds, or a range: 0-9")
    parse.add_argument("--limit-iterations", type=positive, metavar="N", help="only runs that end after N iterations")


def started_runs(options: argparse.Namespace, store: Store) -> list[PlannedRun]:
    """The started runs that the options select, ordered by study, row and seed.

    `store.damage` names runs that are damaged, or of no row that today's code declares. Raises `ValueError` for a
    selector of no study.
    """
    wanted, folder, found = matches(options.selectors), runs_folder(), list[PlannedRun]()

    def fits(spec: JobSpec) -> bool:
        return _fits(spec, options) and wanted(spec.study, spec.row, spec.seed)

    for workspace in glances(_started(store), folder, fits):
        try:
            spec = workspace.spec()
            if spec is None or not fits(spec):
                continue
            planned = specified_planned_run(spec, store, workspace)
            if planned.id != workspace.run_id:
                raise ValueError(f"it is about run {planned.id}")
            store.damage += workspace.damage()
            found.append(planned)
        except Damaged as damaged:
            store.damage.append(damaged)
        except ValueError as error:
            why = f"today's code has no such run: {error}"
            store.damage.append(
                Damaged(workspace.folder / "spec.json", why, "the code that started it, or another folder")
            )
    return sorted(
        found,
        key=lambda planned: (planned.study.slug, planned.row.slug, -planned.upstream, planned.run.seed, planned.id),
    )


def words(planned: PlannedRun) -> str:
    """The words that start a run again: its selector and the options with which it was started."""
    return shlex.join([f"{planned.study.slug}/{planned.row.slug}@{planned.run.seed}", *options_of(planned)])


def options_of(planned: PlannedRun) -> tuple[str, ...]:
    """The options with which a run was started; none if it was not, or if its specification is damaged."""
    try:
        spec = planned.folder.spec()
    except Damaged:
        return ()
    return spec.options if spec else ()


def _fits(spec: JobSpec, options: argparse.Namespace) -> bool:
    return (
        options.protocol in (None, spec.protocol)
        and (not options.rows or spec.row in options.rows)
        and (not options.seeds or spec.seed in options.seeds)
        and options.limit_iterations in (None, spec.limit_iterations)
    )


def _started(store: Store) -> list[str]:
    """The ids of all runs with a folder, sorted."""
    folder = runs_folder()
    try:
        return sorted(entry.name for entry in os.scandir(folder) if _IDENTIFIER.fullmatch(entry.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        store.damage.append(Damaged(folder, f"it cannot be read: {error.strerror}", "ask its owner for the right to"))
        return []


def one(runs: Sequence[PlannedRun]) -> PlannedRun:
    """The only one of these runs. Raises `ValueError`, listing them, if there are several, or if there is none."""
    if len(runs) != 1:
        several = "".join(f"\n  {words(planned)}  ({planned.id})" for planned in runs[:20])
        raise ValueError(f"{len(runs)} started runs fit, one is wanted{':' if runs else ''}{several}")
    return runs[0]
