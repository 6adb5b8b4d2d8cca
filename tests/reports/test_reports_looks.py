"""What planned looks decided stands in the report, whatever seeds came later."""

from __future__ import annotations

from pathlib import Path

import pytest
from records import add_run
from reporting import lines_of, render

from studies.declare.protocols import PROTOCOLS
from studies.plan import looking
from studies.records.store import Store
from studies.tables.table7 import STUDY

ROWS = ("c", "b")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def seeds(store: Store, numbers: range, difference: float) -> None:
    for row in ROWS:
        for seed in numbers:
            level = 40.0 + (difference if row == "c" else 0.0)
            add_run(store, STUDY, STUDY.row(row), "quick", seed, level + 0.1 * (seed % 3))


def verdict(files: dict[str, bytes]) -> str:
    lines = lines_of(files, "table7-claims.csv")
    return next(line["verdict"] for line in lines if line["claim"] == "t7-c-b-miou_ss" and line["protocol"] == "quick")


def test_a_decided_claim_keeps_its_looks_verdict(results: Path, tmp_path: Path):
    store = Store(results)
    plan = looking.planned(STUDY, PROTOCOLS["quick"], ROWS, (), (5, 10), store)
    assert looking.keep(plan, store)
    seeds(store, range(4), 10.0)
    assert verdict(render(tmp_path / "early", "table7")) == "few seeds"  # the first look wants five
    seeds(store, range(4, 5), 10.0)
    files = render(tmp_path / "first", "table7")
    assert verdict(files) == "supported"
    assert "judged in planned looks: supported at look 1" in files["table7.html"].decode()
    seeds(store, range(5, 10), -30.0)
    assert verdict(render(tmp_path / "later", "table7")) == "supported"


def test_without_a_plan_all_seeds_count(results: Path, tmp_path: Path):
    store = Store(results)
    seeds(store, range(5), 10.0)
    seeds(store, range(5, 10), -30.0)
    assert verdict(render(tmp_path / "out", "table7")) != "supported"


def test_a_damaged_plan_is_named_and_hides_nothing(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from reports import build

    store = Store(results)
    seeds(store, range(3), 10.0)
    path = looking.path_of(store, "table7", "quick")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert build.main(["table7", "--out", str(tmp_path / "out")]) == 1
    assert f"damaged: {path}" in capsys.readouterr().err
    assert (tmp_path / "out" / "table7.html").exists()
