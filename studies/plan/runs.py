"""Expands studies, rows and seeds into planned runs, each with its state."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from segnext.config import ClassificationData, Cost, Data, Evaluation, Platform, Run, Speed, Weights
from studies.declare.protocols import Protocol, protocol
from studies.declare.study import Panel, Reported, Row, Study, unknown
from studies.plan.state import NEW, RunState, settle, standing
from studies.plan.weights import sha256, weights_file
from studies.records.glance import Glance, glances
from studies.records.store import Store, frame_speed, row_cost, runs_folder, square_cost, square_speed
from studies.records.workspace import Workspace
from studies.slurm.scheduler import Queue
from studies.tables import studies, study

_SELECTOR = re.compile(r"^(?P<study>[^/@]+)(/(?P<row>[^/@]+))?(@(?P<seed>[0-9]{1,9}))?$")


@dataclass(frozen=True)
class Selector:
    """`STUDY[/ROW][@seed]` as a user wrote it; None means all rows, or all seeds."""

    study: Study
    row: str | None  # the row's slug
    seed: int | None


def read_selector(text: str) -> Selector:
    """The only reader of the selector grammar. Raises `ValueError`, suggesting nearest names, for an unknown one."""
    matched = _SELECTOR.match(text)
    if matched is None:
        raise ValueError(f"{text!r} is not of the form STUDY[/ROW][@seed], for example table7/c-stage1@0")
    found = study(matched["study"])
    row = found.row(matched["row"]).slug if matched["row"] else None
    return Selector(found, row, int(matched["seed"]) if matched["seed"] else None)


@dataclass(frozen=True)
class Selection:
    """A user's selection: a study, some of its rows, and some seeds."""

    study: Study
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    datasets: tuple[str, ...] = ()  # keys or titles of the protocol's panels; empty: all

    def panels(self, protocol: Protocol) -> list[Panel]:
        """The panels to train. Raises `ValueError` if the protocol has none of the datasets."""
        panels = protocol.panels(self.study)
        chosen = [panel for panel in panels if {panel.key, panel.title} & set(self.datasets)]
        if self.datasets and not chosen:
            there = {panel.title: panel for panel in panels}
            raise ValueError(unknown(f"dataset of {self.study.slug}", ", ".join(self.datasets), there))
        return chosen or panels


@dataclass(frozen=True)
class PlannedRun:
    """One wanted run and its state.

    `upstream` is 0 for the row's own run and counts the steps back from it for runs that it starts from. With an
    `evaluation` this is a test of finished weights, and `run` is the run that trained them, or that a file stands for.
    """

    study: Study
    panel: Panel
    row: Row
    run: Run
    stands: RunState = NEW
    upstream: int = 0
    evaluation: Evaluation | None = None
    weights: Path | None = None  # the file, for an evaluation of released weights
    seen: Workspace | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def wanted(self) -> Run | Evaluation:
        """What will be recorded: the evaluation, or else the run."""
        return self.evaluation or self.run

    def at(self, stands: RunState) -> PlannedRun:
        """The same run, which stands there now."""
        moved = object.__new__(PlannedRun)
        vars(moved).update(vars(self), stands=stands)
        return moved

    @property
    def state(self) -> str:
        """One of `studies.plan.state.STATES`."""
        return self.stands.state

    @property
    def id(self) -> str:
        """The id of its record."""
        return self.wanted.id

    @property
    def folder(self) -> Workspace:
        """Its folder as it was when the plan was made. Whoever starts or stops it looks anew: `Workspace(run.id)`."""
        return self.seen or Glance(self.id)

    @property
    def total(self) -> int:
        """The number of iterations to train; 0 for an evaluation."""
        return 0 if self.evaluation else self.run.train.iterations

    @property
    def stage(self) -> str:
        """`pretrain`, `train` or `evaluate`, which decides the resources that it gets."""
        if self.evaluation:
            return "evaluate"
        return "pretrain" if self.run.task == "classification" else "train"

    @property
    def label(self) -> str:
        """The run in the selector grammar, with the dataset if the study has several."""
        dataset = f" {self.run.data.dataset}" if len(self.study.panels) > 1 or self.upstream else ""
        ham = f" Ham {self.evaluation.ham_seed}" if self.evaluation and self.evaluation.ham_seed else ""
        seed = f" {self.weights.name}" if self.weights else f"@{self.run.seed}"
        return f"{self.study.slug}/{self.row.slug}{seed}{dataset}{ham}"


def otherwise(planned: PlannedRun) -> str:
    """What differs between the network that a test of a file builds and the row's, in words; empty if nothing does."""
    if planned.evaluation is None or planned.evaluation.model == planned.run.model:
        return ""
    theirs, ours = (model.widths.nmf_rank for model in (planned.evaluation.model, planned.run.model))
    return f"{planned.label} was trained with Ham's rank {theirs}, and the row has {ours}: {theirs} is tested"


