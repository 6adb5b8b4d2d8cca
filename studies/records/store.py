"""Everything that touches results/ and runs/: records, the table CSVs derived from them, and the folders of runs.

A record is written once, atomically, when its run has finished; nothing else proves success. A table's CSV is derived
from studies and records alone: rebuilt whole, replaced atomically, the same bytes for the same inputs.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from segnext.config import Cost, Evaluation, Platform, Run, Speed, canonical, digest
from segnext.door import folder_of
from segnext.files import write_atomically
from studies.declare.protocols import PROTOCOLS, Protocol
from studies.declare.study import Panel, Reported, Row, Study
from studies.records.schema import Pictures, Record, check
from studies.records.typed import Damaged, content_of, value_of, write
from studies.tables import studies

REPOSITORY = Path(__file__).resolve().parents[2]

RESTORE = "restore it from git, or delete it: then the run counts as not done"

COLUMNS = (
    "study",
    "row",
    "protocol",
    "dataset",
    "seed",
    "run_id",
    "upstream_run_id",
    "state",
    "params",
    "gmacs",
    "gmacs_fvcore",
    "input_height",
    "input_width",
    "trained_model",
    "trained_params",
    "trained_gmacs",
    "iterations",
    "precision",
    "miou_ss",
    "miou_ms",
    "top1",
    "fps",
)
"""The columns of every table's CSV; results/README.md says what each one means."""

Line = dict[str, Any]


@dataclass(frozen=True)
class View:
    """The lines of a study's CSV under one protocol, on one dataset, at one length; None where nothing is trained."""

    protocol: Protocol
    panel: Panel
    iterations: int | None
    lines: list[Line]


def results_folder() -> Path:
    """results/, or $SEGNEXT_RESULTS."""
    return (folder_of("SEGNEXT_RESULTS") or REPOSITORY / "results").resolve()


def runs_folder() -> Path:
    """runs/, or $SEGNEXT_RUNS: checkpoints, logs, attempts; nothing that a result depends on once recorded."""
    return (folder_of("SEGNEXT_RUNS") or REPOSITORY / "runs").resolve()


