"""Studies, rows and seeds expanded into runs: what exists, what is under way, what would start."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from segnext.config import Cost, Run
from studies.protocols import Protocol
from studies.provenance import code_fingerprint
from studies.store import Store, row_cost
from studies.study import Panel, Reported, Row, Study, studies, study
from studies.workspace import Workspace

_SELECTOR = re.compile(r"^(?P<study>[^/@]+)(/(?P<row>[^/@]+))?(@(?P<seed>\d+))?$")


@dataclass(frozen=True)
class Selection:
    """What a user selected: a study, some of its rows, some seeds."""

    study: Study
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """One wanted run and where it stands: `done`, `running`, `stopped` (can be continued), `failed` or `new`."""

    study: Study
    panel: Panel
    row: Row
    run: Run
    state: str
    detail: str = ""

    @property
    def label(self) -> str:
        """The run as the selector grammar writes it, with the dataset where the study has several."""
        dataset = f" {self.run.data.dataset}" if len(self.study.panels) > 1 else ""
        return f"{self.study.slug}/{self.row.slug}@{self.run.seed}{dataset}"


def select(
    selectors: Sequence[str], protocol: Protocol, rows: Sequence[str] | None, seeds: Sequence[int] | None
) -> list[Selection]:
    """Read `STUDY[/ROW][@seed]` (or `all`); `rows` and `seeds` narrow. `ValueError` suggests nearest names.

    With `all`, `rows` are taken from every study that has them.
    """
    chosen = []
    everything = list(selectors) == ["all"]
    for selector in studies() if everything else selectors:
        matched = _SELECTOR.match(selector)
        if matched is None:
            raise ValueError(f"{selector!r} is not of the form STUDY[/ROW][@seed], for example table7/c-stage1@0")
        found = study(matched["study"])
        known = [row.slug for row in found.trained]
        wanted = [matched["row"]] if matched["row"] else rows or known
        if everything:
            wanted = [slug for slug in wanted if slug in known]
        seed = (int(matched["seed"]),) if matched["seed"] else tuple(seeds or protocol.seeds)
        if wanted:
            chosen.append(Selection(found, tuple(found.row(slug) for slug in wanted), seed))
    if not chosen:
        raise ValueError(f"no study has a row named {' or '.join(rows or ())}; python -m studies.list shows them")
    return chosen


def plan(selections: Iterable[Selection], protocol: Protocol, limit_iterations: int | None, store: Store) -> list[Cell]:
    """Every wanted run once, in the tables' order: equal runs are one run."""
    cells: dict[str, Cell] = {}
    for selection in selections:
        for panel in protocol.panels(selection.study):
            for seed in selection.seeds:
                for row in selection.rows:
                    run = protocol.run(panel, row, seed, limit_iterations)
                    if run.id not in cells:
                        cells[run.id] = Cell(selection.study, panel, row, run, *_standing(run, store))
    return list(cells.values())


def costs(selections: Iterable[Selection], store: Store) -> list[tuple[str, Cost]]:
    """The cost measurements that the selected rows need and that do not exist yet, each once, with a label.

    Peers that are declared with a model are measured with the whole study.
    """
    wanted: dict[Cost, str] = {}
    for selection in selections:
        study = selection.study
        whole = list(selection.rows) == study.trained
        rows: list[Row | Reported] = [*selection.rows]
        rows += [row for row in study.rows if isinstance(row, Reported) and whole]
        for panel in study.panels:
            for row in rows:
                if (cost := row_cost(panel, row)) is not None:
                    wanted.setdefault(cost, f"{study.slug}/{row.slug} {panel.dataset}")
    return [(label, cost) for cost, label in wanted.items() if store.cost(cost) is None]


def _standing(run: Run, store: Store) -> tuple[str, str]:
    if (record := store.run(run)) is not None:
        stale = record["provenance"].get("code") != code_fingerprint()
        return "done", "made by other code than today's" if stale else ""
    workspace = Workspace(run.id)
    progress = workspace.progress()
    if workspace.owner() is not None:
        return "running", f"{progress['done']}/{progress['total']}" if progress else ""
    attempts = workspace.attempts()
    saved = workspace.last_state()
    if attempts and attempts[-1]["cause"] not in ("stopped", "killed"):
        return "failed", f"{attempts[-1]['cause']}: {attempts[-1]['message']}"
    if saved:
        return "stopped", f"continues after {saved} of {run.train.iterations} iterations"
    if isinstance(run.init, Run):
        return "new", f"starts from {run.init.id} on {run.init.data.dataset}, {run.init.train.iterations} iterations"
    return "new", ""
