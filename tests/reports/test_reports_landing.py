"""The report's first screen: computed from the verdicts, one square a claim, and the page of each table behind it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from records import fabricate, run_record, scores
from reporting import Page, lines_of, render

from studies.declare.protocols import PROTOCOLS
from studies.records.schema import Cue
from studies.records.store import Store
from studies.tables import studies, study


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("landing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGNEXT_RESULTS", str(folder / "results"))
        fabricate(folder / "results", protocol="paper")
        fabricate(folder / "results", protocol="quick", level=70.0)
        assert not Store().damage
        return render(folder / "out")


def first(files: dict[str, bytes]) -> str:
    return files["index.html"].decode()


def test_the_first_screen_counts_what_the_tables_say(files):
    claims = [line["verdict"] for line in lines_of(files, "claims.csv")]
    supported, contradicted = claims.count("supported"), claims.count("contradicted")
    assert f"{supported} of the paper&#39;s {len(claims)} claims are supported, {contradicted} contradicted" in first(
        files
    )
    assert f"<strong>{supported + contradicted} of {len(claims)}</strong>" in first(files)
    assert "<strong>24</strong> runs trained" in first(files)


def test_every_claim_is_a_square_that_says_itself_and_leads_to_its_line(files):
    squares = [
        found
        for tag, found in Page(first(files)).attributes
        if tag == "a" and (kinds := (found.get("class") or "").split())[:1] == ["square"] and "toy" not in kinds
    ]
    lines = lines_of(files, "claims.csv")
    assert len(squares) == len(lines)
    for square, line in zip(squares, lines, strict=True):
        assert square["aria-label"].startswith(f"{line['text']}: {line['verdict']}")
        assert line["verdict"].replace(" ", "-") in square["class"].split()
        page, _, place = square["href"].partition("#")
        assert place in Page(files[page].decode()).ids


def test_what_other_data_say_never_colours_a_square_as_the_papers_verdict_would(files):
    lines = {line["claim"]: line for line in lines_of(files, "claims.csv")}
    assert lines["t7-c-b-miou_ss"]["verdict_quick"] == "supported"
    said = next(
        found for _, found in Page(first(files)).attributes if "decoder (c) above (b)" in (found.get("title") or "")
    )
    assert "quick: here too" in said["title"]
    assert "quick: supported" not in said["title"]


def test_every_study_has_a_page_with_its_finding_and_is_in_the_navigation(files):
    bar = {found["href"] for tag, found in Page(first(files)).attributes if tag == "a"}
    for slug in studies():
        assert f"{slug}.html" in bar
        text = files[f"{slug}.html"].decode()
        assert re.search(r'<p class="finding">[^<]+\.</p>', text)
        assert f'href="{slug}.html" aria-current="page"' in text


def test_the_first_screen_of_an_empty_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    text = first(render(tmp_path / "out"))
    assert "Costs are not measured yet." in text
    assert "0 of the paper&#39;s" in text


def test_the_first_page_is_small(files):
    assert len(files["index.html"]) < 400_000


def test_the_papers_words_on_generated_images_have_squares_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    store, declared = Store(tmp_path / "results"), study("table5")
    panel = declared.subtasks[0]
    for slug, right in (("ham", 950), ("ema", 500)):
        for seed in range(3):
            run = PROTOCOLS["quick"].run(panel, declared.row(slug), seed)
            cue = Cue(pixels=" ".join(["1000"] * 120), right=" ".join([str(right + seed)] * 120))
            store.add(run_record(run, scores(90.0, 90.0), classes=("red", "green"), cue=cue))
    files = render(tmp_path / "out", "table5")
    toys = [found for _, found in Page(first(files)).attributes if "toy" in (found.get("class") or "").split()]
    words = [line for line in lines_of(files, "predictions.csv") if line["source"] == "paper"]
    assert len(toys) == len(words) > 1
    for toy, line in zip(toys, words, strict=True):
        assert f"{line['row']} against {line['reference']}" in toy["aria-label"]
        assert not {"supported", "contradicted"} & set(toy["class"].split())
    assert "here-too" in next(toy["class"] for toy in toys if "ema against ham" in toy["aria-label"])
    glance = files["predictions.html"].decode()
    assert 'id="predictions-glance"' in glance
    assert 'id="predictions-table5"' in glance