class Store:
    """The records of a results folder, read once."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or results_folder()

    @cached_property
    def records(self) -> dict[str, Record]:
        """All whole records by id; `damage` names the others."""
        return {identifier: record for identifier, (record, _) in self._read.items()}

    @cached_property
    def damage(self) -> list[Damaged]:
        """What was found damaged so far, here and by whoever reads the files of runs for this store's sake."""
        return []

    def damaged(self, identifier: str) -> Damaged | None:
        """What is wrong with the record of this id."""
        self.records  # noqa: B018  (it finds out)
        path = self.path(identifier)
        return next((found for found in self.damage if found.path == path), None)

    def read_digest(self, identifier: str) -> str:
        """The SHA-256 of the file of a record of `records`, as it was read."""
        return self._read[identifier][1]

    @cached_property
    def _read(self) -> dict[str, tuple[Record, str]]:
        found = {}
        for path in self._files():
            try:
                content = content_of(path, RESTORE)
                if content is None:
                    continue
                record = value_of(content, dict[str, Any], path, RESTORE)
                found[path.stem] = _checked(path, record), hashlib.sha256(content).hexdigest()
            except Damaged as damaged:
                self.damage.append(damaged)
            except ValueError as error:
                self.damage.append(Damaged(path, str(error), RESTORE))
        return found

    def _files(self) -> list[Path]:
        folder = self.folder / "records"
        try:
            return sorted(folder / name for name in os.listdir(folder) if name.endswith(".json") and name[0] != ".")
        except FileNotFoundError:
            return []
        except OSError as error:
            self.damage.append(
                Damaged(folder, f"it cannot be read: {error.strerror}", "ask its owner for the right to")
            )
            return []

    def pictures(self, identifier: str) -> dict[str, Any] | None:
        """The facts of a run's pictures (`schema.Pictures`); None without, and where they are damaged."""
        path = self.folder / "cam" / f"{identifier}.json"
        remedy = "restore it from git, or delete it and its .npz"
        try:
            content = content_of(path, remedy)
            if content is None:
                return None
            facts = value_of(content, dict[str, Any], path, remedy)
            value_of(content, Pictures, path, remedy)
        except Damaged as damaged:
            self.damage.append(damaged)
            return None
        return facts

    def kind(self, kind: str) -> list[Record]:
        """All records of a kind, by id."""
        return self._by_kind.get(kind, [])

    @cached_property
    def _by_kind(self) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {}
        for record in self.records.values():
            found.setdefault(record["kind"], []).append(record)
        return found

    def path(self, identifier: str) -> Path:
        """Where the record of this id lies once it is finished."""
        return self.folder / "records" / f"{identifier}.json"

    def run(self, run: Run) -> Record | None:
        """The record of this run, or None while it has not finished."""
        return self._find(run.id, run)

    def cost(self, cost: Cost) -> Record | None:
        """The record of this cost measurement, or None."""
        return self._find(cost.id, cost)

    def evaluation(self, evaluation: Evaluation) -> Record | None:
        """The record of this test of finished weights, or None."""
        return self._find(evaluation.id, evaluation)

    def evaluations(self, run: Run) -> list[Record]:
        """The records of every repeated test of this run, by the seed of Ham's bases."""
        found = (record for record in self.kind("evaluation") if record["config"]["weights"] == run.id)
        return sorted(found, key=lambda record: record["config"]["ham_seed"])

    def server(self, run: Run, metric: str) -> Record | None:
        """The record of what a test server said about this run, or None."""
        wanted = {"run": run.id, "metric": metric}
        found = (record for record in self.kind("server") if wanted.items() <= record["config"].items())
        return next(found, None)

    def imported(self, run: Run) -> list[Record]:
        """The records of weights that were trained elsewhere and stand for this run."""
        return [
            record
            for record in self.kind("evaluation")
            if record.get("stands_for") == run.id and record["config"]["ham_seed"] == 0
        ]

    def speed(self, speed: Speed) -> Record | None:
        """The record of this speed measurement, or None."""
        return self._find(speed.id, speed)

    def platforms(self) -> list[Platform]:
        """Everything that a speed was measured on."""
        found = {Platform(**record["config"]["platform"]) for record in self.kind("speed")}
        return sorted(found, key=repr)

    def _find(self, identifier: str, value: Run | Cost | Speed | Evaluation) -> Record | None:
        record = self.records.get(identifier)
        if record is None or record["config"] == (wanted := canonical(value)):
            return record
        if change := difference(record["config"], wanted):
            raise ValueError(f"{self.path(identifier)} was made for another configuration: {change}")
        return record

    def digest(self, identifier: str) -> str | None:
        """The SHA-256 of the file of this record, or None while there is none."""
        try:
            content = content_of(self.path(identifier), RESTORE)
        except Damaged:
            return None
        return hashlib.sha256(content).hexdigest() if content is not None else None

    def add(self, record: Record) -> Path:
        """Write a finished record, once. An existing one with this id stays as it is: the first to finish counts.

        `ValueError` where it is not whole.

        Unless the record says in its provenance that it `supersedes` that very one, by its digest.
        """
        path = self.path(record["id"])
        if not path.exists() or record["provenance"].get("supersedes") == self.digest(record["id"]):
            write(path, _checked(path, record))
        for cached in ("records", "_read", "_by_kind", "_views", "_tried", "damage"):
            self.__dict__.pop(cached, None)
        return path

    def build_tables(self) -> list[Path]:
        """Derive and replace the CSV of every study; returns their paths.

        Others may finish and write meanwhile. Whoever has written looks again: whatever there was before the last look
        of the last writer is in what stays.
        """
        store = self
        while True:
            seen = store._listed()
            derived = store.derived()
            for path, content in derived.items():
                if not path.exists() or path.read_text() != content:
                    write_atomically(path, content)
            store = Store(self.folder)
            if store._listed() == seen:
                return list(derived)

    def _listed(self) -> set[tuple[str, int, int]]:
        """The records that there are, told from what they were a moment ago."""
        files = ((path, path.stat()) for path in (self.folder / "records").glob("*.json"))
        return {(path.name, facts.st_mtime_ns, facts.st_ino) for path, facts in files}

    def derived(self) -> dict[Path, str]:
        """The CSV of every study as the records have it, by its path; writes nothing."""
        tables = {}
        for study in studies().values():
            buffer = io.StringIO()
            writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.table(study))
            tables[self.folder / f"{study.slug}.csv"] = buffer.getvalue()
        return tables

    def table(self, study: Study) -> list[Line]:
        """The lines of a study's CSV: one per row, protocol, dataset, seed and length. None means not measured."""
        return [line for view in self.views(study) for line in view.lines]

    def views(self, study: Study) -> list[View]:
        """A study by protocol, dataset and length: as it was run, and always as the paper has it."""
        self.records  # noqa: B018  (views are of the records as they are)
        if study.slug not in self._views or self._views[study.slug][0] is not study:
            self._views[study.slug] = (study, list(self._viewed(study)))
        return self._views[study.slug][1]

    @cached_property
    def _views(self) -> dict[str, tuple[Study, list[View]]]:
        return {}

    @cached_property
    def _tried(self) -> dict[str, dict[tuple[int, str], set[int]]]:
        """By protocol, then by length and dataset, the seeds that anything was run with."""
        found: dict[str, dict[tuple[int, str], set[int]]] = {}
        for config in (record["config"] for record in self.kind("run")):
            key = config["train"]["iterations"], config["data"]["dataset"]
            found.setdefault(config["protocol"], {}).setdefault(key, set()).add(config["seed"])
        return found

    @cached_property
    def _runs(self) -> dict[tuple[str, int, int, int], tuple[dict[int, Run], Panel, Row]]:
        return {}

    def _run(self, protocol: Protocol, panel: Panel, row: Row, seed: int, iterations: int) -> Run:
        """What measures a row, made once. The seeds of a row share its values, and what these once resolved to."""
        key = (protocol.name, id(panel), id(row), iterations)
        if key not in self._runs:
            first = protocol.run(panel, row, 0, iterations)
            self._runs[key] = {0: first}, panel, row  # held: their ids are the key
        known = self._runs[key][0]
        if seed not in known:
            known[seed] = dataclasses.replace(known[0], seed=seed)
        return known[seed]

    def _viewed(self, study: Study) -> Iterator[View]:
        for protocol in PROTOCOLS.values():
            panels = protocol.panels(study)
            for panel in study.panels if protocol.name == "paper" else panels:
                if panel not in panels:
                    lines = [self._untrained(study, panel, row) for row in study.trained]
                    yield View(protocol, panel, None, lines)
                    continue
                for iterations, seeds in self._lengths(study, protocol, panel).items():
                    lines = [
                        line
                        for row in filter(panel.trains, study.trained)
                        for line in self._lines(study, protocol, panel, row, seeds, iterations)
                    ]
                    if iterations == protocol.recipe(panel).train.iterations:
                        lines += self._imported_lines(study, protocol, panel)
                    yield View(protocol, panel, iterations, lines)

    def _lengths(self, study: Study, protocol: Protocol, panel: Panel) -> dict[int, list[int | None]]:
        """The lengths, the longest first, that rows of this panel were run at, each with its seeds."""
        full = protocol.recipe(panel).train.iterations
        tried = self._tried.get(protocol.name, {})
        lengths: dict[int, list[int | None]] = {}
        for iterations in sorted({full, *(length for length, _ in tried)}, reverse=True):
            seeds: set[int] = set()
            for row in filter(panel.trains, study.trained):
                # A row that is shorter by its own recipe is not cut by a length between the two.
                if iterations == full or iterations < protocol.recipe(panel, row).train.iterations:
                    first = self._run(protocol, panel, row, 0, iterations)
                    candidates = tried.get((first.train.iterations, first.data.dataset), set()) - seeds
                    runs = (self._run(protocol, panel, row, seed, iterations) for seed in candidates)
                    seeds |= {run.seed for run in runs if run.id in self.records}
            if seeds and iterations == full:
                seeds |= set(protocol.seeds_for(study))
            if seeds:
                lengths[iterations] = [*sorted(seeds)]
        if full not in lengths and (protocol.name == "paper" or self._imported_lines(study, protocol, panel)):
            return {full: [None], **lengths}
        return lengths

    def _imported_lines(self, study: Study, protocol: Protocol, panel: Panel) -> list[Line]:
        """What weights of elsewhere score: never among what was reproduced, and once, not under both papers."""
        if protocol.pretraining == "released":
            return []
        lines = []
        for row in filter(panel.trains, study.trained):
            run = protocol.run(panel, row, seed=0)
            for record in self.imported(run):
                (line,) = self._lines(study, protocol, panel, row, [None], run.train.iterations)
                line.update(run_id=record["id"], upstream_run_id=None, state="imported", iterations=None)
                line.update(precision=precision(record))
                lines.append({**line, **_metrics(record)})
        return lines

    def _untrained(self, study: Study, panel: Panel, row: Row) -> Line:
        """A line of a panel without runs: costs alone, or a dataset that has no recipe yet."""
        line = self._cost_line(study, panel, row)
        measured = not panel.accuracies and line["params"] is not None
        line.update(protocol="paper", dataset=panel.dataset, state="done" if measured else "pending")
        return line

    def _lines(
        self, study: Study, protocol: Protocol, panel: Panel, row: Row, seeds: Iterable[int | None], iterations: int
    ) -> Iterator[Line]:
        costs = self._cost_line(study, panel, row)
        for seed in seeds:
            run = self._run(protocol, panel, row, seed or 0, iterations)
            record = self.run(run) if seed is not None else None
            line = {
                **costs,
                "protocol": protocol.name,
                "dataset": run.data.dataset,
                "seed": seed,
                "run_id": run.id if seed is not None else None,
                "upstream_run_id": run.init.id if isinstance(run.init, Run) else None,
                "state": "done" if record else "pending",
                "trained_model": run.model.size,
                "iterations": run.train.iterations,
            }
            if record:
                line.update(trained_params=record["trained"]["params"], trained_gmacs=record["trained"]["gmacs"])
                line.update(precision=precision(record))
                line.update(_metrics(record))
                for metric in panel.accuracies:
                    if line[metric] is None and (said := self.server(run, metric)) is not None:
                        line[metric] = said["value"]
            yield line

    def _cost_line(self, study: Study, panel: Panel, row: Row) -> Line:
        line: Line = dict.fromkeys(COLUMNS)
        height, width = panel.input_size
        line.update(study=study.slug, row=row.slug, input_height=height, input_width=width)
        if cost := self.row_cost(panel, row):
            line.update({key: cost[key] for key in ("params", "gmacs", "gmacs_fvcore")})
        return line

    def row_cost(self, panel: Panel, row: Row | Reported) -> Record | None:
        """The record of the cost that a table prints for a row."""
        cost = row_cost(panel, row)
        return None if cost is None else self.cost(cost)


