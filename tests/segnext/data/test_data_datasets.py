"""Promises about each dataset: its layout, its label map, its names and counts, and the traps of datasets.md, 2."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import FOLDERS, NAMES, UNLABELLED, listing, paths, save, write
from PIL import Image

from segnext.config import Data
from segnext.data import DataError, DataNotFoundError, open_dataset, open_split
from segnext.data.__main__ import main
from segnext.data.datasets import DATASETS, dataset_name, display_colours
from segnext.data.folders import FolderSource
from segnext.data.tools.check import check
from studies.declare.protocols import PAPER

SPLITS = [(dataset, split) for dataset, splits in NAMES.items() for split in splits]

# Which class each value of a label file stands for, written down from datasets.md, section 2; all others are damage.
MAPS = {
    "ade20k": {0: 255, **{k: k - 1 for k in range(1, 151)}, 255: 255},
    "cityscapes": {**{k: k for k in range(19)}, 255: 255},
    "voc2012": {**{k: k for k in range(21)}, 255: 255},
    "pascal_context": {0: 255, **{k: k - 1 for k in range(1, 60)}, 255: 255},
    "coco_stuff164k": {**{k: k for k in range(171)}, 255: 255},
    "isaid": {**{k: k for k in range(16)}, 255: 255},
    "isaid_800_200": {**{k: k for k in range(16)}, 255: 255},
    "camvid": {**{k: k for k in range(11)}, 11: 255},
}


def refused(dataset, split, root, error=DataError):
    with pytest.raises(error) as caught:
        open_dataset(dataset, split, root)
    return str(caught.value)


# Layouts.


@pytest.mark.parametrize(("dataset", "split"), SPLITS)
def test_every_split_opens_from_the_data_root_and_from_its_own_folder(tmp_path, dataset, split):
    names = NAMES[dataset][split]
    base = write(tmp_path, dataset, split)
    source = open_dataset(dataset, split, tmp_path)
    assert [source.name(index) for index in range(len(source))] == sorted(names)
    assert source.labelled == ((dataset, split) not in UNLABELLED)
    for index, name in enumerate(sorted(names)):
        image, label = source.load(index)
        assert np.abs(image.astype(int) - 20 * names.index(name)).max() <= 3  # JPEG
        assert (image.shape, label.shape, label.dtype) == ((8, 12, 3), (8, 12), np.uint8)
    assert open_dataset(dataset, split, base).fingerprint() == source.fingerprint()


def test_the_protocol_names_datasets_that_open(tmp_path):
    for dataset, split in SPLITS:
        write(tmp_path, dataset, split)
    wanted = {
        (recipe.data, split) for recipe in PAPER.values() for split in (recipe.data.train_split, recipe.data.test_split)
    }
    wanted = {(data, split) for data, split in wanted if isinstance(data, Data)}
    assert {data.dataset for data, _ in wanted} >= DATASETS.keys() - {"camvid", "isaid_800_200"}
    for data, split in wanted:
        source = open_split(data, split, tmp_path)
        assert source.load(0)[1].shape == (8, 12)
    with pytest.raises(ValueError, match=r"Data\.classes: 59, but ade20k has 150 classes"):
        open_split(dataclasses.replace(PAPER["pascal_context"].data, dataset="ade20k"), "val", tmp_path)


@pytest.mark.parametrize("dataset", ["ade20k", "cityscapes", "coco_stuff164k", "isaid"])
def test_without_a_list_half_a_copy_is_noticed(tmp_path, dataset):
    write(tmp_path, dataset, "val", listed=False)
    message = refused(dataset, "val", tmp_path)
    assert "a part of the split only (a list val.txt that names its frames makes a part welcome)" in message
    assert f"Found are 2 images and 2 labels, the whole split has {DATASETS[dataset].splits['val'].frames}" in message


@pytest.mark.parametrize(("dataset", "split"), SPLITS)
def test_a_missing_image_is_noticed(tmp_path, dataset, split):
    base = write(tmp_path, dataset, split)
    name = NAMES[dataset][split][0]
    (base / paths(dataset, split, name)[0]).unlink()
    kind = f"1 names in {split}.txt without files" if (dataset, split) in UNLABELLED else "1 labels without an image"
    assert f"{kind} ({name})" in refused(dataset, split, tmp_path)


@pytest.mark.parametrize(("dataset", "split"), [pair for pair in SPLITS if pair not in UNLABELLED])
def test_a_missing_label_is_noticed(tmp_path, dataset, split):
    base = write(tmp_path, dataset, split)
    name = NAMES[dataset][split][0]
    (base / paths(dataset, split, name)[1]).unlink()
    message = refused(dataset, split, tmp_path)
    assert f"1 images without a label ({name})" in message
    made = dataset in ("cityscapes", "coco_stuff164k", "coco_voc", "isaid", "isaid_800_200", "pascal_context")
    assert ("python -m segnext.data convert" in message) == (made or split == "aug")


@pytest.mark.parametrize("dataset", NAMES)
def test_what_is_not_there_is_told_apart_from_what_is_damaged(tmp_path, dataset):
    assert f"{dataset} train: not found under {tmp_path}" in refused(dataset, "train", tmp_path, DataNotFoundError)
    assert "no folder is given" in refused(dataset, "train", None, DataNotFoundError)


@given(st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd")), st.none() | st.sets(st.sampled_from("abcd")))
def test_a_split_opens_only_where_images_labels_and_list_agree(tmp_path_factory, images, labels, listed):
    root = tmp_path_factory.mktemp("ade")
    for folder, names, suffix in (("images", images, "jpg"), ("annotations", labels, "png")):
        (root / folder / "validation").mkdir(parents=True)
        for name in names:
            (root / folder / "validation" / f"{name}.{suffix}").touch()
    if listed is not None:
        (root / "val.txt").write_text("\n".join(sorted(listed, reverse=True)))
    agree = listed and listed <= images & labels
    try:
        source = open_dataset("ade20k", "val", root)
    except DataError as error:
        assert not agree
        for name in (images ^ labels) if listed is None else listed - (images & labels):
            assert name in str(error)  # noqa: PT017 both outcomes are judged
    else:
        assert agree
        assert [source.name(index) for index in range(len(source))] == sorted(listed)


def test_the_label_is_paired_by_the_end_of_the_name_alone(tmp_path):
    """The released loader replaces ".jpg" wherever it stands in the path."""
    names = ("000.jpg.jpg", "x.jpg_labelTrainIds")
    base = write(tmp_path / "a.jpg", "coco_stuff164k", "val", names=names)
    (base / "val.txt").write_text("".join(f"{name}.jpg\n" for name in names))
    source = open_dataset("coco_stuff164k", "val", base)
    assert [source.name(index) for index in range(2)] == ["000.jpg.jpg", "x.jpg_labelTrainIds"]
    source.load(1)


# Label maps.


@pytest.mark.parametrize("dataset", MAPS)
def test_every_label_value_is_a_class_or_ignored_or_refused(tmp_path, dataset):
    values = np.array(sorted(MAPS[dataset]), np.uint8)
    base = write(tmp_path, dataset, "val", np.resize(values, (16, 16)), NAMES[dataset]["val"][:1])
    _, label = open_dataset(dataset, "val", tmp_path).load(0)
    np.testing.assert_array_equal(label.ravel()[: len(values)], [MAPS[dataset][value] for value in values])
    assert set(np.unique(label)) == {*range(len(DATASETS[dataset].classes)), 255}
    path = base / paths(dataset, "val", NAMES[dataset]["val"][0])[1]
    for value in sorted(set(range(256)) - MAPS[dataset].keys())[:: 5 if dataset != "ade20k" else 1]:
        save(path, np.full((16, 16), value, np.uint8))
        with pytest.raises(DataError, match=f"no class has the label value {value};"):
            open_dataset(dataset, "val", tmp_path).load(0)


def test_ade20ks_other_is_ignored_and_255_stays_255(tmp_path):
    """Reducing zero by subtraction alone would make 254 of 255."""
    write(tmp_path, "ade20k", "val", np.array([[0, 1, 150, 255]], np.uint8))
    np.testing.assert_array_equal(open_dataset("ade20k", "val", tmp_path).load(0)[1], [[255, 0, 149, 255]])


def test_cityscapes_licence_plate_is_ignored(tmp_path):
    """Its training id is -1, which a PNG holds as 255."""
    write(tmp_path, "cityscapes", "val", np.array([[-1, 18, 0, 255]]).astype(np.uint8))
    np.testing.assert_array_equal(open_dataset("cityscapes", "val", tmp_path).load(0)[1], [[255, 18, 0, 255]])


def test_cityscapes_files_of_other_kinds_are_not_taken_for_labels(tmp_path):
    base = write(tmp_path, "cityscapes", "train")
    for kind in ("labelIds.png", "color.png", "instanceIds.png", "polygons.json"):
        for name in NAMES["cityscapes"]["train"]:
            (base / "gtFine/train" / f"{name}_gtFine_{kind}").write_bytes(b"")
    (base / "leftImg8bit/train/README").write_text("beside the cities")
    source = open_dataset("cityscapes", "train", tmp_path)
    assert [source.name(index).split("/")[0] for index in range(3)] == ["aachen", "aachen", "ulm"]
    source.load(0)


def test_cityscapes_raw_labels_alone_are_answered_with_the_converter(tmp_path):
    base = write(tmp_path, "cityscapes", "val", listed=False)
    for path in base.glob("gtFine/val/*/*_labelTrainIds.png"):
        path.rename(path.with_name(path.name.replace("labelTrainIds", "labelIds")))
    message = refused("cityscapes", "val", tmp_path)
    assert "2 images without a label" in message
    assert "`python -m segnext.data convert cityscapes --data-root DIR`" in message


@pytest.mark.parametrize(("dataset", "split"), sorted(UNLABELLED))
def test_a_split_for_a_test_server_has_labels_of_255_alone(tmp_path, dataset, split):
    base = write(tmp_path, dataset, split)
    name = NAMES[dataset][split][0]
    blank = base / "gtFine" / split / f"{name}_gtFine_labelTrainIds.png"
    save(blank, np.zeros((8, 12), np.uint8))  # Cityscapes delivers blank ones
    source = open_dataset(dataset, split, tmp_path)
    assert not source.labelled
    image, label = source.load(0)
    assert (label.shape, label.dtype) == (image.shape[:2], np.uint8)
    assert (label == 255).all()


def test_vocs_border_is_ignored_and_its_palette_is_not_colour(tmp_path):
    base = write(tmp_path, "voc2012", "val")
    for name in NAMES["voc2012"]["val"]:
        label = Image.fromarray(np.array([[0, 1, 20, 255]], np.uint8).repeat(8, 0).repeat(3, 1))
        label.putpalette(np.array(display_colours("voc2012") + 235 * ((224, 224, 192),), np.uint8).ravel().tolist())
        label.save(base / "SegmentationClass" / f"{name}.png")
    _, label = open_dataset("voc2012", "val", tmp_path).load(0)
    np.testing.assert_array_equal(label[0, ::3], [0, 1, 20, 255])


def test_voc_trainaug_takes_vocs_own_labels_for_train_and_sbds_for_aug(tmp_path):
    base = write(tmp_path, "voc2012", "train", np.full((8, 12), 1, np.uint8))
    write(tmp_path, "voc2012", "aug", np.full((8, 12), 2, np.uint8))
    for name in NAMES["voc2012"]["train"]:  # SBD has labels for these, too
        save(base / "SegmentationClassAug" / f"{name}.png", np.full((8, 12), 3, np.uint8))
    source = open_dataset("voc2012", "trainaug", tmp_path)
    names = [source.name(index) for index in range(len(source))]
    assert names == sorted(NAMES["voc2012"]["train"] + NAMES["voc2012"]["aug"])
    for index, name in enumerate(names):
        assert (source.load(index)[1] == (1 if name in NAMES["voc2012"]["train"] else 2)).all()
    parts = [open_dataset("voc2012", part, tmp_path) for part in ("train", "aug")]
    assert len({source.fingerprint(), *(part.fingerprint() for part in parts)}) == 3


@pytest.mark.parametrize(
    ("dataset", "other"),
    [("voc2012", "VOC2010"), ("isaid", "iSAID_800_200"), ("isaid_800_200", "iSAID")],
)
def test_another_datasets_folder_with_the_same_files_is_refused(tmp_path, dataset, other):
    """VOC 2010's shorter lists, and tiles of another size, would be trained on as if they were the dataset's own."""
    folder = write(tmp_path, dataset, "train").rename(tmp_path / other)
    message = refused(dataset, "train", folder, DataNotFoundError)
    assert f"not found under {folder}, which is another dataset's folder by its name" in message
    assert len(open_dataset(dataset, "train", folder.rename(tmp_path / "mine"))) == len(NAMES[dataset]["train"])
    (tmp_path / "mine").rename(tmp_path / other)
    write(tmp_path / other, dataset, "train")  # one that lies in it is found
    assert len(open_dataset(dataset, "train", folder)) == len(NAMES[dataset]["train"])


def test_voc_trainval_is_train_and_val(tmp_path):
    for split in ("train", "val", "test", "aug"):
        write(tmp_path, "voc2012", split)
    assert len(open_dataset("voc2012", "trainval", tmp_path)) == 4
    assert len(open_dataset("voc2012", "train", tmp_path)) == 2  # of eight images in JPEGImages


def test_voc_lists_that_name_a_frame_twice_are_refused(tmp_path):
    """A list of all of SBD, as some copies have it in aug.txt, would train on such frames twice."""
    train = NAMES["voc2012"]["train"]
    write(tmp_path, "voc2012", "train")
    write(tmp_path, "voc2012", "aug", names=(*NAMES["voc2012"]["aug"], train[0]))
    assert f"train.txt and aug.txt both name 1 frames ({train[0]})" in refused("voc2012", "trainaug", tmp_path)


def test_voc_without_the_augmented_set_names_the_converter(tmp_path):
    write(tmp_path, "voc2012", "train")
    message = refused("voc2012", "trainaug", tmp_path, DataNotFoundError)
    assert "SegmentationClassAug" in message
    assert "aug.txt" in message
    assert "`python -m segnext.data convert voc2012 --data-root DIR`" in message


def test_context_has_59_classes_and_ignores_the_background(tmp_path):
    """The files hold 0..59; with the background as a class of its own, all others would be off by one."""
    write(tmp_path, "pascal_context", "val", np.array([[0, 1, 59]], np.uint8))
    source = open_dataset("pascal_context", "val", tmp_path)
    np.testing.assert_array_equal(source.load(0)[1], [[255, 0, 58]])
    assert (len(source.classes), source.classes[0], source.classes[58]) == (59, "aeroplane", "wood")


def test_voc_2010_and_2012_in_one_devkit_are_apart(tmp_path):
    write(tmp_path, "voc2012", "train")
    write(tmp_path, "pascal_context", "train")
    assert open_dataset("voc2012", "train", tmp_path).name(0) == "2007_000032"
    assert open_dataset("pascal_context", "train", tmp_path).name(0) == "2008_000002"


def test_cocos_raw_labels_are_neither_read_nor_mistaken(tmp_path):
    """They lie in the same folder, and their ids, with 11 gaps, go up to 181."""
    base = write(tmp_path, "coco_stuff164k", "val", np.array([[0, 170, 255]], np.uint8))
    for name in NAMES["coco_stuff164k"]["val"]:
        save(base / f"annotations/val2017/{name}.png", np.array([[0, 181, 255]], np.uint8))
    source = open_dataset("coco_stuff164k", "val", tmp_path)
    assert len(source) == 2
    np.testing.assert_array_equal(source.load(0)[1], [[0, 170, 255]])
    save(base / "annotations/val2017/000000000139_labelTrainIds.png", np.array([[0, 181, 255]], np.uint8))
    with pytest.raises(DataError, match="no class has the label value 181"):
        source.load(0)


def test_coco_with_vocs_classes_has_the_usual_map(tmp_path):
    """torchvision's references/segmentation; all else is background."""
    # The id of COCO's category that is VOC's class k.
    categories = [0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]
    gaps = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}  # of stuffthingmaps, whose values are category ids less one
    prepared = {value: k for k, value in enumerate(sorted(set(range(182)) - gaps))}
    expected = dict.fromkeys(range(171), 0) | {prepared[c - 1]: k for k, c in enumerate(categories) if k}
    values = np.array([*range(171), 255], np.uint8)
    write(tmp_path, "coco_voc", "val", values[None])
    source = open_dataset("coco_voc", "val", tmp_path)
    np.testing.assert_array_equal(source.load(0)[1][0], [*(expected[value] for value in range(171)), 255])
    assert source.classes == DATASETS["voc2012"].classes


