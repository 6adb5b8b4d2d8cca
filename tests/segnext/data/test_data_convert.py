"""Promises of the converters, on tiny files in the structures and folders of the real downloads."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import FIXTURES, REPOSITORY, interruptible
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_array

from segnext.data import classes, open_dataset
from segnext.data.__main__ import main
from segnext.data.images import Original
from segnext.data.source import DataError
from segnext.data.tools import convert_isaid, convert_labels, progress
from segnext.data.tools.convert_isaid import isaid_files, isaid_label, isaid_released, isaid_tiles, starts
from segnext.data.tools.convert_labels import detail_label, run_lengths_decoded
from segnext.data.tools.convert_plan import relabelled

MAPS = json.loads((FIXTURES / "label_maps.json").read_text())  # copied from datasets.yaml
CITYSCAPES = {int(label): train for label, train in MAPS["cityscapes"].items()}
COCO = {int(label): train for label, train in MAPS["coco_stuff164k"].items()}
DATASETS = ("cityscapes", "coco_stuff164k", "voc2012", "pascal_context", "isaid", "isaid_800_200")


def write_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return path


def read_png(path):
    with Image.open(path) as image:
        return np.array(image)


def write_cityscapes(root, labels=(), split="train", city="aachen"):
    folder = root / "cityscapes" / "gtFine" / split / city
    for number, label in enumerate(labels):
        write_png(folder / f"{city}_{number:06}_000019_gtFine_labelIds.png", label)
        (folder / f"{city}_{number:06}_000019_gtFine_polygons.json").write_text("{}")
    return folder


def write_coco(root, labels, split="train2017"):
    folder = root / "coco_stuff164k" / "annotations" / split
    for number, label in enumerate(labels):
        write_png(folder / f"{number:012}.png", label)
    return folder


def write_sbd_mask(path, label):
    """As in SBD's dataset/cls: a struct with sparse boundaries, the mask, and the classes in it."""
    boundaries = np.empty((20, 1), dtype=object)
    boundaries[:, 0] = [csc_array((label == number).astype(np.uint8)) for number in range(1, 21)]
    present = np.setdiff1d(np.unique(label), 0).astype(np.uint8)[:, None]
    struct = {"Boundaries": boundaries, "Segmentation": label, "CategoriesPresent": present}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"GTcls": struct}, do_compression=True)


def write_list(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


VOC_TRAIN, VOC_VAL = ("2007_000032", "2007_000039"), ("2007_000033",)
SBD_TRAIN, SBD_VAL = ("2008_000008", "2007_000032"), ("2008_000002", "2007_000033")


def sbd_mask(name):
    return (np.arange(21 * 4, dtype=np.uint8).reshape(12, 7) + int(name[-2:])) % 21


def write_voc(root, sbd="VOCdevkit/VOCaug"):
    sets = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    write_list(sets / "train.txt", VOC_TRAIN)
    write_list(sets / "val.txt", VOC_VAL)
    write_list(root / sbd / "dataset" / "train.txt", SBD_TRAIN)
    write_list(root / sbd / "dataset" / "val.txt", SBD_VAL)
    for name in (*SBD_TRAIN, *SBD_VAL):
        write_sbd_mask(root / sbd / "dataset" / "cls" / f"{name}.mat", sbd_mask(name))
    return sets.parents[1]


def write_label_map(root, name, label):
    folder = root / "VOCdevkit" / "VOC2010" / "trainval"
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / f"{name}.mat", {"LabelMap": np.asarray(label, dtype=np.uint16)})


def encoded(mask):
    """COCO's run-length text, written from its description to test the decoder with."""
    pixels = mask.T.ravel()
    changes = np.flatnonzero(np.diff(np.concatenate(([False], pixels)))).tolist()
    counts = np.diff([0, *changes, len(pixels)]).tolist()
    text = ""
    for number, count in enumerate(counts):
        value = count - counts[number - 2] if number > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


def write_detail(root, frames):
    """trainval_merged.json of (name, phase, size, [(category, mask)])."""
    images, segments = [], []
    for number, (name, phase, size, masks) in enumerate(frames):
        frame = {"file_name": f"{name}.jpg", "image_id": 2008_000_000 + number, "phase": phase}
        images.append({**frame, "height": size[0], "width": size[1]})
        for category, mask in masks:
            code = {"size": list(size), "counts": encoded(mask)}
            segment = {"id": len(segments), "image_id": frame["image_id"], "category_id": category}
            segments.append({**segment, "segmentation": code, "parts": []})
    base = root / "VOCdevkit" / "VOC2010"
    (base / "JPEGImages").mkdir(parents=True, exist_ok=True)
    (base / "trainval_merged.json").write_text(json.dumps({"images": images, "annos_segmentation": segments}))
    return base


COLOURS = np.array(MAPS["isaid"], dtype=np.uint8)


def aerial(height, width, seed=0):
    """An image, its label 0..15 in blocks, and the label's colours."""
    random = np.random.default_rng(seed)
    blocks = (height // 8 + 1, width // 8 + 1)
    image, label = random.integers(0, 256, (*blocks, 3)), random.integers(0, 16, blocks)
    image, label = (
        pixels.repeat(8, axis=0).repeat(8, axis=1)[:height, :width].astype(np.uint8) for pixels in (image, label)
    )
    return image, label, COLOURS[label]


def write_isaid(folder, number, image, colours):
    """The unpacked download; returns the paths of the image and of the mask."""
    return (
        write_png(folder / "images" / f"{number}.png", image),
        write_png(folder / "Semantic_masks" / "images" / f"{number}_instance_color_RGB.png", colours),
    )


def files_of(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def run(dataset, root, *more):
    return main(["convert", dataset, "--data-root", str(root), "--processes", "1", *more])


# Label maps.


def test_label_maps_are_those_of_the_facts():
    values = convert_labels.CITYSCAPES_VALUES
    assert {label: train for label, train in values.items() if train != 255} == CITYSCAPES
    assert set(values) == {*range(34), 255}
    assert {**COCO, 255: 255} == convert_labels.COCO_VALUES
    assert list(convert_labels.CONTEXT_VALUES) == MAPS["pascal_context"]
    assert list(convert_labels.CONTEXT_VALUES.values()) == list(range(60))
    np.testing.assert_array_equal(list(classes.ISAID.values()), COLOURS)


@given(st.data())
def test_values_are_looked_up_or_refused_whatever_the_type(data):
    dtype = data.draw(st.sampled_from(["u1", "u2", "i4", "i8"]))
    allowed = data.draw(st.dictionaries(st.integers(0, 255), st.integers(0, 255), min_size=1))
    limits = np.iinfo(dtype)
    label = np.array([data.draw(st.lists(st.integers(max(limits.min, -300), min(limits.max, 700)), min_size=1))], dtype)
    if set(label.ravel().tolist()) <= set(allowed):
        expected = [[allowed[value] for value in label[0].tolist()]]
        np.testing.assert_array_equal(relabelled(label, allowed, "here"), expected)
    else:
        with pytest.raises(DataError, match=r"^here: no class has the label value"):
            relabelled(label, allowed, "here")


# Cityscapes and COCO-Stuff.


def test_cityscapes_labels_are_recoded_beside_untouched_originals(tmp_path, capsys):
    values = np.array([[*range(34), 255]])
    folder = write_cityscapes(tmp_path, [values, values[:, ::-1]])
    write_cityscapes(tmp_path, [values], "val", "lindau")
    write_cityscapes(tmp_path, [values], "test", "berlin")
    (folder / "._aachen_000009_000019_gtFine_labelIds.png").write_bytes(b"a desktop's")
    before = files_of(tmp_path)
    assert run("cityscapes", tmp_path) == 0
    after = files_of(tmp_path)
    assert {name: after[name] for name in before} == before
    made = sorted(after.keys() - before.keys())
    assert made == [
        "cityscapes/gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png",
        "cityscapes/gtFine/train/aachen/aachen_000001_000019_gtFine_labelTrainIds.png",
        "cityscapes/gtFine/val/lindau/lindau_000000_000019_gtFine_labelTrainIds.png",
    ]
    expected = [[CITYSCAPES.get(value, 255) for value in values[0].tolist()]]
    np.testing.assert_array_equal(read_png(tmp_path / made[0]), expected)
    out = capsys.readouterr().out
    assert "train labels: 2 of 2,975, a part" in out
    assert f"Next: python -m segnext.data check cityscapes --data-root {tmp_path / 'cityscapes'}" in out


def test_coco_ids_are_read_from_the_untouched_array(tmp_path):
    values = np.array([[*COCO, 255]])  # every id: one that is written and read again would be another class
    folder = write_coco(tmp_path, [values])
    assert run("coco_stuff164k", tmp_path) == 0
    np.testing.assert_array_equal(read_png(folder / f"{0:012}_labelTrainIds.png"), [[*range(171), 255]])
    assert run("coco_stuff164k", tmp_path / "coco_stuff164k") == 0  # also where the root is the dataset itself
    assert sorted(path.name for path in folder.iterdir()) == [f"{0:012}.png", f"{0:012}_labelTrainIds.png"]


@pytest.mark.parametrize("gap", convert_labels.COCO_GAPS)
def test_an_id_that_coco_lacks_is_refused(gap):
    with pytest.raises(DataError, match=f"label value {gap};"):
        relabelled(np.full((2, 2), gap, np.uint8), convert_labels.COCO_VALUES, "x.png")


# VOC and SBD.


@pytest.mark.parametrize("sbd", ["VOCdevkit/VOCaug", "benchmark_RELEASE", "elsewhere"])
def test_sbd_masks_and_lists(tmp_path, sbd):
    base = write_voc(tmp_path, sbd)
    more = ["--source", str(tmp_path / sbd)] if sbd == "elsewhere" else []
    assert run("voc2012", tmp_path, *more) == 0
    for name in (*SBD_TRAIN, *SBD_VAL):
        np.testing.assert_array_equal(read_png(base / "SegmentationClassAug" / f"{name}.png"), sbd_mask(name))
    sets = base / "ImageSets" / "Segmentation"
    assert (sets / "aug.txt").read_text().split() == ["2008_000002", "2008_000008"]
    trainaug = ["2007_000032", "2007_000039", "2008_000002", "2008_000008"]
    assert (sets / "trainaug.txt").read_text().split() == trainaug


def test_sbd_masks_are_what_torchvision_reads(tmp_path):
    from torchvision.datasets import SBDataset

    base = write_voc(tmp_path)
    sbd = tmp_path / "VOCdevkit" / "VOCaug" / "dataset"
    for name in SBD_TRAIN:
        write_png(sbd / "img" / f"{name}.png", np.zeros((12, 7, 3))).rename(sbd / "img" / f"{name}.jpg")
    assert run("voc2012", tmp_path) == 0
    for name, (_, mask) in zip(SBD_TRAIN, SBDataset(str(sbd), "train", mode="segmentation"), strict=True):
        np.testing.assert_array_equal(read_png(base / "SegmentationClassAug" / f"{name}.png"), mask)


def test_the_whole_lists_give_the_known_numbers_of_frames(tmp_path, capsys):
    """1,464 + 8,498 + 2,857 names, less 1,449 of val and what SBD shares with both, are 10,582."""
    base = write_voc(tmp_path)
    train, val = [f"t{n}" for n in range(1464)], [f"v{n}" for n in range(1449)]
    shared_train, shared_val = 1133, 1104  # of SBD's 11,355: any that leave 9,118
    new = [f"s{n}" for n in range(9118)]
    sbd = [*train[:shared_train], *val[:shared_val], *new]
    for path, names in (
        (base / "ImageSets/Segmentation/train.txt", train),
        (base / "ImageSets/Segmentation/val.txt", val),
        (tmp_path / "VOCdevkit/VOCaug/dataset/train.txt", sbd[:8498]),
        (tmp_path / "VOCdevkit/VOCaug/dataset/val.txt", sbd[8498:]),
    ):
        write_list(path, names)
    plan = convert_labels.voc2012(tmp_path)
    assert {path.name: len(names) for path, names in plan.lists.items()} == {"aug.txt": 9118, "trainaug.txt": 10582}
    assert "trainaug.txt frames: 10,582, all" in plan.remarks
    listing = tmp_path / "VOCdevkit/VOCaug/dataset/train.txt"
    for other, said in (
        (val[-1], "trainaug.txt would name 10,581 frames, not 10,582"),
        (train[-1], "aug.txt would name"),
    ):
        write_list(listing, [*sbd[: 8498 - 1], other])  # as many names, but not the ones
        assert any(problem.startswith(said) for problem in convert_labels.voc2012(tmp_path).problems)
    write_list(listing, sbd[:8498])
    assert run("voc2012", tmp_path) == 1  # SBD's lists name masks that are not there
    assert not (base / "ImageSets/Segmentation/aug.txt").exists()
    assert "s0.mat" in capsys.readouterr().err


def test_lists_that_are_there_stay(tmp_path, capsys):
    base = write_voc(tmp_path)
    listing = base / "ImageSets" / "Segmentation" / "aug.txt"
    listing.write_text("2008_000008\n2008_000002\n")  # in another order, as the release writes it
    assert run("voc2012", tmp_path) == 0
    assert listing.read_text() == "2008_000008\n2008_000002\n"
    listing.write_text("2008_000008\n2007_000033\n")
    assert run("voc2012", tmp_path) == 1
    assert listing.read_text() == "2008_000008\n2007_000033\n"
    assert f"{listing} is there but names 2007_000033, which it should not" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line", ["\ufeff{}", "{}.jpg", "{}.JPG", "JPEGImages/{0}.jpg SegmentationClass/{0}.png", " {}\r"]
)
def test_no_frame_of_val_gets_into_the_augmented_list_however_val_is_written(tmp_path, line):
    """SBD holds most of VOC's val: a name that is read otherwise than SBD's would be trained on."""
    base = write_voc(tmp_path)
    sets, sbd = base / "ImageSets" / "Segmentation", tmp_path / "VOCdevkit/VOCaug/dataset"
    names = names_in(sbd / "train.txt") | names_in(sbd / "val.txt")
    assert names & {*VOC_TRAIN}
    assert names & {*VOC_VAL}
    for name, frames in (("train", VOC_TRAIN), ("val", VOC_VAL)):
        (sets / f"{name}.txt").write_text("\n".join(line.format(frame) for frame in frames), encoding="utf-8")
    assert run("voc2012", tmp_path) == 0
    assert names_in(sets / "aug.txt") == names - {*VOC_TRAIN, *VOC_VAL}
    assert names_in(sets / "trainaug.txt") == (names | {*VOC_TRAIN}) - {*VOC_VAL}


def test_lists_may_be_shortened_and_what_they_leave_out_is_not_sbds(tmp_path, capsys):
    base = write_voc(tmp_path)
    sets = base / "ImageSets" / "Segmentation"
    assert run("voc2012", tmp_path) == 0
    whole = names_in(sets / "aug.txt")
    write_list(sets / "trainval.txt", VOC_TRAIN + VOC_VAL)
    for name in ("train", "val", "aug"):
        write_list(sets / f"{name}.txt", sorted(names_in(sets / f"{name}.txt"))[:1] if name != "val" else [])
    assert run("voc2012", tmp_path) == 0
    assert "nothing to do" in capsys.readouterr().out
    (sets / "aug.txt").unlink()
    assert run("voc2012", tmp_path) == 0
    assert names_in(sets / "aug.txt") == whole
    (sets / "aug.txt").unlink()
    (sets / "trainval.txt").unlink()
    assert run("voc2012", tmp_path) == 0
    assert "test only on the shortened val.txt" in capsys.readouterr().out


def names_in(path):
    return set(path.read_text().split())


# Pascal Context.


def test_run_lengths_of_the_field_are_decoded():
    """Codes that pycocotools wrote: of a square, of a polygon, and of a detection at (219.9, 176.1), 11.1 x 34.2."""
    square = np.zeros((100, 100), dtype=bool)
    square[:50, 50:] = True
    np.testing.assert_array_equal(run_lengths_decoded("Xl4b1b1" + "0" * 98, (100, 100)), square)
    polygon = ["00111", "00111", "00110", "00110", *["00000"] * 5]
    np.testing.assert_array_equal(run_lengths_decoded("b04500N2", (9, 5)), [[int(c) for c in row] for row in polygon])
    rows, columns = np.nonzero(run_lengths_decoded("nYW31n>2N2FNbA48Kf=?XBDe=m0OM3M4YOPB8_>L4JXao5", (480, 640)))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (220, 230, 176, 209)
    np.testing.assert_array_equal(run_lengths_decoded([1, 2, 1], (2, 2)), [[0, 1], [1, 0]])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32), st.floats(0, 1))
def test_run_lengths_are_decoded_whatever_the_mask(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    np.testing.assert_array_equal(run_lengths_decoded(encoded(mask), (height, width)), mask)


@pytest.mark.parametrize("code", ["", "0", "231N0", "zz", "231"])
def test_run_lengths_that_do_not_fill_the_mask_are_refused(code):
    with pytest.raises(ValueError, match="runs of"):
        run_lengths_decoded(code, (1, 7))  # "231N" would be right


def test_context_labels_from_detail_are_painted_in_order(tmp_path):
    size = (4, 6)
    left, top, whole = np.zeros((3, *size), dtype=bool)
    left[:, :3] = top[:2] = whole[:] = True
    base = write_detail(
        tmp_path,
        [
            ("2008_000002", "train", size, [(458, whole), (2, left), (9, top)]),
            ("2008_000003", "val", size, [(9, top)]),
            ("2008_000001", "val", size, []),
            ("2008_000004", "test", size, [(9, top)]),
        ],
    )
    assert run("pascal_context", tmp_path) == 0
    label = np.full(size, 59)
    label[left], label[top] = 1, 2
    made = base / "SegmentationClassContext"
    np.testing.assert_array_equal(read_png(made / "2008_000002.png"), label)
    np.testing.assert_array_equal(read_png(made / "2008_000003.png"), np.where(top, 2, 0))
    np.testing.assert_array_equal(read_png(made / "2008_000001.png"), np.zeros(size))
    assert not (made / "2008_000004.png").exists()
    sets = base / "ImageSets" / "SegmentationContext"
    assert (sets / "train.txt").read_text() == "2008_000002\n"
    assert (sets / "val.txt").read_text() == "2008_000001\n2008_000003\n"


def test_of_two_annotations_with_one_id_the_later_counts(tmp_path):
    whole = np.ones((2, 2), dtype=bool)
    base = write_detail(
        tmp_path, [("a", "train", (2, 2), [(2, whole), (9, whole), (18, whole)]), ("b", "val", (2, 2), [])]
    )
    path = base / "trainval_merged.json"
    content = json.loads(path.read_text())
    content["annos_segmentation"][2]["id"] = 0  # takes the first one's place, and the second one lies on top of it
    path.write_text(json.dumps(content))
    assert run("pascal_context", tmp_path) == 0
    np.testing.assert_array_equal(read_png(base / "SegmentationClassContext" / "a.png"), np.full((2, 2), 2))


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ([(1, {"size": [2, 2], "counts": [0, 4]})], "no class has the label value 1"),
        ([(2, {"size": [2, 3], "counts": [0, 6]})], r"a mask of \(2, 3\)"),
        ([(2, {"size": [2, 2], "counts": "0"})], "cannot be decoded"),
        ([(2, {"counts": [0, 4]})], "cannot be decoded"),
    ],
)
def test_damaged_context_annotations_are_refused(annotations, said):
    with pytest.raises(DataError, match=f"^frame: .*{said}"):
        detail_label((2, 2), annotations, "frame")


