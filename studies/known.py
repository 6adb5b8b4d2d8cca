"""The runs that were ever started here, found by what a user types."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from studies.options import SELECTOR, numbers, positive, words_of
from studies.plan import Cell, matches
from studies.protocols import PROTOCOLS
from studies.specification import specified_cell
from studies.store import Store, runs_folder
from studies.workspace import Workspace


def add_selectors(parse: argparse.ArgumentParser) -> None:
    """Selectors, and what narrows them."""
    parse.add_argument("selectors", nargs="*", metavar=SELECTOR, help="default: every run that was started here")
    parse.add_argument("--protocol", choices=tuple(PROTOCOLS), help="only of this protocol")
    parse.add_argument("--rows", type=words_of, metavar="A,B", help="only these rows, by slug")
    parse.add_argument("--seeds", type=numbers, metavar="0,1,2", help="only these, or a range: 0-9")
    parse.add_argument("--limit-iterations", type=positive, metavar="N", help="only runs that were cut there")


def known(options: argparse.Namespace, store: Store) -> list[Cell]:
    """The started runs that the options select, by study, row and seed. `ValueError` for a selector of no study and a
    damaged record.

    A run that today's declarations do not have any more is left out.
    """
    wanted = matches(options.selectors)
    store.records  # noqa: B018  (what is damaged there is no reason to leave a run out)
    found = []
    for spec in _specifications():
        narrowed = (
            (options.protocol in (None, spec["protocol"]))
            and (not options.rows or spec["row"] in options.rows)
            and (not options.seeds or spec["seed"] in options.seeds)
            and (options.limit_iterations in (None, spec["limit_iterations"]))
            and wanted(spec["study"], spec["row"], spec["seed"])
        )
        if not narrowed:
            continue
        try:
            cell = specified_cell(spec, store)
        except (ValueError, StopIteration, AssertionError, FileNotFoundError):
            continue
        if cell.id == spec["id"]:
            found.append(cell)
    return sorted(found, key=lambda cell: (cell.study.slug, cell.row.slug, -cell.upstream, cell.run.seed, cell.id))


def words(cell: Cell) -> str:
    """The words that start a run again: its selector, and how it was started."""
    spec = Workspace(cell.id).planned() or {}
    return shlex.join([f"{cell.study.slug}/{cell.row.slug}@{cell.run.seed}", *spec.get("options", [])])


def _specifications() -> Iterator[dict[str, Any]]:
    for path in sorted(runs_folder().glob("*/spec.json")):
        spec = Workspace(path.parent.name).planned()
        if spec is not None:
            yield {**spec, "id": path.parent.name}


def one(cells: Sequence[Cell]) -> Cell:
    """The only run of these. `ValueError` lists several."""
    if len(cells) != 1:
        several = "".join(f"\n  {words(cell)}  ({cell.id})" for cell in cells[:20])
        raise ValueError(f"{len(cells)} started runs fit, one is wanted{':' if cells else ''}{several}")
    return cells[0]
