"""`studies.run figures`: small arrays of finished runs, from their kept weights; and what the report draws of them."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from records import add_run, fabricate
from reporting import Page, lines_of, render

from reports import build
from segnext.config import Model
from segnext.model import SegNeXt
from segnext.released_weights import save_released
from studies import figures, run
from studies.declare.protocols import PROTOCOLS
from studies.plan.weights import sha256
from studies.records.store import Store
from studies.records.workspace import Workspace
from studies.tables.table7 import STUDY

WORDS = ("figures", "--rows", "table7/a,table7/c", "--protocol", "quick")
FEW = ("--images", "2", "--heat-images", "4", "--stage", "2")


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """Two finished runs whose weights are there; they were not trained, which nothing here looks at."""
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SEGNEXT_RUNS", str(tmp_path / "runs"))
    store = fabricate(tmp_path / "results", seeds=0)
    for slug in ("a", "c"):
        identifier = add_run(store, STUDY, STUDY.row(slug), "quick", 0, 40.0)
        torch.manual_seed(0)
        chosen = PROTOCOLS["quick"].run(STUDY.panel(), STUDY.row(slug), 0)
        weights = Workspace(identifier).weights
        weights.parent.mkdir(parents=True)
        save_released(SegNeXt(chosen.model, chosen.data.classes), weights)
        named = {**store.records[identifier], "weights": {"name": weights.name, "sha256": sha256(weights)}}
        store.path(identifier).write_text(json.dumps(named))
    return Store()


def cam(store: Store) -> dict[str, Path]:
    return {path.name: path for path in (store.folder / "cam").glob("*")}


def test_pictures_are_made_and_drawn(store, tmp_path):
    assert run.main([*WORDS, *FEW]) == 0
    assert {Path(name).suffix for name in cam(store)} == {".json", ".npz"}
    assert all(path.stat().st_size < 400_000 for path in cam(store).values())
    out = tmp_path / "out"
    files = render(out, "table7", drawn=True)
    for figure in ("segmentations", "gradcam", "fields", "ham-bases"):
        assert {f"table7-quick-{figure}.{ending}" for ending in ("svg", "csv")} <= set(files)
    facts = {path.stem: json.loads(path.read_text()) for path in cam(store).values() if path.suffix == ".json"}
    for line in lines_of(files, "table7-quick-fields.csv"):
        assert line["reach_0.5"] == str(facts[line["run"]]["reach"]["0.5"])
    shares = [line.split() for line in next(iter(facts.values()))["shares"]]
    assert {int(image) for image, *_ in shares} <= set(range(4))
    assert "Grad-CAM inside the mask" in files["summary/table7.md"].decode()
    assert render(out, "table7", drawn=True) == files
    assert build.main(["table7", "--out", str(tmp_path / "print"), "--formats", "svg,png"]) == 0
    page = files["table7.html"].decode()
    inside = re.findall(r'src="data:image/webp;base64,([^"]*)"', page)
    assert len(inside) == 4  # in their own colours: an orange key is not olive
    for data, figure in zip(inside, ("segmentations", "fields", "gradcam", "ham-bases"), strict=True):
        assert base64.b64decode(data) == files[f"table7-quick-{figure}.webp"]  # kept: to make it takes half a second
        written = (tmp_path / "print" / f"table7-quick-{figure}.png").read_bytes()
        pair = [Image.open(io.BytesIO(one)).convert("RGB") for one in (base64.b64decode(data), written)]
        shown, written = (np.asarray(one, dtype=float) for one in pair)
        assert np.abs(shown - written).mean() < 4
    ids = Page(page).ids
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)  # letters, markers and clips of every figure


def test_the_same_weights_give_the_same_pictures(store):
    assert run.main([*WORDS, *FEW]) == 0
    first = {name: np.load(path) for name, path in cam(store).items() if path.suffix == ".npz"}
    first = {name: {key: arrays[key] for key in arrays.files} for name, arrays in first.items()}
    assert run.main([*WORDS, *FEW]) == 0
    for name, arrays in first.items():
        again = np.load(cam(store)[name])
        assert all(np.array_equal(array, again[key]) for key, array in arrays.items())


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--rows", "table7/d"], 2, "row of table7"),
        (["--rows", "table7/b"], 2, "has no record"),
        (["--class", "unicorn"], 3, "the classes are"),
        (["--seeds", "1"], 2, "has no record"),
    ],
)
def test_what_cannot_be_drawn_is_said_and_nothing_is_written(store, capsys, words, code, message):
    with pytest.raises(SystemExit) as left:
        run.main([*WORDS, *FEW, *words])
    assert left.value.code == code
    assert message in capsys.readouterr().err
    assert not cam(store)


@pytest.mark.parametrize("change", ["missing", "other"])
def test_other_weights_than_the_records_are_refused(store, capsys, change):
    identifier = PROTOCOLS["quick"].run(STUDY.panel(), STUDY.row("c"), 0).id
    weights = Workspace(identifier).weights
    weights.unlink() if change == "missing" else weights.write_bytes(b"x")
    with pytest.raises(SystemExit) as left:
        run.main([*WORDS, *FEW])
    assert left.value.code == 3
    assert "--rerun done" in capsys.readouterr().err
    assert not cam(store)


def test_damaged_pictures_are_named_and_those_of_other_weights_left_out(store, tmp_path, capsys):
    assert run.main([*WORDS, *FEW]) == 0
    first, second = sorted(path for path in cam(store).values() if path.suffix == ".json")
    first.write_text(json.dumps({**json.loads(first.read_text()), "weights": "of an earlier run"}))
    files = render(tmp_path / "out", "table7")
    assert [line["run"] for line in lines_of(files, "table7-quick-segmentations.csv")] == [second.stem]
    second.with_suffix(".npz").write_bytes(b"x")
    assert build.main(["table7", "--out", str(tmp_path / "out")]) == 1
    assert f"{second.stem}.npz" in capsys.readouterr().err


def test_numbers_without_arrays_keep_their_place_and_draw_nothing(store, tmp_path):
    assert run.main([*WORDS, *FEW]) == 0
    whole = render(tmp_path / "whole", "table7")["summary/table7.md"].decode()
    for path in cam(store).values():
        if path.suffix == ".npz":
            path.unlink()
    files = render(tmp_path / "out", "table7")
    assert not [name for name in files if "segmentations" in name or "fields" in name]
    table = "Grad-CAM inside the mask"
    assert files["summary/table7.md"].decode().partition(table)[2] == whole.partition(table)[2]


def test_an_image_that_is_kept_in_memory_is_read_and_not_written():
    image = np.zeros((96, 96, 3), np.uint8)
    image.flags.writeable = False  # as the decoded images of a data set are
    data = PROTOCOLS["quick"].recipes["*"].data
    scores = figures._scores(SegNeXt(Model("micro"), data.classes).eval(), image, data)
    assert scores.shape == (data.classes, 96, 96)