def upstream(planned: PlannedRun) -> Run | None:
    """The run whose weights a planned training starts from; None if there is none."""
    return planned.run.init if planned.evaluation is None and isinstance(planned.run.init, Run) else None


def select(
    selectors: Sequence[str], protocol: Protocol, rows: Sequence[str] | None, seeds: Sequence[int] | None
) -> list[Selection]:
    """Read selectors `STUDY[/ROW][@seed]` (or `all`), narrowed by `rows` and `seeds`.

    With `all`, `rows` are taken from every study that has them. Raises `ValueError`, suggesting nearest names.
    """
    chosen = []
    everything = list(selectors) == ["all"]
    for selector in map(read_selector, studies() if everything else selectors):
        found = selector.study
        known = [row.slug for row in found.trained]
        wanted = [selector.row] if selector.row else rows or known
        if everything:
            wanted = [slug for slug in wanted if slug in known]
        seed = tuple(seeds or protocol.seeds_for(found)) if selector.seed is None else (selector.seed,)
        if wanted:
            chosen.append(Selection(found, tuple(found.row(slug) for slug in wanted), seed))
    if not chosen:
        raise ValueError(f"no study has a row named {' or '.join(rows or ())}; python -m studies.list shows them")
    return chosen


def matches(selectors: Sequence[str]) -> Callable[[str, str, int], bool]:
    """A function that tells whether (study, row, seed) is selected; without selectors, or with `all`, everything is."""
    chosen = [read_selector(text) for text in ([] if list(selectors) == ["all"] else selectors)]
    return lambda name, slug, seed: (
        not chosen or any(s.study.slug == name and s.row in (None, slug) and s.seed in (None, seed) for s in chosen)
    )


def plan(
    selections: Iterable[Selection], protocol: Protocol, limit_iterations: int | None, store: Store
) -> list[PlannedRun]:
    """Every wanted run once, in the order of the tables, after the runs that it starts from; equal runs are one run."""
    runs: dict[str, PlannedRun] = {}
    folder = runs_folder()
    wanted = [
        (selection.study, *found)
        for selection in selections
        for found in _wanted(selection, protocol, limit_iterations)
    ]
    coming, looked = glances(list(dict.fromkeys(run.id for *_, run in wanted)), folder), dict[str, Glance]()
    for declared, panel, row, run in wanted:
        if run.id not in looked:
            looked[run.id] = next(coming)
        chain: list[PlannedRun] = []
        needed: Run | str | None = run
        while isinstance(needed, Run) and (not chain or chain[-1].state != "done"):
            known = runs.get(needed.id)
            seen = (known and known.seen) or looked.get(needed.id) or Glance(needed.id, folder)
            stands = known.stands if known else standing(needed, store, workspace=seen)
            chain.append(PlannedRun(declared, panel, row, needed, stands, len(chain), seen=seen))
            needed = needed.init
        for planned in reversed(chain):
            if planned.upstream == 0 or planned.state != "done":
                runs.setdefault(planned.id, planned)
    return list(runs.values())


def settled(runs: Sequence[PlannedRun]) -> tuple[list[PlannedRun], Queue]:
    """The planned runs with the scheduler's states, and its answer; it is asked once, if any of them was submitted."""
    stands, queue = settle((planned.wanted, planned.folder) for planned in runs if planned.state == "queued")
    return [planned.at(stands[planned.id]) if planned.state == "queued" else planned for planned in runs], queue


def _wanted(selection: Selection, protocol: Protocol, limit: int | None) -> Iterator[tuple[Panel, Row, Run]]:
    for panel in selection.panels(protocol):
        rows = list(filter(panel.trains, selection.rows))
        first = [protocol.run(panel, row, selection.seeds[0], limit) for row in rows]
        for seed in selection.seeds:
            for row, run in zip(rows, first, strict=True):
                yield panel, row, run.seeded(seed)


def evaluations(
    selections: Iterable[Selection],
    protocol: Protocol,
    limit_iterations: int | None,
    store: Store,
    ham_seeds: Sequence[int],
) -> list[PlannedRun]:
    """Tests of wanted runs that are trained: the run's own test if it is missing, otherwise with these Ham seeds."""
    runs: dict[str, PlannedRun] = {}
    for selection in selections:
        for panel, row, run in _wanted(selection, protocol, limit_iterations):
            if not isinstance(run.data, Data) or not Workspace(run.id).weights.exists():
                continue
            if store.run(run) is None:  # trained with `--only train`, so its own test comes first
                runs.setdefault(run.id, PlannedRun(selection.study, panel, row, run, standing(run, store)))
                continue
            for seed in ham_seeds:
                evaluation = Evaluation(run, run.model, run.data, seed)
                stands = standing(evaluation, store)
                planned = PlannedRun(selection.study, panel, row, run, stands, evaluation=evaluation)
                runs.setdefault(planned.id, planned)
    return list(runs.values())