def test_context_label_maps_keep_60_of_459_classes(tmp_path, capsys):
    write_label_map(tmp_path, "2008_000002", np.arange(460).reshape(20, 23))
    write_label_map(tmp_path, "2008_000007", [[2, 454]])
    base = tmp_path / "VOCdevkit" / "VOC2010"
    (base / "JPEGImages").mkdir()
    write_list(base / "ImageSets" / "Main" / "train.txt", ["2008_000007", "2008_000009"])
    write_list(base / "ImageSets" / "Main" / "val.txt", ["2008_000002 -1"])
    assert run("pascal_context", tmp_path) == 0
    ids = MAPS["pascal_context"]
    expected = [ids.index(value) if value in ids else 0 for value in range(460)]
    made = base / "SegmentationClassContext"
    np.testing.assert_array_equal(read_png(made / "2008_000002.png").ravel(), expected)
    assert (base / "ImageSets" / "SegmentationContext" / "train.txt").read_text() == "2008_000007\n"
    assert (base / "ImageSets" / "SegmentationContext" / "val.txt").read_text() == "2008_000002\n"
    assert "labels of .mat files differ from those of trainval_merged.json" in capsys.readouterr().out


def test_context_lists_may_be_shortened(tmp_path):
    base = write_detail(tmp_path, [(f"2008_00000{n}", "train", (1, 1), []) for n in (2, 3)])
    listing = base / "ImageSets" / "SegmentationContext" / "train.txt"
    assert run("pascal_context", tmp_path) == 0
    listing.write_text("2008_000003\n")
    assert run("pascal_context", tmp_path) == 0
    assert listing.read_text() == "2008_000003\n"


def test_context_labels_of_two_kinds_are_not_mixed(tmp_path, capsys):
    write_label_map(tmp_path, "2008_000002", [[2]])
    (tmp_path / "VOCdevkit" / "VOC2010" / "JPEGImages").mkdir()
    assert run("pascal_context", tmp_path) == 0
    assert "no split lists are written" in capsys.readouterr().out
    base = write_detail(tmp_path, [("2008_000002", "val", (1, 1), []), ("2008_000003", "train", (1, 1), [])])
    before = files_of(base)
    assert run("pascal_context", tmp_path) == 1
    assert "SegmentationClassContext holds labels made from .mat LabelMaps" in capsys.readouterr().err
    assert files_of(base) == before


# iSAID.

TILINGS = st.sampled_from([(896, 384), (800, 200), (16, 4), (7, 0), (5, 4)])
SIDES = st.one_of(st.integers(1, 3000), st.sampled_from([799, 800, 801, 895, 896, 897, 1408, 1409]))


@given(SIDES, TILINGS)
def test_tiles_cover_every_pixel_and_stay_inside(side, tiling):
    patch, overlap = tiling
    begins = starts(side, patch, overlap)
    assert begins == sorted(set(begins))
    assert begins[0] == 0
    assert all(after - before <= patch - overlap for before, after in itertools.pairwise(begins))
    assert begins[-1] == max(0, side - patch)


def released_names(height, width, patch, overlap, pads):
    """The tiles of the releases' loops by (top, left), a set because equal names are written over each other."""
    if pads:  # the PyTorch release, with its conditions to the letter
        if height < patch < width:
            height = patch
        elif width < patch < height:
            width = patch
        elif height < patch and width < patch:
            height = width = patch
    elif not (height > patch and width > patch):
        return {"whole"}
    positions = itertools.product(range(0, height, patch - overlap), range(0, width, patch - overlap))
    return {(min(top, height - patch), min(left, width - patch)) for top, left in positions}


@given(SIDES, SIDES)
def test_as_many_tiles_as_the_pytorch_release_whatever_the_size(height, width):
    released = released_names(height, width, 896, 384, pads=True)
    ours = isaid_files(Path(), "train", "P0000", (height, width), 896, 384).keys()
    assert len(ours) == len(released) == isaid_released("P1527", (height, width), 896, 384)
    if min(top_left for pair in released for top_left in pair) >= 0:
        assert set(ours) == released  # and the same ones; else the release cut thin tiles from a negative offset


@given(SIDES, SIDES)
def test_the_jittor_release_is_counted_as_it_counts(height, width):
    released = released_names(height, width, 800, 200, pads=False)
    assert isaid_released("P0000", (height, width), 800, 200) == len(released)
    assert isaid_released("P1527", (height, width), 800, 200) == 0
    if released != {"whole"}:
        assert set(isaid_files(Path(), "train", "P0000", (height, width), 800, 200)) == released


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((16, 9), {(0, 0)}),  # one side exactly the patch, the other smaller: the release's thin tile
        ((9, 16), {(0, 0)}),
        ((16, 16), {(0, 0)}),
        ((9, 5), {(0, 0)}),
        ((5, 40), {(0, 0), (0, 12), (0, 24)}),
        ((17, 16), {(0, 0), (1, 0)}),  # a last tile that is shifted back by all but a pixel
        ((29, 30), {(0, 0), (0, 12), (0, 14), (12, 0), (12, 12), (12, 14), (13, 0), (13, 12), (13, 14)}),
    ],
)
def test_every_tile_has_the_patch_size_a_name_of_its_own_and_the_images_pixels(tmp_path, size, tiles):
    patch, overlap = 16, 4
    image, label, colours = aerial(*size)
    paths = write_isaid(tmp_path, "P0001", image, colours)
    files = isaid_files(tmp_path, "val", "P0001", size, patch, overlap)
    assert set(files) == tiles
    assert len({path for pair in files.values() for path in pair}) == 2 * len(tiles)
    made = dict(isaid_tiles(*map(Original, paths), files, size, patch).files)
    assert all(pixels.shape[:2] == (patch, patch) for pixels in made.values())
    whole = max(size[0], patch), max(size[1], patch)
    images, labels = np.full((*whole, 3), 255, np.uint8), np.full(whole, 99, np.uint8)
    for (top, left), (image_file, label_file) in files.items():
        assert image_file.name == f"P0001_{top}_{top + patch}_{left}_{left + patch}.png"
        assert label_file.name == f"{image_file.stem}_instance_color_RGB.png"
        images[top : top + patch, left : left + patch] = made[image_file]
        labels[top : top + patch, left : left + patch] = made[label_file]
    np.testing.assert_array_equal(images[: size[0], : size[1]], image)
    np.testing.assert_array_equal(labels[: size[0], : size[1]], label)
    for padded, fill in ((images, 0), (labels, 255)):
        assert (padded[size[0] :] == fill).all()
        assert (padded[:, size[1] :] == fill).all()


def test_colours_are_classes_and_others_background():
    label, unknown = isaid_label(COLOURS[None])
    np.testing.assert_array_equal(label, [range(16)])
    assert unknown == 0
    others = [[(1, 0, 63), (0, 0, 64), (63, 0, 0), (255, 255, 255), (0, 0, 63)]]  # the third is class 1 in BGR
    label, unknown = isaid_label(np.array(others, dtype=np.uint8))
    np.testing.assert_array_equal(label, [[0, 0, 0, 0, 1]])
    assert unknown == 4


def write_zipped(folder, source):
    for part in (Path("images"), Path("Semantic_masks/images")):
        archive = folder / part.parent / ("images/part1.zip" if part == Path("images") else "images.zip")
        archive.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("__MACOSX/images/._P0001.png", b"a desktop's")
            for path in (source / part).iterdir():
                file.write(path, f"images/{path.name}")


def write_devkit(folder, source):
    (folder / "images").mkdir(parents=True)
    for path in source.rglob("*.png"):
        (folder / "images" / path.name).write_bytes(path.read_bytes())
        (folder / "images" / f"{path.stem[:5]}_instance_id_RGB.png").write_bytes(b"instances, which are not asked for")


def test_isaid_as_downloaded_as_unpacked_and_as_its_devkit_wants_it(tmp_path, capsys):
    image, label, colours = aerial(900, 920)
    write_isaid(tmp_path / "unpacked" / "iSAID" / "train", "P0001", image, colours)
    write_zipped(tmp_path / "zipped" / "iSAID" / "train", tmp_path / "unpacked" / "iSAID" / "train")
    write_devkit(tmp_path / "devkit" / "iSAID" / "train", tmp_path / "unpacked" / "iSAID" / "train")
    made = {}
    for name in ("unpacked", "zipped", "devkit"):
        before = files_of(tmp_path / name)
        assert run("isaid", tmp_path / name) == 0
        after = files_of(tmp_path / name)
        assert {path: after[path] for path in before} == before
        made[name] = {path: content for path, content in after.items() if path not in before}
    assert made["unpacked"] == made["zipped"] == made["devkit"]
    tiles = [f"P0001_{top}_{top + 896}_{left}_{left + 896}" for top in (0, 4) for left in (0, 24)]
    images = {f"iSAID/img_dir/train/{tile}.png" for tile in tiles}
    labels = {f"iSAID/ann_dir/train/{tile}_instance_color_RGB.png" for tile in tiles}
    assert set(made["zipped"]) == images | labels
    last = tmp_path / "zipped" / "iSAID" / "ann_dir" / "train" / f"{tiles[-1]}_instance_color_RGB.png"
    np.testing.assert_array_equal(read_png(last), label[4:, 24:])
    assert "train tiles: 4\n" in capsys.readouterr().out


def test_the_other_tiling_is_a_dataset_of_its_own(tmp_path, capsys):
    image, _, colours = aerial(60, 900)
    download = tmp_path / "download"
    write_isaid(download / "val", "P0003", image, colours)
    colours = colours.copy()
    colours[:2, :3] = 77
    write_isaid(download / "val", "P0004", image, colours)
    before = files_of(download)
    root = tmp_path / "data"
    root.mkdir()
    assert run("isaid_800_200", root, "--source", str(download)) == 0
    names = [f"{number}_0_800_{left}_{left + 800}" for number in ("P0003", "P0004") for left in (0, 100)]
    images = sorted(path.stem for path in (root / "iSAID_800_200" / "img_dir" / "val").iterdir())
    assert images == names
    assert files_of(download) == before
    out, err = capsys.readouterr()
    assert f"check isaid_800_200 --data-root {root / 'iSAID_800_200'}" in out
    assert "P0004_instance_color_RGB.png: 6 pixels have a colour of no class and count as background" in err


@pytest.mark.parametrize("dataset", ["isaid", "isaid_800_200"])
def test_of_a_whole_isaid_half_a_copy_is_noticed_and_of_a_part_there_is_no_list(tmp_path, monkeypatch, capsys, dataset):
    monkeypatch.setattr(convert_isaid, "_IMAGES", {"train": 2, "val": 2})
    for split, number in (("train", "P0001"), ("train", "P0002"), ("val", "P0003")):
        write_isaid(tmp_path / "iSAID" / split, number, *aerial(60, 900)[::2])
    assert run(dataset, tmp_path) == 0
    base = tmp_path / {"isaid": "iSAID", "isaid_800_200": "iSAID_800_200"}[dataset]
    tiles = sorted(path.stem for path in (base / "img_dir" / "train").iterdir())
    assert (base / "train.txt").read_text().split() == tiles
    assert not (base / "val.txt").exists()
    source = open_dataset(dataset, "train", tmp_path)
    assert [source.name(index) for index in range(len(source))] == tiles
    (base / "img_dir" / "train" / f"{tiles[0]}.png").unlink()
    (base / "ann_dir" / "train" / f"{tiles[0]}_instance_color_RGB.png").unlink()
    with pytest.raises(DataError, match=f"1 names in train.txt without files .{tiles[0]}"):
        open_dataset(dataset, "train", tmp_path)
    (base / "train.txt").write_text(f"{tiles[1]}\n")
    assert run(dataset, tmp_path) == 0  # it may choose
    (base / "train.txt").write_text(f"{tiles[1]}\nP0009\n")
    capsys.readouterr()
    assert run(dataset, tmp_path) == 1
    assert (base / "train.txt").read_text() == f"{tiles[1]}\nP0009\n"
    assert "train.txt is there but names P0009, which it should not" in capsys.readouterr().err


def test_isaid_problems_are_named_and_the_rest_is_made(tmp_path, capsys):
    image, _, colours = aerial(20, 30)
    folder = tmp_path / "iSAID" / "train"
    write_isaid(folder, "P0001", image, colours)
    write_isaid(folder, "P0002", image, colours)[1].unlink()
    write_isaid(folder, "P0003", image, colours)[0].unlink()
    write_isaid(folder, "P0004", image, colours[:9])
    write_isaid(folder, "P0005", image, colours)[0].write_bytes(b"no image")
    assert run("isaid", tmp_path) == 1
    err = capsys.readouterr().err
    assert "P0002.png: it has no mask under" in err
    assert "P0003_instance_color_RGB.png: it has no image under" in err
    assert "P0004_instance_color_RGB.png: the picture is 30x9" in err
    assert "P0005.png: cannot be read as an image" in err
    assert err.count("problem: ") == 4
    assert [path.name for path in (tmp_path / "iSAID" / "img_dir" / "train").iterdir()] == ["P0001_0_896_0_896.png"]


