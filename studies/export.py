"""Finished runs in a tracker: `python -m studies.export mlflow|wandb|tensorboard [SELECTOR ...]`.

Configuration, metrics and curves, from records. A run's id is its key: what is
there already stays, what was written from another record or curve is replaced,
and nothing is there twice. Each tracker is an extra: `python -m pip install
mlflow`, `wandb` or `tensorboard`.

  python -m studies.export mlflow table7 --to http://localhost:5000
  python -m studies.export wandb table6 --protocol quick  # `wandb sync` sends
  python -m studies.export tensorboard --to /tmp/curves

Exit codes: 0 fine, 1 a file is damaged, or the tracker does not answer (the
same command continues), 2 usage, or the extra is not installed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from segnext.door import Parser, bars, command, console, say
from studies.declare.protocols import PROTOCOLS, protocol
from studies.plan.options import SELECTOR, shown
from studies.plan.runs import Selector, read_selector
from studies.records.schema import EvaluationRecord, Metrics, RunConfig, RunRecord, ScoredRecord
from studies.records.store import Store, runs_folder
from studies.records.typed import Damaged, content_of, read, tell, write
from studies.tables import studies

PROJECT = "segnext"  # the project of W&B; MLflow's experiments are segnext/PROTOCOL
ID, DIGEST = "segnext.id", "segnext.digest"  # what a tracker's run is found by, and what it was written from
MARK = "segnext-export.json"  # the same, in a folder
BATCH = 900  # MLflow takes 1000 metrics at a time, 100 parameters and 100 tags


@dataclass(frozen=True)
class Place:
    """A row that a run measures, and the seed."""

    study: str
    row: str
    seed: int
    protocol: str

    def within(self, selectors: Sequence[Selector], chosen: str | None) -> bool:
        """Whether it was asked for."""
        named = (
            s.study.slug == self.study and s.row in (None, self.row) and s.seed in (None, self.seed) for s in selectors
        )
        return chosen in (None, self.protocol) and (not selectors or any(named))

    def __str__(self) -> str:
        return f"{self.study}/{self.row}@{self.seed}"


@dataclass(frozen=True)
class Finished:
    """A finished run, or a test of finished weights, as trackers have it."""

    id: str
    name: str
    protocol: str
    dataset: str
    tags: Mapping[str, str]
    parameters: Mapping[str, str | int | float | bool]
    metrics: Mapping[str, float]
    curve: Sequence[tuple[int, Mapping[str, float]]]  # what was measured after an iteration
    iterations: int
    started: float  # seconds since 1970
    finished: float

    @property
    def digest(self) -> str:
        """Of all that a tracker gets: another one means that what it has is out of date."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


class Tracker(Protocol):
    """Where finished runs go."""

    def known(self) -> Mapping[str, str]:
        """The digests of the runs that it has whole, by their ids."""

    def put(self, run: Finished) -> None:
        """Write a run in the place of whatever there is of it."""

    def look(self) -> str:
        """How a person looks at it."""


class Unanswered(Exception):
    """The tracker does not answer, or refuses."""


@command("python -m studies.export")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parser().parse_args(arguments)
    selectors = [read_selector(text) for text in options.selectors]
    chosen = protocol(options.protocol).name if options.protocol else None
    if find_spec(options.tracker) is None:
        install = f"python -m pip install {options.tracker}"
        raise ValueError(f"{options.tracker} is not installed; {install}   (the extra `{options.tracker}`)")
    store = Store()
    records = list(wanted(store, selectors, chosen))
    if not records:
        say("nothing to export: no finished run is of these rows (python -m studies.status)")
        return tell(store.damage)
    try:
        tracker = TRACKERS[options.tracker](options.to)
        counted = _export(records, tracker, store)
    except Unanswered as error:
        say(f"python -m studies.export: {error}; the same command continues", error=True)
        return max(1, tell(store.damage))
    say(", ".join(f"{counted[word]} {word}" for word in ("written", "replaced", "as they were")))
    say(tracker.look())
    return tell(store.damage)


