"""Everything that touches results/ and runs/: records, the table CSVs derived from them, and the folders of runs.

A record is written once, atomically, when its run has finished; nothing else proves success. A table's CSV is derived
from studies and records alone: rebuilt whole, replaced atomically, the same bytes for the same inputs.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from segnext.config import Cost, Run, canonical, digest
from segnext.files import write_atomically
from studies.protocols import PROTOCOLS
from studies.study import Row, Study, studies

REPOSITORY = Path(__file__).resolve().parent.parent

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
    "miou_ss",
    "miou_ms",
    "top1",
    "fps",
)
"""The columns of every table's CSV; results/README.md says what each one means."""

Record = dict[str, Any]


def results_folder() -> Path:
    """results/, or $SEGNEXT_RESULTS."""
    return Path(os.environ.get("SEGNEXT_RESULTS") or REPOSITORY / "results").resolve()


def runs_folder() -> Path:
    """runs/, or $SEGNEXT_RUNS: checkpoints, logs, attempts; nothing that a result depends on once recorded."""
    return Path(os.environ.get("SEGNEXT_RUNS") or REPOSITORY / "runs").resolve()


def to_json(data: Any) -> str:
    """Stable JSON: sorted keys, NaN refused."""
    return json.dumps(data, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


class Store:
    """The records of a results folder, read once."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or results_folder()

    @cached_property
    def records(self) -> dict[str, Record]:
        """All records by id. `ValueError` names a file that is damaged or was edited."""
        found = {}
        for path in sorted((self.folder / "records").glob("*.json")):
            try:
                record = json.loads(path.read_text())
            except ValueError as error:
                raise ValueError(f"{path}: not a readable record ({error}); restore it from git or delete it") from None
            found[path.stem] = _checked(path, record)
        return found

    def run(self, run: Run) -> Record | None:
        """The record of this run, or None while it has not finished."""
        return self._find(run.id, run)

    def cost(self, cost: Cost) -> Record | None:
        """The record of this cost measurement, or None."""
        return self._find(cost.id, cost)

    def _find(self, identifier: str, value: Run | Cost) -> Record | None:
        record = self.records.get(identifier)
        if record is not None and (change := difference(record["config"], canonical(value))):
            path = self.folder / "records" / f"{identifier}.json"
            raise ValueError(f"{path} was made for another configuration: {change}")
        return record

    def add(self, record: Record) -> Path:
        """Write a finished record, once. An existing one with this id stays as it is: the first to finish counts."""
        path = self.folder / "records" / f"{record['id']}.json"
        if not path.exists():
            write_atomically(path, to_json(_checked(path, record)))
        self.__dict__.pop("records", None)
        return path

    def build_tables(self) -> list[Path]:
        """Derive and replace the CSV of every study; returns their paths."""
        paths = []
        for study in studies().values():
            buffer = io.StringIO()
            writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.table(study))
            path = self.folder / f"{study.slug}.csv"
            if not path.exists() or path.read_text() != buffer.getvalue():
                write_atomically(path, buffer.getvalue())
            paths.append(path)
        return paths

    def table(self, study: Study) -> list[dict[str, Any]]:
        """The lines of a study's CSV: one per row, protocol, seed and length. None means not measured."""
        return [
            self._line(study, row, protocol, seed, iterations)
            for protocol, seeds, iterations in self._variants(study)
            for row in study.trained
            for seed in seeds
        ]

    def _variants(self, study: Study) -> Iterable[tuple[str, list[int | None], int]]:
        """(protocol, seeds, iterations) under which this study was run, and always the paper's protocol."""
        for protocol in PROTOCOLS.values():
            if study.dataset not in protocol.recipes and "*" not in protocol.recipes:
                continue
            full = protocol.recipe(study)[1].iterations
            tried = {
                (record["config"]["train"]["iterations"], record["config"]["seed"])
                for record in self.records.values()
                if record["kind"] == "run" and record["config"]["protocol"] == protocol.name
            }
            seen: dict[int, list[int]] = {}
            for iterations, seed in sorted(tried):
                runs = [protocol.run(study, row, seed, iterations) for row in study.trained]
                if any(run.id in self.records for run in runs):
                    seen.setdefault(iterations, []).append(seed)
            if full in seen:
                seen[full] = sorted({*seen[full], *protocol.seeds})
            elif protocol.name == "paper":
                yield protocol.name, [None], full
            for iterations in sorted(seen, reverse=True):
                yield protocol.name, list(seen[iterations]), iterations

    def _line(self, study: Study, row: Row, name: str, seed: int | None, iterations: int) -> dict[str, Any]:
        protocol = PROTOCOLS[name]
        run = protocol.run(study, row, seed or 0, iterations)
        record = self.run(run) if seed is not None else None
        cost = self.cost(row_cost(study, row))
        line: dict[str, Any] = dict.fromkeys(COLUMNS)
        line.update(
            study=study.slug,
            row=row.slug,
            protocol=name,
            dataset=run.data.dataset,
            seed=seed,
            run_id=run.id if seed is not None else None,
            upstream_run_id=run.init.id if isinstance(run.init, Run) else None,
            state="done" if record else "pending",
            input_height=study.input_size[0],
            input_width=study.input_size[1],
            trained_model=run.model.size,
            iterations=iterations,
        )
        if cost:
            line.update({key: cost[key] for key in ("params", "gmacs", "gmacs_fvcore")})
        if record:
            line.update(trained_params=record["trained"]["params"], trained_gmacs=record["trained"]["gmacs"])
            line.update({key: record["metrics"].get(key) for key in ("miou_ss", "miou_ms", "top1", "fps")})
        return line


def row_cost(study: Study, row: Row) -> Cost:
    """The cost that a table prints for a row: its full-size model at the paper's input size and class count."""
    data, _ = PROTOCOLS["paper"].recipe(study)
    return Cost(row.model, data.classes, *study.input_size)


def difference(old: Any, new: Any, path: str = "") -> str | None:
    """The first field in which two configurations differ, as `field: old -> new`; None when they are equal."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            found = difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return None
    return None if old == new else f"{path}: {old!r} -> {new!r}"


_PARTS = {
    "run": ("metrics", "classes", "trained", "training", "provenance"),
    "cost": ("params", "gmacs", "gmacs_fvcore", "provenance"),
}


def _checked(path: Path, record: Record) -> Record:
    missing = [part for part in _PARTS.get(record.get("kind", ""), ("kind",)) if part not in record]
    if missing:
        raise ValueError(f"{path}: not a whole record, it has no {', '.join(missing)}; restore it or delete it")
    if record.get("id") != path.stem or not path.stem.endswith(digest(record.get("config"))):
        raise ValueError(f"{path}: its configuration does not give its id; it was edited or renamed: restore it")
    return record