# The command.


def write_any(dataset, root):
    """A few originals of a dataset."""
    if dataset == "cityscapes":
        write_cityscapes(root, np.full((3, 4, 4), 7))
    elif dataset == "coco_stuff164k":
        write_coco(root, np.full((3, 4, 4), 7))
    elif dataset == "voc2012":
        write_voc(root)
    elif dataset == "pascal_context":
        write_detail(root, [(f"2008_00000{n}", phase, (2, 2), []) for n, phase in enumerate(("train", "val", "val"))])
    else:
        write_isaid(root / "iSAID" / "val", "P0003", *aerial(30, 30)[::2])


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_finished_conversion_does_nothing_and_says_so(tmp_path, capsys, dataset):
    write_any(dataset, tmp_path)
    assert run(dataset, tmp_path) == 0
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    assert run(dataset, tmp_path) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == first
    assert f"{dataset}: nothing to do, all" in capsys.readouterr().out


@pytest.mark.parametrize("dataset", DATASETS)
def test_what_is_missing_is_made_again_and_nothing_else(tmp_path, dataset):
    write_any(dataset, tmp_path)
    before = files_of(tmp_path)
    assert run(dataset, tmp_path) == 0
    whole = files_of(tmp_path)
    gone = sorted(name for name in whole.keys() - before.keys() if name.endswith(".png"))[0]
    (tmp_path / gone).unlink()
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in whole if name != gone}
    assert run(dataset, tmp_path) == 0
    assert files_of(tmp_path) == whole
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in whole if name != gone} == times


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_dry_run_writes_nothing(tmp_path, capsys, dataset):
    write_any(dataset, tmp_path)
    before = files_of(tmp_path)
    assert run(dataset, tmp_path, "--dry-run") == 0
    assert files_of(tmp_path) == before
    out = capsys.readouterr().out
    promised = int(out.partition("would write ")[2].split()[0])
    lists = out.count("would write") - 1
    assert run(dataset, tmp_path) == 0
    made = [name for name in files_of(tmp_path).keys() - before.keys() if not Path(name).name.startswith(".")]
    assert len(made) == promised + lists


@pytest.mark.parametrize("dataset", DATASETS)
def test_originals_that_are_not_there_end_with_3_and_where_they_were_looked_for(tmp_path, capsys, dataset):
    assert run(dataset, tmp_path) == 3
    assert str(tmp_path) in capsys.readouterr().err
    assert run(dataset, tmp_path / "nowhere") == 3
    assert f"{tmp_path / 'nowhere'}: there is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "dataset", "said"),
    [
        ("cityscapes/gtFine/train/aachen", "cityscapes", "where only polygons are left, cityscapesScripts draws them"),
        ("coco_stuff164k/annotations/train2017", "coco_stuff164k", "unzip stuffthingmaps_trainval2017.zip"),
        ("VOCdevkit/VOC2010/JPEGImages", "pascal_context", "neither .*trainval_merged.json nor .*trainval"),
        ("iSAID/train/images", "isaid", "images are those of DOTA-v1.0"),
    ],
)
def test_empty_folders_are_no_originals(tmp_path, capsys, folder, dataset, said):
    (tmp_path / folder).mkdir(parents=True)
    assert run(dataset, tmp_path) == 3
    err = capsys.readouterr().err
    assert re.search(said, err), err


@pytest.mark.parametrize(
    ("dataset", "arguments", "said"),
    [
        ("cityscapes", ["--processes", "0"], "--processes: 0 is not between 1 and 1024"),
        ("coco_stuff164k", ["--source", "."], "--source: coco_stuff164k's labels are written beside"),
        ("ade20k", [], "ade20k needs no conversion; what does is cityscapes, "),
        ("diagnostic/scene", [], "diagnostic/scene needs no conversion"),
        ("isiad", [], "'isiad' is not a dataset (did you mean isaid?)"),
    ],
)
def test_arguments_that_do_not_fit_end_with_2(tmp_path, capsys, dataset, arguments, said):
    write_any(dataset, tmp_path)
    before = files_of(tmp_path)
    assert run(dataset, tmp_path, *arguments) == 2
    assert said in capsys.readouterr().err
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("spelling", "dataset"),
    [("CityScapes", "cityscapes"), ("COCO-Stuff164k", "coco_stuff164k"), ("coco_voc", "coco_stuff164k")],
)
def test_datasets_may_be_spelled_as_people_do(tmp_path, capsys, spelling, dataset):
    write_any(dataset, tmp_path)
    assert run(spelling, tmp_path) == 0
    assert f"check {dataset} --data-root" in capsys.readouterr().out


