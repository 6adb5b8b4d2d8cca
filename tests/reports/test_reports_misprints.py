"""Wrong prints: what the paper's own numbers, measured costs and others' trainings speak against, worst first."""

from __future__ import annotations

from pathlib import Path

import pytest
from records import cost_record
from reporting import Page, lines_of, render

from studies.records.store import Store, row_cost
from studies.tables import study


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("misprints")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGNEXT_RESULTS", str(folder / "results"))
        store = Store(folder / "results")
        for slug, row, dataset, gmacs in (
            ("table9", "l", "cityscapes", 553.7042),
            ("table9", "b", "cityscapes", 275.6488),  # agrees
            ("table9", "b", "coco_stuff164k", 34.962),  # off by no more than rounding
        ):
            declared = study(slug)
            store.add(cost_record(row_cost(declared.panel(dataset), declared.row(row)), 1_000_000, gmacs))
        return render(folder / "out", "table4", "table7", "table9")


def found(files: dict[str, bytes], kind: str) -> dict[tuple[str, str], dict[str, str]]:
    lines = lines_of(files, "wrong-prints.csv")
    return {(line["row"], line["metric"]): line for line in lines if line["kind"] == kind}


def test_they_stand_worst_first(files):
    off = [abs(float(line["off"])) for line in lines_of(files, "wrong-prints.csv")]
    assert off == sorted(off, reverse=True)
    assert len(off) > 5


def test_a_cost_of_the_papers_own_row_counts_once_it_is_off_by_more_than_rounding(files):
    measured = found(files, "measured")
    assert set(measured) == {("l", "gflops")}
    assert float(measured["l", "gflops"]["against_low"]) == pytest.approx(553.7042)


def test_words_that_a_table_contradicts_are_computed_from_the_table(files):
    line = found(files, "words")["b", "gflops"]
    assert float(line["printed"]) == 40
    assert float(line["against_low"]) == pytest.approx(100 * (1 - 275.7 / 717.1))


def test_a_gain_that_no_other_row_has_is_a_misprint_and_claims_on_it_say_so(files):
    gains = found(files, "gain")
    assert set(gains) == {("b", "miou_ss")}  # Table 7's (b): 30.9 to 40.6
    assert float(gains["b", "miou_ss"]["against_low"]) == pytest.approx(39.1)
    assert float(gains["b", "miou_ss"]["against_high"]) == pytest.approx(39.8)
    claims = files["summary/claims.md"].decode()
    printed = next(line for line in claims.splitlines() if "decoder (c) above (b)" in line and "mIoU (SS)" in line)
    assert "+10.2 †" in printed


def test_a_value_printed_twice_is_said_once(files):
    pairs = [(line["printed"], line["against_low"]) for line in found(files, "twice").values()]
    assert ("42.2", "42.5") in pairs
    assert len(pairs) == len(set(pairs))


def test_a_quoted_peer_that_all_others_measure_elsewhere_leads_to_their_numbers(files):
    line = found(files, "others")["pspnet", "miou_ss"]
    assert float(line["against_low"]) > float(line["printed"]) + 1
    page = Page(files["wrong-prints.html"].decode())
    links = [link for link in page.links if link.startswith("others.html#")]
    assert links
    assert {link.partition("#")[2] for link in links} <= set(Page(files["others.html"].decode()).ids)


def test_without_measured_costs_the_papers_own_contradictions_remain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    kinds = {line["kind"] for line in lines_of(render(tmp_path / "out", "table7"), "wrong-prints.csv")}
    assert kinds == {"gain", "twice"}


def test_where_no_source_measured_a_claim_a_dash_says_so(files):
    lines = lines_of(files, "claims.csv")
    assert not any("nobody" in line["others"] for line in lines)
    page = files["claims.html"].decode()
    assert 'title="no source measured both rows alike">–</span>' in page
    assert "nobody" not in page
    assert "nobody" not in files["summary/claims.md"].decode()