def _parser() -> argparse.ArgumentParser:
    parse = Parser.of("python -m studies.export", __doc__)
    parse.formatter_class = argparse.RawDescriptionHelpFormatter
    parse.add_argument("tracker", choices=tuple(TRACKERS))
    parse.add_argument("selectors", nargs="*", metavar=SELECTOR, help="what to export (default: all that is recorded)")
    parse.add_argument("--protocol", help=f"one of {', '.join(PROTOCOLS)} (default: all)")
    parse.add_argument(
        "--to",
        metavar="WHERE",
        help="MLflow: a server's address, or a file of SQLite (default: $MLFLOW_TRACKING_URI, or export/mlflow.db in "
        "$SEGNEXT_RUNS); W&B, TensorBoard: a folder (default: there, export/wandb and export/tensorboard)",
    )
    return parse


def _export(records: Sequence[tuple[ScoredRecord, Sequence[Place]]], tracker: Tracker, store: Store) -> Counter[str]:
    """Put what is new or another into the tracker; what was done how often."""
    counted, known = Counter[str](), tracker.known()
    columns = MofNCompleteColumn(), TimeRemainingColumn(compact=True)
    with bars(console(error=True), *columns) as bar:
        task = bar.add_task("runs", total=len(records))
        for record, places in records:
            try:
                run = finished(record, places, store)
            except Damaged as damaged:
                store.damage.append(damaged)
                continue
            if known.get(run.id) == run.digest:
                counted["as they were"] += 1
            else:
                tracker.put(run)
                counted["replaced" if run.id in known else "written"] += 1
            bar.advance(task)
    return counted


# What is recorded


def wanted(
    store: Store, selectors: Sequence[Selector], chosen: str | None
) -> Iterator[tuple[ScoredRecord, Sequence[Place]]]:
    """The records that are asked for, and every row that each is of; without selectors also those of no row."""
    places, starts = _places(store)
    named = {name for name, found in places.items() if any(place.within(selectors, chosen) for place in found)}
    named |= {start for name, start in starts.items() if name in named}
    for record in (*store.runs(), *store.evaluated()):
        of = record.id
        if isinstance(record, EvaluationRecord):
            weights = record.config.weights
            of = record.stands_for or (weights if isinstance(weights, str) else "")
        found = places.get(of, ())
        if of in named or not (found or selectors or chosen):
            yield record, found


def _places(store: Store) -> tuple[dict[str, list[Place]], dict[str, str]]:
    """The rows that each run is of, in the paper's order; and the run that each starts from."""
    places: dict[str, list[Place]] = {}
    starts: dict[str, str] = {}
    for study in studies().values():
        for view in store.views(study):
            for line in view.lines:
                if line.run_id and line.seed is not None:
                    places.setdefault(line.run_id, []).append(
                        Place(study.slug, line.row, line.seed, view.protocol.name)
                    )
                    starts[line.run_id] = line.upstream_run_id
    return places, starts


def finished(record: ScoredRecord, places: Sequence[Place], store: Store) -> Finished:
    """What a tracker gets of a record and its curve. Raises `Damaged` for a curve that cannot be read."""
    config, origin = record.config, record.provenance
    seed = config.seed if isinstance(config, RunConfig) else config.ham_seed
    of_protocol = config.protocol if isinstance(config, RunConfig) else (places[0].protocol if places else "")
    name = str(places[0]) if places else f"{config.data.dataset}@{seed}"
    if isinstance(record, EvaluationRecord):
        name += f" tested, Ham {record.config.ham_seed}"
    tags = {
        "kind": record.kind,
        "protocol": of_protocol,
        "dataset": config.data.dataset,
        "rows": " ".join(map(str, places)),
        "study": places[0].study if places else "",
        "row": places[0].row if places else "",
        "seed": str(seed),
        "commit": f"{origin.commit or ''}{', changed' if origin.dirty else ''}",
        "code": origin.code or "",
        "torch": origin.torch or "",
        "precision": origin.precision,
        "device": origin.device or "",
        "command": origin.command,
    }
    return Finished(
        record.id,
        name,
        of_protocol or "none",
        config.data.dataset,
        {key: value for key, value in tags.items() if value},
        dict(_leaves(record.plain["config"])),
        dict(_metrics(record)),
        _curve(store.folder / "curves", record.id),
        record.training.iterations or 0 if isinstance(record, RunRecord) else 0,
        _seconds(origin.started or origin.finished),
        _seconds(origin.finished),
    )