def test_the_environment_names_the_data_root(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SEGNEXT_DATA", raising=False)
    assert main(["convert", "cityscapes"]) == 3
    assert "cityscapes: no folder is given" in capsys.readouterr().err
    write_any("cityscapes", tmp_path)
    monkeypatch.setenv("SEGNEXT_DATA", str(tmp_path))
    assert main(["convert", "cityscapes", "--processes", "1"]) == 0


def test_sbd_is_not_converted_into_another_years_voc(tmp_path, capsys):
    write_voc(tmp_path)
    other = (tmp_path / "VOCdevkit" / "VOC2012").rename(tmp_path / "VOCdevkit" / "VOC2010")
    assert run("voc2012", other, "--source", str(tmp_path / "VOCdevkit" / "VOCaug")) == 3
    assert not (other / "SegmentationClassAug").exists()
    assert "voc2012: not found" in capsys.readouterr().err


def damage(folder):
    """Some ways in which a label goes wrong: the files' names and what is said of each."""
    good = sorted(folder.glob("*.png"))
    good[0].write_bytes(good[0].read_bytes()[:-30])
    good[1].write_bytes(b"")
    write_png(good[2], np.zeros((4, 4, 3)))
    write_png(good[3], np.full((4, 4), 82))
    said = ("cannot be read as an image", "cannot be read as an image", "a label of mode RGB", "the label value 82")
    return {path.name: what for path, what in zip(good, said, strict=False)}


def test_damaged_originals_are_named_and_the_others_made(tmp_path, capsys):
    labels = np.random.default_rng(0).integers(0, 10, (6, 40, 40))
    folder = write_coco(tmp_path, labels)
    originals = files_of(folder)
    damaged = damage(folder)
    assert run("coco_stuff164k", tmp_path) == 1
    out, err = capsys.readouterr()
    assert "2 files written" in out
    assert "4 problems" in out
    for name, what in damaged.items():
        assert any(name in line and what in line for line in err.splitlines()), (name, err)
    assert len(list(folder.glob("*_labelTrainIds.png"))) == 2
    for name, content in originals.items():
        (folder / name).write_bytes(content)
    assert run("coco_stuff164k", tmp_path) == 0
    for number, label in enumerate(labels):
        np.testing.assert_array_equal(read_png(folder / f"{number:012}_labelTrainIds.png"), label)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file, it says", None])
def test_damaged_matlab_files_are_named(tmp_path, capsys, content):
    write_voc(tmp_path)
    path = tmp_path / "VOCdevkit" / "VOCaug" / "dataset" / "cls" / f"{SBD_TRAIN[0]}.mat"
    if content is None:
        savemat(path, {"LabelMap": np.zeros((2, 2))})  # a MATLAB file, but another one
    else:
        path.write_bytes(content)
    assert run("voc2012", tmp_path) == 1
    assert f"problem: {path}: " in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_an_error_without_traceback(tmp_path, capsys):
    base = write_voc(tmp_path)
    (base / "SegmentationClassAug").write_text("a file where the folder belongs")
    assert run("voc2012", tmp_path) == 1
    err = capsys.readouterr().err
    assert "SegmentationClassAug" in err
    assert "the same command continues" in err


def test_a_log_gets_plain_lines_with_rate_and_time_left(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    write_coco(tmp_path, np.zeros((3, 4, 4)))
    assert run("coco_stuff164k", tmp_path) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("converted ")[1].split()[0] for line in lines] == ["0/3", "1/3", "2/3", "3/3"]
    assert all("/s, " in line and "s left" in line for line in lines[1:-1])
    assert "\x1b" not in "".join(lines)


def command(root, *more):
    return [sys.executable, "-m", "segnext.data", "convert", "coco_stuff164k", "--data-root", str(root), *more]


def alive(marker):
    """Processes other than this one that run with `marker` in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "environ").read_bytes() and (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
@pytest.mark.long
def test_killed_at_any_moments_it_continues_to_the_same_files(tmp_path):
    labels = np.random.default_rng(0).integers(0, 10, (400, 200, 200))
    folder = write_coco(tmp_path / "killed", labels)
    write_coco(tmp_path / "whole", labels)
    assert run("coco_stuff164k", tmp_path / "whole") == 0

    deadline = time.monotonic() + 240
    for moment in (1, 9, 25):
        process = subprocess.Popen(
            command(tmp_path / "killed", "--processes", "2"),
            cwd=REPOSITORY,
            env={**os.environ, "MARKER": f"{tmp_path}", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while len(list(folder.glob("*_labelTrainIds.png"))) < moment:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        while alive(str(tmp_path)):  # the processes of its pool leave with it
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert moment <= len(list(folder.glob("*_labelTrainIds.png"))) < len(labels)
    leftover = folder / f".{0:012}_labelTrainIds.png.{'0' * 32}.tmp"  # as a kill in the middle of a file leaves it
    leftover.write_bytes(b"half")
    for path in folder.glob(".*.tmp"):
        os.utime(path, (0, 0))

    assert run("coco_stuff164k", tmp_path / "killed") == 0
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


def test_the_temporary_file_of_a_process_at_work_is_left_alone(tmp_path):
    folder = write_coco(tmp_path, np.zeros((1, 4, 4)))
    other = folder / f".{0:012}_labelTrainIds.png.{'0' * 32}.tmp"
    other.write_bytes(b"half")
    assert run("coco_stuff164k", tmp_path) == 0
    assert other.exists()


def test_an_interrupt_ends_with_130_and_the_next_command_continues(tmp_path):
    labels = np.random.default_rng(0).integers(0, 10, (400, 200, 200))
    folder = write_coco(tmp_path, labels)
    process = subprocess.Popen(
        command(tmp_path, "--processes", "2"),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    )
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*_labelTrainIds.png"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[1:] == ["interrupted; the same command continues"]  # the first one counts originals
    assert not list(folder.glob(".*.tmp"))  # files under way were ended
    assert run("coco_stuff164k", tmp_path) == 0
    assert len(list(folder.glob("*_labelTrainIds.png"))) == len(labels)
