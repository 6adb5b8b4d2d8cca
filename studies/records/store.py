"""The records in results/, the lines of the tables that they fill, and where results/ and runs/ lie.

A record is written once, atomically, when its run has finished; nothing else proves success. `studies.facts.files`
writes the CSVs, from studies and records alone.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from segnext.config import Cost, Evaluation, Platform, Run, Speed, canonical, difference, whole_digest
from segnext.door import folder_of
from studies.declare.protocols import PROTOCOLS, Protocol
from studies.declare.study import Panel, Reported, Row, Study
from studies.records import index
from studies.records.digests import Digests
from studies.records.index import Entry
from studies.records.lines import Line
from studies.records.schema import (
    CostRecord,
    EvaluationRecord,
    Pictures,
    Plain,
    Record,
    RunRecord,
    ScoredRecord,
    ServerRecord,
    SpeedRecord,
    typed,
)
from studies.records.typed import Damaged, content_of, read, value_of, write
from studies.tables import studies

REPOSITORY = Path(__file__).resolve().parents[2]

ID = 12  # digits of a digest that are an id
RESTORE = "restore it from git, or delete it: then the run counts as not done"


@dataclass(frozen=True)
class View:
    """The lines of a study under one protocol, on one dataset, at one length; None where nothing is trained."""

    protocol: Protocol
    panel: Panel
    iterations: int | None
    lines: Sequence[Line]


def results_folder() -> Path:
    """results/, or $SEGNEXT_RESULTS. `ValueError` where neither is here."""
    return _folder("SEGNEXT_RESULTS", "results", os.environ.get("SEGNEXT_RESULTS"), os.getcwd(), REPOSITORY)


def runs_folder() -> Path:
    """runs/, or $SEGNEXT_RUNS: checkpoints, logs, attempts; nothing that a result depends on once recorded.

    `ValueError` where neither is here.
    """
    return _folder("SEGNEXT_RUNS", "runs", os.environ.get("SEGNEXT_RUNS"), os.getcwd(), REPOSITORY)


@lru_cache(8)
def _folder(variable: str, name: str, named: str | None, here: str, checkout: Path) -> Path:
    """Found once for what the variable says and where we are: a command asks for each of its runs."""
    found = folder_of(variable)
    return found.resolve() if found else of_checkout(name, f"set ${variable} to a folder")


def of_checkout(name: str, otherwise: str) -> Path:
    """A folder of the checkout. Of an installed package there is none: `ValueError` says what to do otherwise."""
    if installed():
        raise ValueError(f"{name}/ is in a checkout, and this is an installed package: {otherwise}, or work in a clone")
    return (REPOSITORY / name).resolve()


@cache
def installed() -> bool:
    """Whether this code was installed, by pip say, and is neither a checkout nor a snapshot of one."""
    return any(REPOSITORY.glob("segnext_study-*.dist-info"))


R = TypeVar("R", bound=Record)


class _Records(Mapping[str, Record]):
    """Records by id, in its order, each made when it is asked for."""

    def __init__(self, entries: dict[str, Entry], plain: Callable[[str], Plain]) -> None:
        self.entries, self._made, self._plain = entries, dict[str, Record](), plain

    def __getitem__(self, identifier: str) -> Record:
        if (made := self._made.get(identifier)) is None:
            made = self.entries[identifier].record(partial(self._plain, identifier))
            self._made[identifier] = made
            self.entries[identifier] = msgspec.structs.replace(self.entries[identifier], head=b"")  # half of the memory
        return made

    def get(self, identifier: str, default: Any = None) -> Any:  # Mapping's raises and catches an error for each miss
        return self[identifier] if identifier in self.entries else default

    def __contains__(self, identifier: object) -> bool:
        return identifier in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class _Read:
    """What was read of the records, and what follows from it; a store that has written reads anew."""

    def __init__(self, records: _Records, files: Mapping[str, index.Signature]) -> None:
        self.records, self.files = records, files
        self.views: dict[str, tuple[Study, list[View]]] = {}
        self._kinds: dict[str, Sequence[Record]] = {}

    def kind(self, kind: str) -> Sequence[Record]:
        """The records of a kind, by id: one list, however often it is asked for."""
        if kind not in self._kinds:
            self._kinds[kind] = tuple(self.records[key] for key in self.by_kind.get(kind, ()))
        return self._kinds[kind]

    @cached_property
    def by_kind(self) -> dict[str, list[str]]:
        """The ids of the records of each kind."""
        found: dict[str, list[str]] = {}
        for identifier, entry in self.records.entries.items():
            found.setdefault(entry.kind, []).append(identifier)
        return found

    @cached_property
    def stand_ins(self) -> dict[str | None, list[EvaluationRecord]]:
        """By run, the records of weights that were trained elsewhere and stand for it."""
        found: dict[str | None, list[EvaluationRecord]] = {}
        for record in _of(self.kind("evaluation"), EvaluationRecord):
            if record.config.ham_seed == 0:
                found.setdefault(record.stands_for, []).append(record)
        return found

    @cached_property
    def tried(self) -> dict[str, dict[tuple[int, str], set[int]]]:
        """By protocol, then by length and dataset, the seeds that anything was run with."""
        found: dict[str, dict[tuple[int, str], set[int]]] = {}
        for record in _of(self.kind("run"), RunRecord):
            config = record.config
            key = config.train.iterations, config.data.dataset
            found.setdefault(config.protocol, {}).setdefault(key, set()).add(config.seed)
        return found


class _Resolved:
    """The first runs of a study's rows, each resolved once: those of other seeds differ in nothing else."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str, str, int], Run] = {}

    def run(self, protocol: Protocol, panel: Panel, row: Row, iterations: int) -> Run:
        """What measures a row with seed 0."""
        key = (protocol.name, panel.key, row.slug, iterations)
        if key not in self._runs:
            self._runs[key] = protocol.run(panel, row, 0, iterations)
        return self._runs[key]


