"""Predictions are packed as the servers take them, whole or not at all, and say which run they are of."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segnext import Data, Model, SegNeXt
from segnext.data import open_split
from segnext.data.classes import CITYSCAPES_IDS
from segnext.testing.evaluate import evaluate
from segnext.testing.metrics import Confusion
from segnext.testing.server_archive import export, predict

SCENE = Data("diagnostic/scene", 7, (96, 96), (96, 96), test_scales=(0.5, 1.0), generator="1")
RUN = "0123456789ab"


def maps(classes: int, *names: str, seed: int = 0) -> list[tuple[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [(name, random.integers(0, classes, (20, 30), np.uint8)) for name in names]


def read(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image


def test_voc_takes_indexed_images_in_its_own_folders(tmp_path: Path):
    sent = maps(21, "2008_000006", "2008_000011")
    manifest = export(sent, tmp_path / "out", dataset="voc2012", classes=21, run=RUN)
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        assert archive.getnames() == [f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name, _ in sent]
        images = [read(archive.extractfile(member).read()) for member in archive.getmembers()]
        assert {(entry.mode & 0o444, entry.isfile()) for entry in archive.getmembers()} == {(0o444, True)}
    for image, (_, pixels) in zip(images, sent, strict=True):
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), pixels)
        colours = np.array(image.getpalette()).reshape(-1, 3)
        # The development kit's colours: background, aeroplane, person, tv/monitor, and the void of its labels.
        assert colours[[0, 1, 15, 20]].tolist() == [[0, 0, 0], [128, 0, 0], [192, 128, 128], [0, 64, 128]]
    assert manifest.images == 2


def test_cityscapes_takes_label_ids_under_names_that_its_scorer_finds(tmp_path: Path):
    frames = ["berlin_000000_000019", "munich_000397_000019"]
    sent = maps(19, f"berlin/{frames[0]}", f"{frames[1]}_leftImg8bit")  # as a source names it, as its file is called
    export(sent, tmp_path / "out", dataset="cityscapes", classes=19, run=RUN)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        names = archive.namelist()
        assert len(names) == 2
        for frame, (_, pixels) in zip(frames, sent, strict=True):
            (found,) = fnmatch.filter(names, f"{frame}*.png")  # evalPixelLevelSemanticLabeling.py, getPrediction
            image = read(archive.read(found))
            assert image.mode == "L"
            np.testing.assert_array_equal(np.array(image), np.array(CITYSCAPES_IDS)[pixels])


def test_cityscapes_ids_are_those_of_the_dataset(shared: Path):
    text = (shared / "paper" / "datasets.yaml").read_text()
    listed = text.split("labelIds_to_trainIds:\n")[1].split("everything_else")[0]
    pairs = [tuple(int(part) for part in line.split(":")) for line in listed.splitlines() if line.strip()]
    assert {label: train for train, label in enumerate(CITYSCAPES_IDS)} == dict(pairs)


def test_any_other_dataset_is_packed_as_plain_class_maps(tmp_path: Path):
    sent = maps(150, "ADE_test_00000001")
    export(sent, tmp_path / "out", dataset="ade20k", classes=150, run=RUN)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == ["ADE_test_00000001.png"]
        np.testing.assert_array_equal(np.array(read(archive.read("ADE_test_00000001.png"))), sent[0][1])


@pytest.mark.parametrize(("dataset", "suffix"), [("voc2012", ".tar.gz"), ("cityscapes", ".zip"), ("camvid", ".zip")])
@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_the_same_predictions_are_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, dataset: str, suffix: str, seed: int
):
    folder = tmp_path_factory.mktemp("out")
    name = {"voc2012": "2008_000006", "cityscapes": "bonn_000000_000019"}.get(dataset, "frame")
    for attempt in "ab":
        export(maps(11, name, seed=seed), folder / attempt, dataset=dataset, classes=11, run=RUN)
        os.utime(folder / f"{attempt}{suffix}", (0, 0))
    assert (folder / f"a{suffix}").read_bytes() == (folder / f"b{suffix}").read_bytes()


def test_a_manifest_ties_the_archive_to_its_run(tmp_path: Path):
    export(
        maps(21, "2008_000006"),
        tmp_path / f"{RUN}-ms",
        dataset="voc2012",
        classes=21,
        run=RUN,
        settings={"multi_scale": True, "ham_seed": 0},
    )
    content = (tmp_path / f"{RUN}-ms.tar.gz").read_bytes()
    assert json.loads((tmp_path / f"{RUN}-ms.json").read_text()) == {
        "run": RUN,
        "dataset": "voc2012",
        "archive": f"{RUN}-ms.tar.gz",
        "sha256": hashlib.sha256(content).hexdigest(),
        "images": 1,
        "settings": {"multi_scale": True, "ham_seed": 0},
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{RUN}-ms.json", f"{RUN}-ms.tar.gz"]


@pytest.mark.parametrize(
    ("dataset", "wrong", "message"),
    [
        ("voc2012", [*maps(21, "2008_000006"), ("2008_000011", np.full((2, 2), 21, np.uint8))], "21 is none of the 21"),
        ("voc2012", [("2008_000006", np.full((2, 2), 255, np.uint8))], "255 is none of the 21 classes"),
        ("voc2012", maps(21, "2008_000006", "2008_000006"), "predicted twice"),
        ("voc2012", maps(21, "frame"), "is not the name of a voc2012 image"),
        ("cityscapes", maps(19, "2008_000006"), "is not the name of a cityscapes image"),
        ("cityscapes", maps(19, "bonn_000000_000019_a", "bonn_000000_000019_b"), "predicted twice"),
        ("camvid", [], "the split is empty"),
    ],
)
def test_what_no_server_would_take_is_refused_and_leaves_what_was_there(
    tmp_path: Path, dataset: str, wrong: list, message: str
):
    good = {"voc2012": "2008_000001", "cityscapes": "bonn_000000_000001", "camvid": "frame"}[dataset]
    export(maps(19, good), tmp_path / "out", dataset=dataset, classes=21, run=RUN)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        export(wrong, tmp_path / "out", dataset=dataset, classes=21, run=RUN)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("multi_scale", [False, True])
def test_predictions_are_what_an_evaluation_scores(multi_scale: bool):
    class Few:
        def __init__(self) -> None:
            self.source = open_split(SCENE, "val", None)
            self.classes, self.name, self.load = self.source.classes, self.source.name, self.source.load

        def __len__(self) -> int:
            return 3

    torch.manual_seed(0)
    model, source, confusion, done = SegNeXt(Model("micro"), 7), Few(), Confusion(7), []
    found = predict(
        model, source, SCENE, multi_scale=multi_scale, batch=2, progress=lambda *counts: done.append(counts)
    )
    for index, (name, pixels) in enumerate(found):
        assert name == source.name(index)
        assert (pixels.dtype, pixels.shape) == (np.uint8, (96, 96))
        confusion.add(torch.from_numpy(pixels), torch.from_numpy(source.load(index)[1]))
    score = evaluate(model, source, SCENE, multi_scale=multi_scale, batch=2)
    assert confusion.score().confusion == score.confusion
    scales = len(SCENE.test_scales) if multi_scale else 1  # progress is by pass
    assert done == [(n, 3 * scales) for n in ([*range(2, 2 * scales + 1, 2), *range(2 * scales + 1, 3 * scales + 1)])]


def test_a_split_whose_labels_the_server_keeps_is_predicted(tmp_path: Path):
    random = np.random.default_rng(0)
    root = tmp_path / "VOCdevkit" / "VOC2012"
    frames = {"2008_000006": (40, 50), "2008_000011": (50, 40)}
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("\n".join(frames) + "\n")
    for name, size in frames.items():
        image = Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8))
        image.save(root / "JPEGImages" / f"{name}.jpg")
    data = Data("voc2012", 21, (64, 32), (32, 32), test_split="test")
    source = open_split(data, "test", tmp_path)
    model = SegNeXt(Model("micro"), 21)
    export(predict(model, source, data), tmp_path / "out", dataset="voc2012", classes=21, run=RUN)
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        found = {Path(entry.name).stem: read(archive.extractfile(entry).read()) for entry in archive.getmembers()}
    assert {name: image.size[::-1] for name, image in found.items()} == frames
    assert evaluate(model, source, data).miou is None