def imports(
    selections: Iterable[Selection], protocol: Protocol, store: Store, folder: Path, ham_seeds: Sequence[int]
) -> list[PlannedRun]:
    """Tests of weights trained elsewhere: of the files in `folder` that belong to the wanted rows.

    Ham's seed 0 is always included, because tables show it. Its rank is the one that a file was trained with, if the
    file says so. Raises `ValueError` for a file that is damaged, or says that it is another network's.
    """
    from segnext.apply.recognise import as_trained  # these import torch, which a plan without --weights does not need
    from segnext.released_weights import load_file

    runs: dict[str, PlannedRun] = {}
    for selection in selections:
        for panel in protocol.panels(selection.study):
            for row in filter(panel.trains, selection.rows):
                run = protocol.run(panel, row, seed=0)
                path = weights_file(folder, row, panel, run)
                if path is None or not isinstance(run.data, Data):
                    continue
                weights = Weights(path.name, sha256(path))
                model = as_trained(run.model, load_file(path), str(path))
                for seed in sorted({0, *ham_seeds}):
                    evaluation = Evaluation(weights, model, run.data, seed)
                    stands = standing(evaluation, store)
                    planned = PlannedRun(selection.study, panel, row, run, stands, evaluation=evaluation, weights=path)
                    runs.setdefault(planned.id, planned)
    return list(runs.values())


def on_other_data(runs: Sequence[PlannedRun], data_root: Path | None, store: Store) -> list[PlannedRun]:
    """The planned runs, with a note on those whose records were made from data other than the data here.

    It is called only on request, because a fingerprint needs the size of every file. Missing data do not count as other
    data.
    """
    from segnext.data import DataError, open_split  # imports numpy, which a list or a dry run does not need

    @cache
    def fingerprint(data: Data | ClassificationData, split: str) -> str | None:
        try:
            return open_split(data, split, data_root).fingerprint()
        except DataError:
            return None

    def differs(planned: PlannedRun) -> bool:
        data, record = planned.run.data, store.scored(planned.id)
        there = ((read.fingerprint, read.split) for read in (record.splits_read() if record else ()))
        return any(told and (fingerprint(data, split) or told) != told for told, split in there)

    other = {
        planned.id for planned in runs if planned.state == "done" and not planned.stands.detail and differs(planned)
    }
    stands = RunState("done", "made from other data than those at hand")
    return [dataclasses.replace(planned, stands=stands) if planned.id in other else planned for planned in runs]


def metrics_shown(run: Run) -> set[str]:
    """The metrics of a run that any table shows, because tables share equal runs."""
    chosen, limit = protocol(run.protocol), run.train.iterations
    return {
        metric
        for declared in studies().values()
        for panel in chosen.panels(declared)
        for row in filter(panel.trains, declared.trained)
        if chosen.run(panel, row, run.seed, limit) == run
        for metric in panel.accuracies
    }


def costs(selections: Iterable[Selection], store: Store) -> list[tuple[str, Cost]]:
    """The missing cost measurements of the selected rows, each once, with a label.

    Quoted rows with a model are measured if the whole study is selected.
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
                    wanted.setdefault(cost, f"{study.slug}/{row.slug} {panel.key}")
        for side in study.squares:
            for measured in selection.rows:
                wanted.setdefault(square_cost(study, measured, side), f"{study.slug}/{measured.slug} {side}x{side}")
    return [(label, cost) for cost, label in wanted.items() if store.cost(cost) is None]


def speeds(selections: Iterable[Selection], platform: Platform, store: Store) -> list[tuple[str, Speed]]:
    """The missing speed measurements of the selected rows on this platform, smallest images first, with labels.

    A study's `timed` networks are measured if the whole study is selected.
    """
    wanted = {
        square_speed(selection.study, row, side, platform): f"{selection.study.slug}/{row.slug} {side}x{side}"
        for selection in selections
        for side in selection.study.squares
        for row in selection.rows
    }
    for whole in [selection.study for selection in selections if list(selection.rows) == selection.study.trained]:
        height, width = whole.panel().input_size
        for name in whole.timed:
            wanted[frame_speed(whole, name, platform)] = f"{whole.slug} {name} {height}x{width}"
    return [(label, speed) for speed, label in wanted.items() if store.speed(speed) is None]