class Store:
    """The records of a results folder, read once."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or results_folder()
        self.damage: list[Damaged] = []
        """What was found damaged so far, here and by whoever reads the files of runs for this store's sake."""
        self._known: _Read | None = None

    @property
    def records(self) -> Mapping[str, Record]:
        """All whole records by id; `damage` names the others."""
        return self._read.records

    def damaged(self, identifier: str) -> Damaged | None:
        """What is wrong with the record of this id."""
        self.records  # noqa: B018  (it finds out)
        if not self.damage:
            return None
        path = self.path(identifier)
        return next((found for found in self.damage if found.path == path), None)

    def read_digest(self, identifier: str) -> str:
        """The SHA-256 of the file of a record of `records`, as it was read."""
        return self._read.records.entries[identifier].digest

    @property
    def _read(self) -> _Read:
        if self._known is None:
            self._known = self._whole()
        return self._known

    @property
    def current(self) -> bool:
        """Whether the records are still those that it has read, if it has read any."""
        try:
            return self._known is None or self._known.files == index.listed(self.folder / "records")
        except OSError:  # it could not be read before either, and `damage` says so
            return True

    def _whole(self) -> _Read:
        """Every record that is whole: what the index knows, and the others from their files."""
        begun, path = time.monotonic(), self.folder / index.NAME
        try:
            files = index.listed(self.folder / "records")
        except OSError as error:
            remedy = "ask its owner for the right to"
            self.damage.append(Damaged(self.folder / "records", f"it cannot be read: {error.strerror}", remedy))
            files = {}
        known, entries, opened = index.load(path), dict[str, Entry](), 0
        for identifier, signature in files.items():
            entry = known.get(identifier)
            if entry is not None and entry.signature == signature:
                entries[identifier] = entry
            elif (found := self._from_file(identifier, signature)) is not None:
                entries[identifier] = found
                opened += 1
        index.renew(path, entries, opened + len(known.keys() - files.keys()), begun)
        return _Read(_Records(entries, self._plain), files)

    def _from_file(self, identifier: str, signature: index.Signature) -> Entry | None:
        """What is known of a record; None where it is gone, and where it is damaged, which is noted."""
        path = self.path(identifier)
        try:
            if (content := content_of(path, RESTORE)) is None:
                return None
            record = _checked(path, value_of(content, Plain, path, RESTORE))
            return Entry.of(signature, record, hashlib.sha256(content).hexdigest())
        except Damaged as damaged:
            self.damage.append(damaged)
        except ValueError as error:
            self.damage.append(Damaged(path, str(error), RESTORE))
        return None

    def _plain(self, identifier: str) -> Plain:
        """The whole of a record that the index knew. Raises `Damaged` where it is another by now."""
        path, again = self.path(identifier), "it was replaced while it was read; run the command again"
        content = content_of(path, again) or b""
        if hashlib.sha256(content).hexdigest() != self.read_digest(identifier):
            raise Damaged(path, "it is not what it was a moment ago", again)
        return value_of(content, Plain, path, RESTORE)

    @cached_property
    def digests(self) -> Digests:
        """The SHA-256 of files of results/ that are no records."""
        return Digests(self.folder)

    def forget_digests(self) -> None:
        """Read anew what is remembered of them: another process has added to it."""
        vars(self).pop("digests", None)

    def pictures(self, identifier: str) -> Pictures | None:
        """The facts of a run's pictures; None without, and where they are damaged."""
        try:
            return read(
                self.folder / "cam" / f"{identifier}.json", Pictures, "restore it from git, or delete it and its .npz"
            )
        except Damaged as damaged:
            self.damage.append(damaged)
            return None

    def kind(self, kind: str) -> Sequence[Record]:
        """All records of a kind, by id."""
        return self._read.kind(kind)

    def runs(self) -> Sequence[RunRecord]:
        """The records of all finished runs, by id."""
        return _of(self.kind("run"), RunRecord)

    def seeds(self, protocol: str) -> list[int]:
        """The seeds that anything was run with under a protocol."""
        return sorted({seed for seeds in self._read.tried.get(protocol, {}).values() for seed in seeds})

    def evaluated(self) -> Sequence[EvaluationRecord]:
        """The records of all tests of finished weights, by id."""
        return _of(self.kind("evaluation"), EvaluationRecord)

    def scored(self, identifier: str) -> ScoredRecord | None:
        """The record of a finished run, or of a test of finished weights; None where there is none of this id."""
        return _as(self.records.get(identifier), ScoredRecord)

    def weights_digest(self, identifier: str) -> str:
        """The SHA-256 of the weights that a finished run left. `KeyError` where it has not finished."""
        weights = self.finished(identifier).weights
        assert weights is not None, identifier
        return weights.sha256

    def finished(self, identifier: str) -> RunRecord:
        """The record of a run that is known to have finished. `KeyError` where it has not."""
        record = self.records[identifier]
        assert isinstance(record, RunRecord), identifier
        return record

    def path(self, identifier: str) -> Path:
        """Where the record of this id lies once it is finished."""
        return self.folder / "records" / f"{identifier}.json"

    def run(self, run: Run) -> RunRecord | None:
        """The record of this run, or None while it has not finished."""
        return _as(self._find(run), RunRecord)

    def cost(self, cost: Cost) -> CostRecord | None:
        """The record of this cost measurement, or None."""
        return _as(self._find(cost), CostRecord)

    def evaluation(self, evaluation: Evaluation) -> EvaluationRecord | None:
        """The record of this test of finished weights, or None."""
        return _as(self._find(evaluation), EvaluationRecord)

    def costs(self) -> Sequence[CostRecord]:
        """The records of all costs, by id."""
        return _of(self.kind("cost"), CostRecord)

    def evaluations(self, run: Run) -> list[EvaluationRecord]:
        """The records of every repeated test of this run, by the seed of Ham's bases."""
        found = (record for record in self.evaluated() if record.config.weights == run.id)
        return sorted(found, key=lambda record: record.config.ham_seed)

    def servers(self) -> Sequence[ServerRecord]:
        """The records of all scores of test servers, by id."""
        return _of(self.kind("server"), ServerRecord)

    def server(self, run: str, metric: str) -> ServerRecord | None:
        """The record of what a test server said about the run of this id, or None."""
        found = (record for record in self.servers() if (record.config.run, record.config.metric) == (run, metric))
        return next(found, None)

    def imported(self, run: Run) -> list[EvaluationRecord]:
        """The records of weights that were trained elsewhere and stand for this run."""
        return self._read.stand_ins.get(run.id, [])

    def speed(self, speed: Speed) -> SpeedRecord | None:
        """The record of this speed measurement, or None."""
        return _as(self._find(speed), SpeedRecord)

    def platforms(self) -> list[Platform]:
        """Everything that a speed was measured on."""
        return sorted({record.config.platform for record in _of(self.kind("speed"), SpeedRecord)}, key=repr)

    def entry(self, identifier: str) -> Entry | None:
        """What is known of the record of this id without opening it; None where there is none."""
        return self._read.records.entries.get(identifier)

    def made(self, value: Run | Cost | Speed | Evaluation) -> Entry | None:
        """The same of the record of this. `ValueError` where it was made for another configuration."""
        known = self.entry(value.id)
        if known is not None and known.configured != whole_digest(value):
            raise self._of_another(self.records[value.id], value)
        return known

    def _find(self, value: Run | Cost | Speed | Evaluation) -> Record | None:
        return None if self.made(value) is None else self.records[value.id]

    def _of_another(self, record: Record, value: Run | Cost | Speed | Evaluation) -> ValueError:
        change = difference(record.plain["config"], canonical(value))
        return ValueError(f"{self.path(record.id)} was made for another configuration: {change}")

    def digest(self, identifier: str) -> str | None:
        """The SHA-256 of the file of this record, or None while there is none."""
        try:
            content = content_of(self.path(identifier), RESTORE)
        except Damaged:
            return None
        return hashlib.sha256(content).hexdigest() if content is not None else None

    def add(self, record: Plain) -> Path:
        """Write a finished record, once. An existing one with this id stays as it is: the first to finish counts.

        `ValueError` where it is not whole.

        Unless the record says in its provenance that it `supersedes` that very one, by its digest.
        """
        path = self.path(str(record.get("id")))
        whole = _checked(path, record)
        if not path.exists() or whole.provenance.supersedes == self.digest(whole.id):
            write(path, record)
        self._known, self.damage = None, []
        return path

    def lines(self, study: Study) -> list[Line]:
        """The lines of a study, run or not: one per row, protocol, dataset, seed and length."""
        return [line for view in self.views(study) for line in view.lines]

    def views(self, study: Study) -> list[View]:
        """A study by protocol, dataset and length: as it was run, and always as the paper has it."""
        views = self._read.views
        if study.slug not in views or views[study.slug][0] is not study:
            views[study.slug] = (study, list(self._viewed(study)))
        return views[study.slug][1]

    def line_of(self, identifier: str) -> tuple[View, Line] | None:
        """The line of the tables that a run has, and the view that it stands in; None where today's have none."""
        views = (view for study in studies().values() for view in self.views(study))
        return next(((view, line) for view in views for line in view.lines if line.run_id == identifier), None)

    def _viewed(self, study: Study) -> Iterator[View]:
        resolved = _Resolved()
        for protocol in PROTOCOLS.values():
            panels = protocol.panels(study)
            for panel in study.panels if protocol.name == "paper" else panels:
                if panel not in panels:
                    lines = [self._untrained(study, panel, row) for row in study.trained]
                    yield View(protocol, panel, None, lines)
                    continue
                for iterations, seeds in self._lengths(study, protocol, panel, resolved).items():
                    lines = [
                        line
                        for row in filter(panel.trains, study.trained)
                        for line in self._lines(study, protocol, panel, row, seeds, iterations, resolved)
                    ]
                    if iterations == protocol.recipe(panel).train.iterations:
                        lines += self._imported_lines(study, protocol, panel)
                    yield View(protocol, panel, iterations, lines)

    def _lengths(
        self, study: Study, protocol: Protocol, panel: Panel, resolved: _Resolved
    ) -> dict[int, list[int | None]]:
        """The lengths, the longest first, that rows of this panel were run at, each with its seeds."""
        full = protocol.recipe(panel).train.iterations
        tried = self._read.tried.get(protocol.name, {})
        lengths: dict[int, list[int | None]] = {}
        for iterations in sorted({full, *(length for length, _ in tried)}, reverse=True):
            seeds: set[int] = set()
            for row in filter(panel.trains, study.trained):
                # A row that is shorter by its own recipe is not cut by a length between the two.
                if iterations == full or iterations < protocol.recipe(panel, row).train.iterations:
                    first = resolved.run(protocol, panel, row, iterations)
                    candidates = tried.get((first.train.iterations, first.data.dataset), set()) - seeds
                    seeds |= {seed for seed in candidates if first.digest_seeded(seed)[:ID] in self.records}
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
                found = _scores(record) | {"run_id": record.id, "precision": record.provenance.precision}
                place = {"protocol": protocol.name, "dataset": run.data.dataset, "trained_model": run.model.size}
                lines.append(structs.replace(self._cost_line(study, panel, row), state="imported", **place, **found))
        return lines

    def _untrained(self, study: Study, panel: Panel, row: Row) -> Line:
        """A line of a panel without runs: costs alone, or a dataset that has no recipe yet."""
        line = self._cost_line(study, panel, row)
        measured = not panel.accuracies and line.params is not None
        state = "done" if measured else "pending"
        return structs.replace(line, protocol="paper", dataset=panel.dataset, state=state)

    def _lines(
        self,
        study: Study,
        protocol: Protocol,
        panel: Panel,
        row: Row,
        seeds: Iterable[int | None],
        iterations: int,
        resolved: _Resolved,
    ) -> Iterator[Line]:
        first = resolved.run(protocol, panel, row, iterations)
        shared = structs.replace(
            self._cost_line(study, panel, row),
            protocol=protocol.name,
            dataset=first.data.dataset,
            upstream_run_id=first.init.id if isinstance(first.init, Run) else "",
            trained_model=first.model.size,
            iterations=first.train.iterations,
            state="pending",
        )
        for seed in seeds:
            if seed is None:
                yield shared
                continue
            whole = first.digest_seeded(seed)
            identifier = whole[:ID]
            if (record := self.records.get(identifier)) is None:
                yield structs.replace(shared, seed=seed, run_id=identifier)
                continue
            if record.configured != whole:
                raise self._of_another(record, first.seeded(seed))
            assert isinstance(record, RunRecord), identifier
            found = self._measured(record, panel)
            yield structs.replace(shared, seed=seed, run_id=identifier, state="done", **found)

    def _measured(self, record: RunRecord, panel: Panel) -> dict[str, Any]:
        """What its record measured, by column; a score that only a test server can give is that of its record."""
        measured = _scores(record) | {
            "trained_params": record.trained.params,
            "trained_gmacs": record.trained.gmacs,
            "precision": record.provenance.precision,
        }
        for metric in panel.accuracies:
            if measured.get(metric) is None and (said := self.server(record.id, metric)) is not None:
                measured[metric] = said.value
        return measured

    def _cost_line(self, study: Study, panel: Panel, row: Row) -> Line:
        height, width = panel.input_size
        line = Line(study=study.slug, row=row.slug, input_height=height, input_width=width)
        if cost := self.row_cost(panel, row):
            line = structs.replace(line, params=cost.params, gmacs=cost.gmacs, gmacs_fvcore=cost.gmacs_fvcore)
        return line

    def row_cost(self, panel: Panel, row: Row | Reported) -> CostRecord | None:
        """The record of the cost that a table prints for a row."""
        cost = row_cost(panel, row)
        return None if cost is None else self.cost(cost)


def precision(record: Record) -> str:
    """What a run or a test was computed in, one of `segnext.config.PRECISIONS`; older records do not say: float32."""
    return record.provenance.precision


def _scores(record: ScoredRecord) -> dict[str, Any]:
    metrics = record.metrics
    return {"miou_ss": metrics.miou_ss, "miou_ms": metrics.miou_ms, "top1": metrics.top1, "fps": metrics.fps}


def _of(records: Iterable[Record], kind: type[R]) -> list[R]:
    return [record for record in records if isinstance(record, kind)]


def _as(record: Record | None, kind: type[R]) -> R | None:
    assert record is None or isinstance(record, kind), record.id
    return record


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


def _checked(path: Path, plain: Plain) -> Record:
    """The record. `ValueError` where it is not whole, or not of this name."""
    record = typed(plain)
    configured = whole_digest(plain.get("config"))
    if record.id != path.stem or not path.stem.endswith(configured[:12]):
        raise ValueError("its configuration does not give its id: it was edited or renamed")
    vars(record)["configured"] = configured
    return record
