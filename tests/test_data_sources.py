"""Promises of `segnext.data` as a whole: what can be opened, what cannot, and at what price."""

import dataclasses
import subprocess
import sys

import pytest
from PIL import Image

from segnext.config import Data
from segnext.data import __main__ as command
from segnext.data import open_split

SCENE = Data("diagnostic/scene", 7, (96, 96), (96, 96), generator="1")


def test_opening_needs_no_torch():
    check = "import sys, segnext.data; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "ade20k"}, "Data.dataset: 'ade20k' is not readable yet; readable are camvid, diagnostic/<task>"),
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


def test_the_protocols_name_datasets_that_can_be_opened():
    protocols = pytest.importorskip("studies.protocols")
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


def test_show_explains_what_is_missing(tmp_path, capsys):
    assert command.main(["show", "camvid", "--data-root", str(tmp_path)]) == 2
    assert f"error: camvid train: not found under {tmp_path}" in capsys.readouterr().err
