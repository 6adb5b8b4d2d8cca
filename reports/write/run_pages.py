"""One small page per record: configuration, curve, metrics by class, and where it came from.

With `--logs` also a run's attempts. Nodes and logs stay under runs/ and are no facts of results/: a page that is to be
sent to others is made without them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from jinja2 import Template
from msgspec import Struct

from reports.blocks.figure import code, digest
from reports.blocks.points import all_points, thinned
from reports.blocks.table import number
from reports.write.files import put
from studies.declare.subtasks import Subtask
from studies.facts.gather import Evidence, Variant, marks
from studies.records import working_state
from studies.records.digests import Digests, Signature
from studies.records.parallel import spread
from studies.records.schema import (
    CostRecord,
    EvaluationRecord,
    Metrics,
    Record,
    RunRecord,
    ScoredRecord,
    ServerRecord,
    ShortcutRecord,
    SpeedRecord,
)
from studies.records.store import Store
from studies.records.typed import Damaged
from studies.records.workspace import Workspace

FOLDER = "runs"
LIST = f"{FOLDER}.json"
LOG_LINES = 40
KEPT_LINES = 8  # of a log that is kept beside its record
MANY = 400  # pages: worth processes
WIDTH, HEIGHT = 640, 200  # of a curve, in pixels

KINDS = {
    "run": "Run",
    "cost": "Cost",
    "speed": "Speed",
    "evaluation": "Test of finished weights",
    "server": "Score of a test server",
    "shortcut": "Shortcut probes",
}

METRICS = {
    "miou_ss": "mIoU (SS)",
    "miou_ms": "mIoU (MS)",
    "boundary_miou": "Boundary mIoU",
    "pixel_accuracy": "Pixel accuracy",
    "mean_accuracy": "Mean accuracy",
    "top1": "Top-1",
}
BY_CLASS = {"iou": "IoU (SS)", "iou_ms": "IoU (MS)", "boundary_iou": "Boundary IoU", "accuracy": "Accuracy"}


class Use(Struct, frozen=True):
    """Where the report shows a record: words, and the page with the place on it."""

    text: str
    place: str
    alone: bool = False  # a row that has nothing to be compared with there


@dataclass(frozen=True)
class Curve:
    """The training loss as a line within WIDTH × HEIGHT, with the ends of both axes."""

    path: str  # of an SVG polyline
    iterations: str
    highest: str
    last: str


@dataclass(frozen=True)
class Attempt:
    """One attempt as its node left it."""

    number: int
    facts: str
    log: str  # the end of what the last one printed


def name(identifier: str) -> str:
    """A record's page, seen from the report's folder."""
    return f"{FOLDER}/{identifier}.html"


def write(
    everything: Sequence[Evidence],
    shared: Sequence[Record],
    store: Store,
    out: Path,
    template: Template,
    results: str,
    logs: bool,
) -> list[Path]:
    """Write the page of every record behind the report into `out`; `results` is the way to its folder from the pages'.

    `shared`: records that belong to no one study. The list beside the pages knows which are still as written and up to
    date; these are not made again. Returns the paths of all of them.
    """
    uses = _uses(everything)
    found: dict[str, Record] = {record.id: record for record in shared}
    for evidence in everything:
        found.update((record.id, record) for record in evidence.records(store))
    parts = [code(), jinja2.__version__, Path(str(template.filename)).read_text(encoding="utf-8"), results]
    source, drawn, printed = digest(repr(parts).encode()), store.digests.listed("curves"), store.digests.listed("logs")
    shown = [_Shown(found[one], uses.get(one, ()), store, drawn, printed) for one in sorted(found)]
    store.digests.keep()
    keys = ["" if logs else digest(msgspec.json.encode((source, each.facts))) for each in shown]
    known, digests = _known_pages(out), Digests(out)
    lying = digests.listed(FOLDER)
    waiting, made = list[_Shown](), dict[str, str]()
    for each, key in zip(shown, keys, strict=True):
        page, before = name(each.identifier), known.get(each.identifier)
        lies = lying.get(f"{each.identifier}.html")
        if key and before and lies and before[0] == key and digests.of(page, lies)[:16] == before[1]:
            made[each.identifier] = before[1]
        else:
            waiting.append(each)

    def written(place: int) -> str:
        each = waiting[place]
        content = _page(each, store, template, results, logs).encode()
        put(out / name(each.identifier), content)
        return hashlib.sha256(content).hexdigest()

    with spread(written, len(waiting), MANY) as of_all:
        for each, sha256 in zip(waiting, of_all(), strict=True):
            digests.wrote(name(each.identifier), sha256)
            made[each.identifier] = sha256[:16]
    digests.keep()
    listed = {each.identifier: [key, made[each.identifier]] for each, key in zip(shown, keys, strict=True) if key}
    put(out / LIST, msgspec.json.encode(listed, order="sorted"))
    return [out / LIST, *(out / name(each.identifier) for each in shown)]


def _known_pages(out: Path) -> Mapping[str, Sequence[str]]:
    """By record, digests of what its page follows from and of the page, as they were written last."""
    path = out / LIST
    try:
        known = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


class _Shown:
    """What the page of a record follows from, other than code; `drawn` and `printed`: the curves and logs there are."""

    def __init__(
        self,
        record: Record,
        uses: Sequence[Use],
        store: Store,
        drawn: Mapping[str, Signature],
        printed: Mapping[str, Signature],
    ) -> None:
        identifier, before = record.id, _before(record)
        self.identifier, self.record, self.uses, self.marks = identifier, record, uses, marks(record)
        self.before = before if before in store.records else ""
        self.curve = self._kept(f"curves/{identifier}.csv", drawn, store)
        self.log = self._kept(f"logs/{identifier}.txt.gz", printed, store)
        self.facts = (store.read_digest(identifier), uses, self.marks, self.before, self.curve, self.log)

    @staticmethod
    def _kept(way: str, lying: Mapping[str, Signature], store: Store) -> str:
        """The digest of a file that is kept beside the record; empty without."""
        signature = lying.get(way.partition("/")[2])
        return store.digests.of(way, signature) if signature else ""


def _page(shown: _Shown, store: Store, template: Template, results: str, logs: bool) -> str:
    record, identifier = shown.record, shown.identifier
    metrics, classes = (record.metrics, record.classes) if isinstance(record, ScoredRecord) else (Metrics(), [])
    columns = [key for key in BY_CLASS if metrics.by_class(key)]
    return template.render(
        record=record,
        kind=KINDS[record.kind],
        marks=shown.marks,
        uses=shown.uses,
        facts=list(_facts(record)),
        metrics=[(words, value) for key, words in METRICS.items() if (value := metrics.value(key)) is not None],
        by_class=[BY_CLASS[key] for key in columns],
        classes=[(label, [metrics.by_class(key)[place] for key in columns]) for place, label in enumerate(classes)],
        curve=_curve(store.folder / "curves" / f"{identifier}.csv") if shown.curve else None,
        curve_file=f"{results}/curves/{identifier}.csv",
        record_file=f"{results}/records/{identifier}.json",
        log=_end_of_log(store.folder / "logs" / f"{identifier}.txt.gz") if shown.log else (),
        log_file=f"{results}/logs/{identifier}.txt.gz",
        before=shown.before,
        config=_flat(record.plain["config"]),
        origin=[(key, value) for key, value in _flat(record.plain["provenance"]) if key != "diff"],
        diff=record.provenance.diff or "",
        attempts=_attempts(identifier) if logs else (),
        width=WIDTH,
        height=HEIGHT,
    )


def _before(record: Record) -> str:
    """The run whose weights a run starts from, or whose weights were tested."""
    match record:
        case RunRecord():
            return record.config.init or ""
        case EvaluationRecord():
            return record.config.weights if isinstance(record.config.weights, str) else ""
    return ""


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    """What the record measured besides its metrics, in words."""
    match record:
        case CostRecord():
            yield "Parameters", f"{record.params:,}"
            yield "Multiply-adds, the paper's convention", f"{number(record.gmacs, 4)} G"
            yield "Multiply-adds, fvcore's count", f"{number(record.gmacs_fvcore, 4)} G"
        case SpeedRecord():
            if record.latency is not None:
                yield (
                    "Latency",
                    f"{record.latency:.4g} s, quartiles {record.lower_quartile:.4g} s and "
                    f"{record.upper_quartile:.4g} s over {record.passes} passes",
                )
            if record.memory is not None:
                yield "Peak memory", f"{record.memory / 1e6:,.1f} MB"
            if record.reason:
                yield "Not measured", record.reason
        case ServerRecord():
            yield "Score", f"{record.value:g}"
        case ShortcutRecord():
            for side, within, beyond in zip(record.config.sides, record.within, record.beyond, strict=True):
                told = ", ".join(
                    f"{number(value, 1)} % where the cue lies {where}"
                    for value, where in ((within, "within it"), (beyond, "beyond it"))
                    if value is not None
                )
                yield f"Told by patches of {side}×{side} pixels", told or "no such pixels"
            yield "Chance", f"{number(record.chance, 1)} %"
        case RunRecord():
            trained, training = record.trained, record.training
            yield "Trained parameters", f"{trained.params:,}"
            yield "Its multiply-adds", f"{number(trained.gmacs, 4)} G at {trained.height}×{trained.width}"
            known = (
                (training.iterations, "{:,} iterations"),
                (training.seconds, "{:,.0f} s"),
                (training.images_per_second, "{:g} images/s"),
                (training.final_loss, "last loss {:.4f}"),
            )
            said = ", ".join(words.format(value) for value, words in known if value is not None)
            yield "Training", said.replace(" iterations, ", " iterations in ", 1)
    if isinstance(record, ScoredRecord):
        yield "Precision", record.provenance.precision
        if record.weights is not None:
            yield "Weights", f"{record.weights.name}, SHA-256 {record.weights.sha256}"


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """A configuration, as JSON has it, as lines: `model.stages`, `2, 3, 4`."""
    if isinstance(value, dict):
        return [line for key in sorted(value) for line in _flat(value[key], f"{path}.{key}" if path else key)]
    if isinstance(value, list):
        return [(path, ", ".join(map(str, value)) or "none")]
    return [(path, "none" if value is None else "yes" if value is True else "no" if value is False else str(value))]


def _curve(path: Path) -> Curve | None:
    try:
        points = thinned(all_points(path))
    except Damaged:  # it is named where the tables' curves are drawn
        return None
    if not points:
        return None
    longest, highest = points[-1][0], max(loss for _, loss in points)
    places = (f"{x / longest * WIDTH:.1f},{HEIGHT - y / (highest or 1) * HEIGHT:.1f}" for x, y in points)
    return Curve(" ".join(places), f"{longest:,.0f}", f"{highest:.2f}", f"{points[-1][1]:.3f}")


def _end_of_log(path: Path) -> list[str]:
    """The last lines of what a run printed, as far as they are kept and can be read."""
    try:
        return gzip.decompress(path.read_bytes()).decode(errors="replace").splitlines()[-KEPT_LINES:]
    except (OSError, EOFError, zlib.error):  # damaged: the file is linked all the same
        return ["It cannot be read: restore it from git."]


def _attempts(identifier: str) -> list[Attempt]:
    workspace = Workspace(identifier)
    attempts = workspace.attempts()
    log = (workspace.printed() or b"").decode(errors="replace").splitlines()[-LOG_LINES:]
    return [
        Attempt(place, _told(attempt), "\n".join(log) if place == len(attempts) else "")
        for place, attempt in enumerate(attempts, start=1)
    ]


def _told(attempt: working_state.Attempt) -> str:
    started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(attempt.started))
    job = f", job {attempt.job}" if attempt.job else ""
    took = f" after {attempt.seconds:,.0f} s" if attempt.finished is not None else ""
    said = f": {attempt.message}" if attempt.message else ""
    return f"{started} on {attempt.node or attempt.host}{job}: {attempt.cause}{took}{said}"


def _rows_of(variant: Variant) -> str:
    """The anchor of the table with a line for every row: a sub-task's says what was learnt."""
    return f"{variant.slug}-learning" if isinstance(variant.panel, Subtask) else variant.slug


