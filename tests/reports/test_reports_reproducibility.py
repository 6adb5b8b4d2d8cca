"""The reproducibility page: the checklist in its order, filled from records and from the code's own marks."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import socket

import pytest
from records import fabricate
from reporting import Page, lines_of, render, whole

from reports import build
from segnext.config import Model
from segnext.config.choices import IN_CODE
from segnext.config.fields import SOURCES
from studies.records.store import Store
from studies.records.workspace import Workspace


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SEGNEXT_RUNS", str(tmp_path / "runs"))
    return fabricate(tmp_path / "results", seeds=2)


def test_it_answers_in_the_order_of_the_checklist(store, tmp_path):
    files = render(tmp_path / "out", "table7")
    text = files["reproducibility.html"].decode()
    page = Page(text)
    parts = [page.ids.index(f"reproducibility-{number}") for number in range(1, 6)]
    assert parts == sorted(parts)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    for shown in ("8 finished runs", "quick: 0, 1", "f00d", "beef", "Example CPU &lt;2 GHz&gt;", "torch 2.11.0"):
        assert shown in text
    assert '<a href="reproducibility.html">' in whole(files)


def test_every_choice_is_listed_with_its_origin(store, tmp_path):
    lines = lines_of(render(tmp_path / "out", "table7"), "reproducibility-choices.csv")
    assert {line["origin"] for line in lines} == set(SOURCES)
    said = {(line["where"], line["what"]): (line["source"], line["origin"]) for line in lines}
    assert len(said) == len(lines)
    assert said["Model", "head_norm"][0].startswith("Official code: GN")
    assert said["Model", "mixer"][0].startswith("Paper: Sec. 3.1")
    assert said["Train", "Learning rate"] == ("Paper: Sec. 4", "Paper")
    assert said["segnext.ham", "NMF.initial_bases"][1] == "Ours"  # of several the one that is farthest from the paper
    assert all(line["what"] and line["source"] for line in lines)
    missing = {field.name for field in dataclasses.fields(Model)} - {what for where, what in said if where == "Model"}
    assert missing == {"size", "stages", "nmf_rank", "drop_path"}  # None, the size's own; Size says whose those are


@pytest.mark.parametrize("name", IN_CODE)
def test_what_a_choice_is_about_is_there(name: str):
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)


def test_compute_counts_lost_attempts_of_finished_runs_and_of_all_others(store, tmp_path, monkeypatch):
    plain = lines_of(render(tmp_path / "out", "table7"), "reproducibility-compute.csv")
    assert [(line["protocol"], line["runs"]) for line in plain] == [("quick", "8")]
    assert float(plain[0]["process_seconds"]) == pytest.approx(8 * 90.5)
    assert not (store.folder / "attempts.csv").exists()
    with Workspace("0123456789ab").attempt(processes=2, gpus=2) as entry:
        entry.cause, entry.started = "out_of_memory", 1000.0
    path = Workspace("0123456789ab").folder / "attempts" / "001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "finished": 1600.0}))
    assert build.main(["table7", "--out", str(tmp_path / "out"), "--check"]) == 1
    files = render(tmp_path / "out", "table7")
    lost = lines_of(files, "reproducibility-compute.csv")[1]
    assert (lost["runs"], lost["attempts"], lost["gpu_seconds"]) == ("0", "1", "1200.0")
    monkeypatch.setenv("SEGNEXT_RUNS", str(tmp_path / "another clone's"))
    assert render(tmp_path / "out", "table7") == files
    words = re.findall(r"[\w.-]+", (store.folder / "attempts.csv").read_text())
    assert socket.gethostname() not in words


def test_a_damaged_list_of_attempts_is_named(store, tmp_path, capsys):
    (store.folder / "attempts.csv").write_text("run_id,started\nx,y\n")
    assert build.main(["table7", "--out", str(tmp_path / "out")]) == 1
    assert "attempts.csv: not a readable list of attempts" in capsys.readouterr().err


def test_nothing_recorded_yet_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    text = render(tmp_path / "out", "table7")["reproducibility.md"].decode()
    assert "0 finished runs" in text
    assert "none yet" in text