def test_isaid_is_sorted_whatever_the_order_of_list_and_folder(tmp_path, monkeypatch):
    write(tmp_path, "isaid", "train")
    real = os.scandir

    class Reversed:
        def __init__(self, path):
            self._entries = sorted(real(path), key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self._entries)

        def __exit__(self, *_):
            pass

    here = open_dataset("isaid", "train", tmp_path)
    monkeypatch.setattr(os, "scandir", Reversed)
    there = open_dataset("isaid", "train", tmp_path)
    assert [there.name(index) for index in range(3)] == sorted(NAMES["isaid"]["train"])
    assert there.fingerprint() == here.fingerprint()


def test_isaids_labels_in_colours_are_refused(tmp_path):
    base = write(tmp_path, "isaid", "val")
    ((path, *_)) = sorted(base.glob("ann_dir/val/*.png"))
    save(path, np.full((8, 12, 3), (0, 0, 63), np.uint8))
    with pytest.raises(DataError, match="a label of mode RGB, where 8-bit grey or palette is meant"):
        open_dataset("isaid", "val", tmp_path).load(0)


def test_isaids_two_tilings_are_two_datasets(tmp_path):
    for dataset in ("isaid", "isaid_800_200"):
        write(tmp_path, dataset, "val", names=["P0003_0_896_0_896" if dataset == "isaid" else "P0003_0_800_0_800"])
    one, other = (open_dataset(dataset, "val", tmp_path) for dataset in ("isaid", "isaid_800_200"))
    assert one.fingerprint() != other.fingerprint()


