"""Fabricated records, a report made of them, and what a browser would find in it."""

from __future__ import annotations

import csv
import html.parser
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

from reports import build
from reports.blocks import figure
from segnext.config import Evaluation, canonical
from segnext.files import write_atomically
from studies.declare.protocols import PROTOCOLS
from studies.declare.study import Row, Study
from studies.records.store import Store, row_cost
from studies.tables.table7 import STUDY

PROVENANCE = {
    "command": "python -m studies.run table7",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": False,
    "code": "abcdef012345",
    "python": "3.11.2",
    "packages": {"torch": "2.11.0", "numpy": "2.4.0"},
    "device": "cpu",
    "processor": "Example CPU <2 GHz>",
    "threads": 1,
    "started": "2026-01-01T00:00:00Z",
    "finished": "2026-01-01T00:01:30Z",
    "attempts": 1,
}
DATA = {"train_fingerprint": "f00d", "test_fingerprint": "beef"}
PAGES = {f"{name}.html" for name in ("index", "appendix_table1", "others", "reproducibility", "how-to-read")}
OF_CLAIMS = {f"{name}.html" for name in ("claims", "overview", "costs-not-reproduced", "photographs")}
ALWAYS = {*PAGES, "page.css", "page.js", "figures.json", "runs.json", "recipes.csv", "others.csv"}
ALWAYS |= {f"reproducibility{name}" for name in (".html", ".md", "-choices.csv", "-compute.csv")}
"""What every report has, and what one about any study has."""

COSTS = {"a": (4_225_366, 9.97), "b": (4_206_070, 4.9), "c": (4_263_414, 6.5929), "c-stage1": (4_271_606, 12.09)}
OFFSETS = {"a": -0.9, "b": -4.0, "c": 0.0, "c-stage1": -0.1}


def add_cost(store: Store, study: Study, row: Row) -> None:
    cost = row_cost(study.panel(), row)
    parameters, gmacs = COSTS[row.slug]
    measured = {"params": parameters, "gmacs": gmacs, "gmacs_fvcore": gmacs + 0.0148}
    store.add({"id": cost.id, "kind": "cost", "config": canonical(cost), **measured, "provenance": PROVENANCE})


def add_run(
    store: Store,
    study: Study,
    row: Row,
    protocol: str,
    seed: int,
    miou: float,
    length: int | None = None,
    **provenance: object,
) -> str:
    """A finished run; `provenance` replaces parts of the usual one."""
    run = PROTOCOLS[protocol].run(study.panel(), row, seed, length)
    record = {
        "id": run.id,
        "kind": "run",
        "config": canonical(run),
        "metrics": {"miou_ss": miou, "miou_ms": miou + 1.1, "pixel_accuracy": 80.0, "iou": [50.0, None]},
        "classes": ["road", "sky"],
        "trained": {"params": 101_234, "gmacs": 0.01, "gmacs_fvcore": 0.01, "height": 96, "width": 96},
        "training": {"iterations": 400, "seconds": 90.5, "images_per_second": 70.0, "final_loss": 0.4},
        "provenance": {**PROVENANCE, "data": DATA, **provenance},
    }
    store.add(record)
    return run.id


def add_curve(store: Store, identifier: str, lines: int = 40) -> None:
    rows = [f"{10 * i},{2.0 / i + 0.01 * (int(identifier, 16) % 7)},0.001,70.5" for i in range(1, lines + 1)]
    content = "\n".join(["iteration,loss,learning_rate,images_per_second", *rows]) + "\n"
    write_atomically(store.folder / "curves" / f"{identifier}.csv", content)


def fabricate(
    folder: Path,
    study: Study = STUDY,
    *,
    protocol: str = "quick",
    seeds: int = 3,
    level: float = 41.1,
    curves: bool = False,
) -> Store:
    """Costs, and `seeds` runs of every row under a protocol; deterministic."""
    store = Store(folder)
    for row in study.trained:
        add_cost(store, study, row)
        for seed in range(seeds):
            wobble = 0.3 * ((seed * 7 + len(row.slug)) % 3 - 1)
            identifier = add_run(store, study, row, protocol, seed, level + OFFSETS[row.slug] + wobble)
            if curves:
                add_curve(store, identifier)
    return store


def add_evaluation(
    store: Store,
    evaluation: Evaluation,
    single: float | None,
    multi: float | None,
    stands_for: str | None = None,
    **provenance: object,
) -> str:
    record = {
        **({"stands_for": stands_for} if stands_for else {}),
        "id": evaluation.id,
        "kind": "evaluation",
        "config": canonical(evaluation),
        "metrics": {"miou_ss": single, "miou_ms": multi, "pixel_accuracy": 80.0, "iou": [50.0, None]},
        "classes": ["road", "sky"],
        "weights": {"name": "weights.pth", "sha256": "0" * 64},
        "provenance": {**PROVENANCE, "data": {"test_fingerprint": DATA["test_fingerprint"]}, **provenance},
    }
    store.add(record)
    return evaluation.id


def undrawn() -> AbstractContextManager[object]:
    """In it figures are blank."""
    blank = {"svg": b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "png": b"", "pdf": b""}
    return mock.patch.object(figure.Drawing, "pictures", lambda drawing, endings: {e: blank[e] for e in endings})


def render(out: Path, *studies: str, drawn: bool = False) -> dict[str, bytes]:
    """The files of a report. Figures, most of its time, are `drawn` for those alone who look at them."""
    with nullcontext() if drawn else undrawn():
        assert build.main([*studies, "--out", str(out)]) == 0
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def whole(files: dict[str, bytes]) -> str:
    """Every page but those of runs, one after another."""
    return "\n".join(files[name].decode() for name in sorted(files) if name.endswith(".html") and "/" not in name)


def lines_of(files: dict[str, bytes], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(files[name].decode().splitlines()))


class Page(html.parser.HTMLParser):
    """What a browser would find: ids, links, tables; unbalanced tags are an error."""

    VOID = frozenset({"meta", "link", "br", "img", "path", "use", "rect", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.attributes.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag
