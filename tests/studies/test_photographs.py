"""Promises of the expectations about photographs: before the runs, judged as written, errors as rare as told."""

from __future__ import annotations

import ledger
import pytest
from records import run_record
from reporting import render

from studies.declare.expectations import EXPECTATIONS, KNOWN, MARGIN, METRICS, PROTOCOLS, THIN_CLASSES, Expectation
from studies.declare.protocols import protocol
from studies.judge.photographs import WORDS, judge, outcomes, runs
from studies.judge.significance import decide
from studies.records.schema import Metrics
from studies.records.store import REPOSITORY, Store
from studies.tables import study

COMMITTED = REPOSITORY / "results"


@pytest.mark.parametrize("expected", EXPECTATIONS, ids=lambda e: f"{e.study}-{e.row}-{e.metric}-{e.source}")
def test_an_expectation_is_about_what_can_be_run(expected: Expectation):
    declared = study(expected.study)
    for name in PROTOCOLS:
        (panel,) = protocol(name).panels(declared)
        first, second = (protocol(name).run(panel, declared.row(row), 0) for row in (expected.row, expected.reference))
        assert first.id != second.id
        assert first.data.dataset == "camvid"
    assert expected.metric in METRICS
    assert set(expected.known) <= set(PROTOCOLS)
    assert expected.low < expected.high
    inside = {"+": expected.low >= 0, "-": expected.high <= 0, "0": expected.high == -expected.low == MARGIN}
    assert inside[expected.sign]
    assert expected.why
    assert EXPECTATIONS.count(expected) == 1


def test_every_row_of_tables_6_and_7_is_expected_something_of():
    for slug, reference in (("table7", "c"), ("table6", "full"), ("table8", "t")):
        expected = {e.row for e in EXPECTATIONS if e.study == slug}
        assert expected >= {row.slug for row in study(slug).trained} - {reference, "s"}


def test_every_record_on_photographs_was_made_with_the_expectations_that_it_is_held_against():
    """Its commit is an ancestor of this one, and has every expectation about its row, by the ledger.

    But those that were there when the expectations were written, and are named with them. `test_subtasks.py`
    holds the ledger to the declarations and to the history.
    """
    if not ledger.has_history():
        pytest.skip("not a git checkout with its history")
    store, entries = Store(COMMITTED), ledger.entries()
    today, held = {entry.words for entry in entries}, 0
    for slug, row in {(e.study, row) for e in EXPECTATIONS for row in (e.row, e.reference)}:
        about = [entry for entry in entries if entry.is_about(slug, row)]
        assert about
        for record in (record for name in PROTOCOLS for record in runs(store, name, slug, row)):
            held += 1
            if record["id"] in KNOWN.values():
                continue
            commit = record["provenance"]["commit"]
            assert not record["provenance"]["dirty"], record["id"]
            assert ledger.is_ancestor(commit, "HEAD"), f"{record['id']}: {commit} is no ancestor"
            late = ledger.not_predicted_before(commit, about)
            assert late == [], f"{record['id']}: made at {commit}, before this was expected of {slug}/{row}"
            assert ledger.declared_at(commit) <= today, f"{record['id']}: an expectation is gone since {commit}"
    assert held


def test_what_was_known_is_what_was_there():
    store = Store(COMMITTED)
    for selector, identifier in KNOWN.items():
        row, seed = selector.removeprefix("table7/").split("@")
        record = store.records[identifier]
        assert record["config"]["protocol"] == "camvid-half"
        assert record["config"]["seed"] == int(seed)
        assert record in runs(store, "camvid-half", "table7", row)
    known = [e for e in EXPECTATIONS if e.known]
    assert {(e.study, e.row, e.reference, e.known) for e in known} == {("table7", "b", "c", ("camvid-half",))}


ROW = [40.0, 40.1, 40.2]


@pytest.mark.parametrize(
    ("sign", "row", "reference", "word"),
    [
        ("-", ROW, [44.0, 44.1, 44.2], "here too"),
        ("+", ROW, [44.0, 44.1, 44.2], "opposite here"),
        ("0", ROW, [44.0, 44.1, 44.2], "opposite here"),
        ("0", ROW, [39.99, 40.11, 40.2], "here too"),
        ("+", ROW, [39.99, 40.11, 40.2], "no difference here"),
        ("0", ROW, [38.0, 41.0, 43.0], "not resolved here"),
        ("-", ROW, [38.0, 41.0, 43.0], "not resolved here"),
        ("0", ROW, [40.9, 41.1, 41.3], "not resolved here"),
        ("-", ROW, [44.0, 44.1], "few seeds"),
        ("-", ROW, [], "pending"),
        ("-", [40.0] * 3, [41.0] * 3, "not resolved here"),
    ],
)
def test_an_expectation_is_judged_as_written(sign, row, reference, word):
    (found,) = decide([(row, reference)], MARGIN)
    said, p = judge(found, Expectation("table7", "a", "c", sign, -1, 1, "paper", ""))
    assert said == word
    assert word in WORDS
    resting = {"here too": found.differs, "opposite here": found.differs, "no difference here": found.equal}
    if sign == "0":
        resting |= {"here too": found.equal, "opposite here": found.beyond}
    if word in resting:
        assert p == resting[word].p


def add(store: Store, row: str, seed: int, miou: float, thin: float) -> None:
    declared = study("table7")
    run = protocol("camvid-half").run(protocol("camvid-half").panels(declared)[0], declared.row(row), seed)
    by_class = {"iou": [thin, thin - 1, 50.0, thin, thin + 1], "boundary_iou": [1.0, 1.0, 1.0, 1.0, None]}
    metrics = Metrics(miou_ss=miou, miou_ms=miou, pixel_accuracy=80.0, **by_class)
    classes = ("pole", "sign_symbol", "road", "pedestrian", "bicyclist")
    store.add(run_record(run, metrics, classes=classes, precision="bfloat16" if row == "a" else "float32"))


def test_the_page_has_expectations_beside_outcomes(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    store = Store(tmp_path / "results")
    for seed in range(3):
        add(store, "a", seed, 50.0 + 0.1 * seed, 20.0 + 0.1 * seed)
        add(store, "c", seed, 45.0 + 0.2 * seed, 15.0)
    found = outcomes(Store(tmp_path / "results"), "camvid-half", "table7")
    assert found["a", "c", "miou_ss"].difference == pytest.approx(4.9)
    assert found["a", "c", "iou"].difference == pytest.approx(5.1)
    assert found["a", "c", "boundary_iou"].seeds == (0, 0)  # a class was not measured: no mean of the others
    told = render(tmp_path / "out", "table7")["summary/photographs.md"].decode()
    lines = [line for line in told.splitlines() if "| a − c | mIoU" in line][-2:]  # camvid's, pending, are before
    assert ["opposite here" in line for line in lines] == [True, False]  # the paper's, the generated data's
    assert "here too (mixed precisions)" in lines[1]
    assert "+4.9 \\[" in lines[1]
    assert "pole +5.1, sign\\_symbol +5.1" in told
    assert "known when written" in told
    assert all(word in told for word in WORDS)
    assert all(thin.replace("_", "\\_") in told for thin in THIN_CLASSES)