# What the declarations say, against the facts.


def test_names_and_colours_are_those_that_were_gathered(shared):
    known = json.loads((shared / "paper" / "classes.json").read_text())
    tables = {
        "ade20k": "ADE20KDataset",
        "cityscapes": "CityscapesDataset",
        "voc2012": "PascalVOCDataset",
        "pascal_context": "PascalContextDataset59",
        "coco_stuff164k": "COCOStuffDataset",
        "isaid": "iSAIDDataset",
        "isaid_800_200": "iSAIDDataset",
        "coco_voc": "PascalVOCDataset",
    }
    assert tables.keys() == DATASETS.keys() - {"camvid"}
    for dataset, table in tables.items():
        names = [name.strip() for name in known[table]["CLASSES"]]  # mmsegmentation's "bed " ends in a blank
        assert list(DATASETS[dataset].classes) == names
        assert [list(colour) for colour in display_colours(dataset)] == known[table]["PALETTE"]


def test_counts_and_label_maps_are_those_that_were_gathered(shared):
    yaml = pytest.importorskip("yaml")
    known = yaml.safe_load((shared / "paper" / "datasets.yaml").read_text())["datasets"]
    known = {each["name"]: each for each in known}
    for name in ("ade20k", "cityscapes", "pascal_context", "coco_stuff164k", "isaid"):
        assert len(DATASETS[name].classes) == known[name]["num_classes"]
        for split, declared in DATASETS[name].splits.items():
            counted = known[name]["splits"]
            assert declared.frames == counted.get(split, counted.get(f"{split}_patches_896_384")), (name, split)
    voc = known["voc2012_aug"]["splits"]
    assert {k: split.frames for k, split in DATASETS["voc2012"].splits.items()} == {
        "aug": voc["aug_extra"],
        **{split: voc[split] for split in ("train", "val", "test", "trainaug", "trainval")},
    }
    paper = known["pascal_context"]["splits"]["paper_says"]
    assert {k: split.paper for k, split in DATASETS["pascal_context"].splits.items()} == paper
    camvid = known["camvid_segnet"]
    assert {k: split.frames for k, split in DATASETS["camvid"].splits.items()} == camvid["splits"]
    assert list(DATASETS["camvid"].classes) == camvid["class_names"]
    assert [list(colour) for colour in display_colours("camvid")] == camvid["palette"]
    prepared = set(known["coco_stuff164k"]["label_map"]["stuffthingmaps_to_train"].values())
    assert DATASETS["coco_stuff164k"].values == {**{k: k for k in prepared}, 255: 255}
    trained = set(known["cityscapes"]["label_map"]["labelIds_to_trainIds"].values())
    assert DATASETS["cityscapes"].values == {**{k: k for k in trained}, 255: 255}


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_declaration_is_consistent(dataset):
    declared = DATASETS[dataset]
    assert set(declared.values.values()) == {*range(len(declared.classes)), 255}
    for split in declared.splits.values():
        assert bool(split.layouts) != bool(split.parts)
        if split.parts:
            assert split.frames == sum(declared.splits[part].frames for part in split.parts)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ADE20K", "ade20k"),
        ("ade", "ade20k"),
        ("CityScapes", "cityscapes"),
        ("VOC2012", "voc2012"),
        ("Pascal VOC 2012", "voc2012"),
        ("Pascal-Context", "pascal_context"),
        ("COCO-Stuff164k", "coco_stuff164k"),
        ("COCO-Stuff 164K", "coco_stuff164k"),
        ("COCO-VOC", "coco_voc"),
        ("iSAID", "isaid"),
        ("iSAID 800/200", "isaid_800_200"),
        ("CamVid", "camvid"),
        ("ImageNet-1K", "imagenet1k"),
        ("imagenet", "imagenet1k"),
    ],
)
def test_usual_spellings_are_understood(text, name):
    assert dataset_name(text) == name


