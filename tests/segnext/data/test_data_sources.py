"""Promises of `segnext.data` as a whole: what can be opened, what cannot, and at what price."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from layouts import NAMES, UNLABELLED, write
from PIL import Image

from segnext.config import Data
from segnext.data import __main__ as command
from segnext.data import cached, open_dataset, open_split
from segnext.data.datasets import display_colours
from segnext.data.generated.diagnostic import GeneratedSource, tasks
from segnext.data.generated.drawing import SIDE
from segnext.data.tools.show import palette, sheet

SCENE = Data("diagnostic/scene", 7, (96, 96), (96, 96), generator="1")


def test_opening_needs_no_torch():
    check = "import sys, segnext.data; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "ade2k"}, "Data.dataset: 'ade2k' is not a dataset .did you mean ade20k"),
        ({"dataset": "imagenet1k"}, "Data.dataset: imagenet1k has no labels for each pixel"),
        ({"dataset": "diagnostic/maze"}, "Data.dataset: there is no diagnostic task 'maze'"),
        ({"generator": "0"}, "Data.generator: this code generates version '1' of diagnostic/scene, not '0'"),
        ({"classes": 11}, "Data.classes: 11, but diagnostic/scene has 7 classes"),
    ],
)
def test_what_cannot_be_opened_is_explained(change, message):
    with pytest.raises(ValueError, match=message):
        open_split(dataclasses.replace(SCENE, **change), "train", None)


@pytest.mark.parametrize("dataset", ["diagnostic/scene", "camvid"])
def test_an_unknown_split_is_refused_with_those_that_exist(dataset, tmp_path):
    data = dataclasses.replace(SCENE, dataset=dataset)
    with pytest.raises(ValueError, match=f"{dataset}: 'trian' is not one of its splits train, val"):
        open_split(data, "trian", tmp_path)


def test_a_cache_keeps_no_more_than_its_limit():
    source = open_split(SCENE, "val", None)
    room = 2 * SIDE * SIDE * 4
    kept = cached(source, limit=room + 1)
    pairs = [kept.load(index) for index in (0, 1, 2)]
    assert kept.load(0) is pairs[0]
    assert kept.load(1) is pairs[1]
    assert kept.load(2) is not pairs[2]
    assert not kept.load(2)[0].flags.writeable  # whether kept or not, a writer is found out
    for index, pair in enumerate(pairs):
        np.testing.assert_array_equal(pair[0], source.load(index)[0])
    assert (kept.labelled, len(kept), kept.fingerprint()) == (True, 200, source.fingerprint())


def test_the_protocols_name_datasets_that_can_be_opened():
    protocols = pytest.importorskip("studies.declare.protocols")
    data = protocols.PROTOCOLS["quick"].recipes["*"].data
    assert len(open_split(data, data.train_split, None)) == 2000
    assert len(open_split(data, data.test_split, None)) == 200


def test_show_draws_a_sheet(tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert command.main(["show", "diagnostic/scene", "--out", str(out), "--columns", "3", "--rows", "2"]) == 0
    assert "2000 images" in capsys.readouterr().out
    with Image.open(out) as page:
        assert page.width > 3 * 96
        assert page.height > 2 * 2 * 96


@pytest.mark.parametrize("task", tasks())
def test_a_class_that_is_named_by_its_colour_is_shown_in_it(task):
    names = GeneratedSource(task, "train").classes
    shown = palette(names)[: len(names)].astype(int)
    assert len(np.unique(shown, axis=0)) == len(names)
    for name, (red, green, blue) in zip(names, shown, strict=True):
        if name.startswith("red"):
            assert red > 2 * max(green, blue)
        if name.startswith("green"):
            assert green > 2 * max(red, blue)


@pytest.mark.parametrize(("dataset", "split"), [(name, split) for name in NAMES for split in NAMES[name]])
def test_show_draws_every_dataset(tmp_path, dataset, split):
    write(tmp_path, dataset, split)
    out = tmp_path / "sheet.png"
    words = ["show", dataset.upper(), "--split", split, "--data-root", str(tmp_path), "--out", str(out)]
    assert command.main([*words, "--columns", "2", "--rows", "1"]) == 0
    colours = display_colours(dataset)
    with Image.open(out) as page:
        ignored = dataset in ("ade20k", "pascal_context") or (dataset, split) in UNLABELLED
        zero = colours[15] if dataset == "coco_voc" else colours[0]  # COCO begins with the person
        assert page.getpixel((8, 6 + 8 + 2)) == ((255, 255, 255) if ignored else zero)
        seen = {colour for _, colour in page.getcolors(1 << 16)}
    assert set(colours) <= seen  # in the legend at least


def test_show_shrinks_large_pictures(tmp_path):
    write(tmp_path, "cityscapes", "val", np.full((1024, 2048), 18, np.uint8))
    page = sheet(open_dataset("cityscapes", "val", tmp_path), columns=2, rows=1, largest=512)
    assert page.width == 2 * 512 + 3 * 6
    assert page.getpixel((100, 6 + 256 + 100)) != (255, 255, 255)


def test_show_explains_what_is_missing(tmp_path, capsys):
    assert command.main(["show", "camvid", "--data-root", str(tmp_path)]) == 3
    assert f"error: camvid train: not found under {tmp_path}" in capsys.readouterr().err


def test_a_sheet_is_as_wide_as_its_images_need(tmp_path):
    write(tmp_path, "camvid", "val")  # one image
    page = sheet(open_dataset("camvid", "val", tmp_path), columns=6, rows=3)
    assert page.width == sheet(open_dataset("camvid", "val", tmp_path), columns=1, rows=1).width < 3 * 12 + 40


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--magnify", "0"], "--magnify: 0 is not between 1 and 64"),
        (["--magnify", "-1"], "--magnify: -1 is not between 1 and 64"),
        (["--columns", "1000000"], "--columns: 1000000 is not between 1 and 40"),
        (["--rows", "0"], "--rows: 0 is not between 1 and 40"),
        (["--out", "sheet.txt"], "--out: sheet.txt is not named like a picture; use .png"),
    ],
)
def test_show_refuses_what_cannot_be_before_it_looks_at_the_data(capsys, words, said):
    assert command.main(["show", "camvid", "--data-root", "nowhere", *words]) == 2
    assert f"error: {said}" in capsys.readouterr().err


def test_probe_refuses_more_images_than_fit_into_memory(capsys):
    assert command.main(["probe", "diagnostic/strips", "--images", "1000000000"]) == 2
    assert "--images: 1000000000 is not between 10 and 20000" in capsys.readouterr().err


def test_show_overwrites_only_when_asked(tmp_path, capsys):
    out = tmp_path / "sheet.png"
    out.write_text("mine")
    words = ["show", "diagnostic/scene", "--out", str(out), "--columns", "1", "--rows", "1"]
    assert command.main(words) == 2
    assert f"--out: {out} is there already; name another file, or add --overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert command.main([*words, "--overwrite"]) == 0
    with Image.open(out) as page:
        page.load()
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(("error", "said"), [(MemoryError(), "out of memory"), (OSError(), "OSError")])
def test_no_error_says_nothing(monkeypatch, capsys, error, said):
    def fail(*_):
        raise error

    monkeypatch.setattr(command, "sheet", fail)
    assert command.main(["show", "diagnostic/scene", "--out", "nowhere.png"]) == 1
    assert capsys.readouterr().err == f"error: {said}\n"