def _uses(everything: Sequence[Evidence]) -> dict[str, list[Use]]:
    """Where the report shows each record: first where it stands beside others, which names its page."""
    found: dict[str, dict[str, Use]] = {}

    def used(record: str, text: str, anchor: str, alone: bool = False) -> None:
        place = f"{study.slug}.html#{anchor}"
        found.setdefault(record, {}).setdefault(place, Use(text, place, alone))

    for evidence in everything:
        study = evidence.study
        labels = {row.slug: row.label for row in study.rows}
        several = len(study.panels) > 1
        for (dataset, row), expense in evidence.expenses.items():
            anchor = f"{study.slug}{f'-{dataset}' if several else ''}-costs-{row}"
            used(expense.record, f"{study.number}, costs: {labels[row]}", anchor)
        for (row, side), expense in evidence.growth.items():
            used(expense.record, f"{study.number}, {side}×{side}: {labels[row]}", study.slug)
        for timings in evidence.timings:
            for (row, side), record in timings.records.items():
                used(record.id, f"{study.number}, {side}×{side}: {labels[row]}", study.slug)
        for variant in evidence.variants:
            shown, rows = f"{study.number}, protocol {variant.name}", _rows_of(variant)
            alone = not variant.telling or len(study.trained) == 1
            scored: dict[str, list[str]] = {}
            for (run, _), score in variant.served.items():
                scored.setdefault(run, []).append(score)
            for line in variant.finished:
                text = f"{shown}: {labels[line.row]}, seed {line.seed}"
                used(line.run_id, text, f"{rows}-{line.row}", alone)
                for score in scored.get(line.run_id, ()):
                    used(score, f"{shown}: {labels[line.row]}", f"{variant.slug}-{line.row}")
            for tested in (*variant.imported, *variant.retested):
                for seeds in tested.values.values():
                    for seed in seeds:
                        anchor = f"{rows}-{tested.row}"
                        used(seed.record, f"{shown}: {labels[tested.row]}, {tested.name}, Ham seed {seed.seed}", anchor)
    return {record: sorted(uses.values(), key=lambda use: use.alone) for record, uses in found.items()}