@pytest.mark.parametrize(("text", "near"), [("ADE2K", "ade20k"), ("city", "cityscapes"), ("voc2021", "voc2012")])
def test_a_mistyped_name_gets_the_nearest(text, near):
    with pytest.raises(ValueError, match=f"'{text}' is not a dataset .did you mean {near}.*; there are ade20k, "):
        dataset_name(text)
    with pytest.raises(ValueError, match=f"Data.dataset: '{text}' is not a dataset .did you mean {near}"):
        open_dataset(text, "train")


def test_no_two_datasets_share_a_spelling():
    for dataset in DATASETS.values():
        assert {dataset_name(text) for text in (dataset.name, *dataset.spellings)} == {dataset.name}


def test_datasets_and_check_need_no_torch():
    check = "import sys, segnext.data.__main__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_opening_asks_only_for_names(tmp_path):
    """The files of ADE20K or COCO are opened in seconds because none of them is."""
    base = write(tmp_path, "coco_stuff164k", "val")
    for path in base.rglob("*.*"):
        if path.suffix != ".txt":
            path.unlink()
            path.symlink_to(tmp_path / "nowhere")
    source = FolderSource(DATASETS["coco_stuff164k"], "val", tmp_path)
    assert len(source) == 2
    with pytest.raises(FileNotFoundError):
        source.fingerprint()


def test_lists_may_give_paths_as_converters_write_them(tmp_path):
    base = write(tmp_path, "cityscapes", "val")
    names = [f"leftImg8bit/val/{name}_leftImg8bit.png" for name in NAMES["cityscapes"]["val"]]
    (base / listing("cityscapes", "val")).write_text("\n".join(names))
    assert len(open_dataset("cityscapes", "val", tmp_path)) == 2
    assert FOLDERS["cityscapes"] == base.name


def test_what_the_converters_write_is_what_is_opened(tmp_path):
    coco, isaid = tmp_path / "coco_stuff164k", tmp_path / "iSAID"
    save(coco / "images/val2017/000000000139.jpg", np.zeros((4, 6, 3), np.uint8))
    save(coco / "annotations/val2017/000000000139.png", np.full((4, 6), 181, np.uint8))
    save(isaid / "val/images/P0003.png", np.zeros((900, 700, 3), np.uint8))
    save(isaid / "val/images/P0003_instance_color_RGB.png", np.full((900, 700, 3), (0, 100, 155), np.uint8))
    for dataset in ("coco_stuff164k", "isaid", "isaid_800_200"):
        main(["convert", dataset, "--data-root", str(tmp_path), "--processes", "1"])  # other splits are missed
    (coco / "val.txt").write_text("000000000139\n")
    _, label = open_dataset("coco_stuff164k", "val", tmp_path).load(0)
    assert (label == 170).all()
    tiles = open_dataset("isaid_800_200", "val", tmp_path)
    assert [tiles.name(index) for index in range(len(tiles))] == ["P0003_0_800_0_800", "P0003_100_900_0_800"]
    np.testing.assert_array_equal(np.unique(tiles.load(0)[1]), [15, 255])
    (report,), _ = check(DATASETS["isaid"], tmp_path, ["val"])
    assert report.images == report.labels == 2
    assert report.findings.problems.keys() == {"another number of images than the split has"}