def precision(record: Record) -> str:
    """What a run or a test was computed in, one of `segnext.config.PRECISIONS`; older records do not say: float32."""
    return str(record["provenance"].get("precision") or "float32")


def _metrics(record: Record) -> Line:
    return {key: record["metrics"].get(key) for key in ("miou_ss", "miou_ms", "top1", "fps")}


def row_cost(panel: Panel, row: Row | Reported) -> Cost | None:
    """The cost that a table prints for a row: its full-size model at the panel's input size and class count."""
    return None if row.model is None else Cost(row.model, panel.classes, *panel.input_size, task=panel.task)


def square_cost(study: Study, row: Row, side: int) -> Cost:
    """The cost of a row on a square image of a study that measures how it grows."""
    return Cost(row.model, study.panel().classes, side, side)


def square_speed(study: Study, row: Row, side: int, platform: Platform) -> Speed:
    """Its latency and peak memory on a platform."""
    return Speed(row.model, study.panel().classes, side, side, platform)


def frame_speed(study: Study, name: str, platform: Platform) -> Speed:
    """One frame at the first panel's input size, of a network that a study times."""
    panel = study.panel()
    return Speed(study.timed[name], panel.classes, *panel.input_size, platform)


def difference(old: Any, new: Any, path: str = "") -> str | None:
    """The first field in which two configurations differ, as `field: old -> new`; None when they are equal."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            found = difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return None
    return None if old == new else f"{path}: {old!r} -> {new!r}"


def _checked(path: Path, record: Record) -> Record:
    """The record. `ValueError` where it is not whole, or not of this name."""
    check(record)
    if record.get("id") != path.stem or not path.stem.endswith(digest(record.get("config"))):
        raise ValueError("its configuration does not give its id: it was edited or renamed")
    return record
