"""Claims about what no table prints: Grad-CAM's heat inside the mask, the borders of thin things."""

from __future__ import annotations

import json

import numpy as np
import pytest
from records import run_record, scores
from reporting import lines_of, render

from studies.declare.protocols import PROTOCOLS
from studies.records.schema import File
from studies.records.store import Store
from studies.tables import study

FACTS = {"weights": "5" * 64, "dataset": "ade20k", "split": "val", "classes": ["road"], "images": [], "target": "road"}
FACTS |= {"version": 1, "stage": 4, "field_side": 257, "reach": {"0.5": 1}, "errors": []}


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    return Store(tmp_path / "results")


def finished(store: Store, table: str, row: str, seed: int, dataset: str = "", **changes: object) -> str:
    """A finished run of the paper's protocol, with these keys of its record changed."""
    declared = study(table)
    wanted = PROTOCOLS["paper"].run(declared.panel(dataset), declared.row(row), seed)
    weights = File(name="weights.pt", sha256="5" * 64)
    store.add({**run_record(wanted, scores(41.0, 42.1), weights=weights), **changes})
    return wanted.id


def claim(files: dict[str, bytes], slug: str) -> dict[str, str]:
    return next(line for line in lines_of(files, "claims.csv") if line["claim"] == slug)


def test_heat_inside_the_mask_is_judged_over_seeds(store, tmp_path):
    for row, share in (("t", 0.5), ("convnext-t", 0.3)):
        for seed in range(3):
            identifier = finished(store, "convnext", row, seed)
            facts = {**FACTS, "run": identifier, "shares": [f"0 {share + seed / 100} 0.1", "1 - 0.1"]}
            path = store.folder / "cam" / f"{identifier}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(facts))
            np.savez(path.with_suffix(".npz"), field=np.ones((2, 2)))
    found = claim(render(tmp_path / "out", "convnext"), "text-gradcam")
    assert found["verdict"] == "supported"
    assert float(found["difference"]) == pytest.approx(20)
    assert found["missing"] == ""
    path.write_text(json.dumps({**facts, "weights": "of other weights"}))
    found = claim(render(tmp_path / "out", "convnext"), "text-gradcam")
    assert (found["verdict"], found["missing"]) == ("few seeds", "runs with pictures: convnext-t 2 of 3")


def test_thin_things_wait_for_a_peer_that_is_quoted_without_a_number(store, tmp_path):
    metrics = {"miou_ss": 80.0, "miou_ms": 81.0, "boundary_iou": [60.0, 40.0, None], "iou": [60.0, 40.0, None]}
    for seed in range(3):
        finished(store, "table9", "b", seed, "cityscapes", classes=["road", "pole", "person"], metrics=metrics)
    found = claim(render(tmp_path / "out", "table9"), "text-strip")
    assert found["verdict"] == "pending"
    assert "of SegFormer-B2, which is quoted here and for which the paper prints none" in found["missing"]
    assert 'Model(encoder="segformer_b2") it can be trained' in found["missing"]