def _metrics(record: ScoredRecord) -> Iterator[tuple[str, float]]:
    for score in Metrics.__struct_fields__:
        if isinstance(value := getattr(record.metrics, score), int | float):
            yield score, float(value)
    for label, value in zip(record.classes, record.metrics.iou, strict=False):
        if value is not None:
            yield "iou/" + re.sub(r"[^\w.-]", "_", label, flags=re.ASCII), value
    if isinstance(record, RunRecord):
        measured = {
            "trained_params": record.trained.params,
            "trained_gmacs": record.trained.gmacs,
            "final_loss": record.training.final_loss,
            "images_per_second": record.training.images_per_second,
            "process_seconds": record.process_seconds,
            "gpu_seconds": record.provenance.gpu_seconds,
        }
        yield from ((name, float(value)) for name, value in measured.items() if value is not None)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """A configuration as `train.batch` and 16; lists as JSON has them."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _leaves(value[key], f"{path}.{key}" if path else key)
    else:
        yield path, value if isinstance(value, str | int | float) else json.dumps(value)


def _curve(folder: Path, identifier: str) -> list[tuple[int, dict[str, float]]]:
    """The steps of the training, and the tests on the way."""
    steps: dict[int, dict[str, float]] = {}
    for path, prefix in ((folder / f"{identifier}.csv", "train"), (folder / f"{identifier}-tests.csv", "test")):
        remedy = "restore it from git, or delete it: the run has no curve then"
        if (content := content_of(path, remedy)) is None:
            continue
        try:
            lines = list(csv.DictReader(content.decode().splitlines()))
            for line in lines:
                values = {f"{prefix}/{name}": float(value) for name, value in line.items() if value}
                steps.setdefault(int(values.pop(f"{prefix}/iteration")), {}).update(values)
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(path, f"it is no curve: {type(error).__name__} {error}", remedy) from None
    return sorted(steps.items())


def _seconds(stamp: str | None) -> float:
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


# MLflow


@contextmanager
def _answering(where: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise Unanswered(f"MLflow at {where}: {' '.join(str(error).split())[:300]}") from None


class _Mlflow:
    """Runs found by a tag; each experiment is a protocol."""

    def __init__(self, to: str | None) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own patience with no server is minutes
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # which tell of the tables that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        where = to or os.environ.get("MLFLOW_TRACKING_URI") or str(runs_folder() / "export" / "mlflow.db")
        if "://" not in where:
            path = Path(where).expanduser().absolute()
            path.parent.mkdir(parents=True, exist_ok=True)
            where = f"sqlite:///{path}"
        self._where = where
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, list[str]] = {}
        with _answering(where):
            self._client = MlflowClient(tracking_uri=where)

    def known(self) -> Mapping[str, str]:
        """As `Tracker` has it."""
        whole: dict[str, str] = {}
        with _answering(self._where):
            ours = [e for e in _pages(self._client.search_experiments) if e.name.startswith(f"{PROJECT}/")]
            self._experiments = {experiment.name: experiment.experiment_id for experiment in ours}
            for run in _pages(self._client.search_runs, list(self._experiments.values())) if ours else ():
                if name := run.data.tags.get(ID):
                    self._runs.setdefault(name, []).append(run.info.run_id)
                    whole[name] = run.data.tags.get(DIGEST, "")
        # What two who exported at once wrote twice counts as nothing: it is replaced by one.
        return {name: digest if len(self._runs[name]) == 1 else "" for name, digest in whole.items()}

    def put(self, run: Finished) -> None:
        """As `Tracker` has it. MLflow changes no parameter: what is there of the run is deleted first."""
        from mlflow.entities import Metric, Param

        client, end = self._client, int(run.finished * 1000)
        points = [Metric(name, value, end, run.iterations) for name, value in run.metrics.items()]
        points += [Metric(name, value, end, step) for step, values in run.curve for name, value in values.items()]
        parameters = [Param(name, str(value)) for name, value in run.parameters.items()]
        with _answering(self._where):
            for stale in self._runs.pop(run.id, []):
                client.delete_run(stale)
            name = f"{PROJECT}/{run.protocol}"
            if name not in self._experiments:
                self._experiments[name] = client.create_experiment(name)
            tags = {**run.tags, ID: run.id}
            began = int(run.started * 1000)
            made = client.create_run(
                self._experiments[name], start_time=began, tags=tags, run_name=run.name
            ).info.run_id
            for first in range(0, len(parameters), 100):
                client.log_batch(made, params=parameters[first : first + 100])
            for first in range(0, len(points), BATCH):
                client.log_batch(made, metrics=points[first : first + BATCH])
            client.set_terminated(made, "FINISHED", end_time=end)
            client.set_tag(made, DIGEST, run.digest)  # last: without it the next export does it again

    def look(self) -> str:
        """As `Tracker` has it."""
        if self._where.startswith("http"):
            return f"look: {self._where}, experiments {PROJECT}/PROTOCOL"
        return f"look: mlflow ui --backend-store-uri {self._where}"


def _pages(search: Any, *words: Any) -> Iterator[Any]:
    page = search(*words, max_results=1000)
    yield from page
    while page.token:
        page = search(*words, max_results=1000, page_token=page.token)
        yield from page


# Folders


class _Folders:
    """Runs that are folders somewhere below one, each with a mark that says which run it is, and from what."""

    def __init__(self, to: str | None, name: str) -> None:
        self.root = Path(to).expanduser().absolute() if to else runs_folder() / "export" / name
        self.root.mkdir(parents=True, exist_ok=True)
        self._found: dict[str, list[Path]] = {}

    def known(self) -> Mapping[str, str]:
        """As `Tracker` has it."""
        whole = {}
        for mark in sorted(self.root.rglob(MARK)):
            try:
                marked = read(mark, dict[str, str], "") or {}
            except Damaged:
                continue
            if name := marked.get(ID):
                self._found.setdefault(name, []).append(mark.parent)
                whole[name] = marked.get(DIGEST, "")
        return {name: digest if len(self._found[name]) == 1 else "" for name, digest in whole.items()}

    def forget(self, run: Finished, halves: Iterable[Path]) -> None:
        """Delete what is there of it, and what an export that was killed left without a mark."""
        for folder in {*self._found.pop(run.id, []), *halves}:
            shutil.rmtree(folder)

    def mark(self, folder: Path, run: Finished) -> None:
        """Say that a folder has all of a run."""
        write(folder / MARK, {ID: run.id, DIGEST: run.digest})


class _Wandb(_Folders):
    """Offline runs, a folder each; `wandb sync` sends them, under the ids that they have here."""

    def __init__(self, to: str | None) -> None:
        super().__init__(to, "wandb")

    def put(self, run: Finished) -> None:
        """As `Tracker` has it."""
        import wandb

        # Nothing of this machine: it is not the one that trained.
        quiet = wandb.Settings(
            silent=True,
            console="off",
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            disable_git=True,
            disable_code=True,
            host="",
        )
        self.forget(run, self.root.glob(f"wandb/offline-run-*-{run.id}"))
        with wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=run.id,
            name=run.name,
            group=run.protocol,
            job_type=run.dataset,
            config={**run.parameters, "record": dict(run.tags)},
            dir=str(self.root),
            mode="offline",
            reinit="finish_previous",
            settings=quiet,
        ) as made:
            for step, values in run.curve:
                made.log(dict(values), step=step)
            made.summary.update(dict(run.metrics))
            folder = Path(made.dir).parent
        self.mark(folder, run)

    def look(self) -> str:
        """As `Tracker` has it."""
        return f"send: wandb sync {shown(self.root)}/wandb/offline-run-*"


class _TensorBoard(_Folders):
    """A folder of events a run; its configuration and metrics are in the tab of hyperparameters."""

    def __init__(self, to: str | None) -> None:
        super().__init__(to, "tensorboard")

    def put(self, run: Finished) -> None:
        """As `Tracker` has it."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        folder = self.root / run.protocol / run.dataset / f"{run.name.replace('/', '-')} {run.id}"
        self.forget(run, [folder] if folder.exists() else [])
        with SummaryWriter(str(folder)) as writer:
            for part in hparams(dict(run.parameters), dict(run.metrics)):
                writer.file_writer.add_summary(part)
            for step, values in (*run.curve, (run.iterations, run.metrics)):
                for name, value in values.items():
                    writer.add_scalar(name, value, step, walltime=run.finished)
        self.mark(folder, run)

    def look(self) -> str:
        """As `Tracker` has it."""
        return f"look: tensorboard --logdir {shown(self.root)}"


TRACKERS: Mapping[str, Callable[[str | None], Tracker]] = {
    "mlflow": _Mlflow,
    "wandb": _Wandb,
    "tensorboard": _TensorBoard,
}


if __name__ == "__main__":
    sys.exit(main())
