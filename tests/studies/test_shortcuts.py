"""Promises of the shortcut probes on record: measured once, held to chance, and shown where the predictions are."""

from __future__ import annotations

from pathlib import Path

import pytest
from reporting import lines_of, render, whole

from studies import shortcuts
from studies.declare.subtasks import TOLD_NEARBY
from studies.records.store import REPOSITORY, Store

NEAR_CHANCE = 3.0  # points of accuracy; a probe is tested on a few thousand pixels of 160 images


def test_a_probe_is_measured_once_and_recorded_with_where_it_comes_from(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path))
    words = ["--datasets", "gate-additive", "--images", "20"]
    assert shortcuts.main(words) == 0
    (record,) = Store().kind("shortcut")
    config = {"task": "gate-additive", "generator": "1", "sides": [1, 7, 15, 31], "reaches": [32, 40, 60], "images": 20}
    assert record["config"] == config
    assert record["within"][0] is None  # no cue lies within one pixel
    assert record["within"][1] > 75  # a sum of what 7x7 pixels hold
    assert set(record["provenance"]) >= {"commit", "code", "command", "packages", "data"}
    assert record["provenance"]["command"].endswith("shortcuts --datasets gate-additive --images 20")
    assert shortcuts.main(words) == 0
    assert "done already" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--datasets", "strip"], ["--images", "3"]])
def test_what_cannot_be_probed_is_a_usage_error(words: list[str], tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        shortcuts.main(words)
    assert ended.value.code == 2
    assert "strip" in (said := capsys.readouterr().err) or "too few" in said
    assert list(tmp_path.iterdir()) == []


def test_every_sub_task_is_probed_and_nothing_but_its_cue_tells_its_classes():
    """Of the committed records; exceptions are declared, with the reason."""
    found = {record["config"]["task"]: record for record in shortcuts.records(Store(REPOSITORY / "results"))}
    assert set(found) == {shortcut.task for shortcut in shortcuts.probed()} >= {"strips", "key", "gate"}
    for task, record in found.items():
        told = [value for value in record["beyond"] if value is not None]
        assert told, task
        assert (max(told) > record["chance"] + NEAR_CHANCE) == (task in TOLD_NEARBY), (task, told)
        if task.endswith("-no-cue"):  # then it is nowhere
            assert max(value for value in record["within"] if value is not None) < record["chance"] + NEAR_CHANCE


def test_the_page_has_the_probes_beside_the_predictions(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(REPOSITORY / "results"))
    files = render(tmp_path, "table8")
    page, record = whole(files), shortcuts.records(Store())[0]
    assert 'id="shortcuts"' in page
    assert f'href="runs/{record["id"]}.html"' in page
    assert f"runs/{record['id']}.html" in files
    assert "Shortcut probes (patches of 1, 7, 15, 31 pixels) tell at most" in files["summary/table8.md"].decode()
    assert {line["task"] for line in lines_of(files, "shortcuts.csv")} >= {"strips", "scale"}
    assert "# Shortcut probes" in files["summary/predictions.md"].decode()
