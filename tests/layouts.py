"""Tiny datasets in the layouts of mmsegmentation's data preparation page, written down here once more, path by path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segnext.data.source import Pixels

HEIGHT, WIDTH = 8, 12

NAMES = {  # as the datasets have them, by split; in an order that is not the sorted one
    "ade20k": {
        "train": ("ADE_train_00000003", "ADE_train_00000001", "ADE_train_00000002"),
        "val": ("ADE_val_00000002", "ADE_val_00000001"),
    },
    "cityscapes": {
        "train": ("ulm/ulm_000001_000019", "aachen/aachen_000001_000019", "aachen/aachen_000000_000019"),
        "val": ("munster/munster_000000_000019", "frankfurt/frankfurt_000000_000294"),
        "test": ("berlin/berlin_000001_000019", "berlin/berlin_000000_000019"),
    },
    "voc2012": {
        "train": ("2007_000039", "2007_000032"),
        "val": ("2007_000033", "2007_000042"),
        "test": ("2008_000006", "2008_000011"),
        "aug": ("2008_000002", "2007_000031"),
    },
    "pascal_context": {"train": ("2008_000003", "2008_000002"), "val": ("2008_000007",)},
    "coco_stuff164k": {
        "train": ("000000000030", "000000000009"),
        "val": ("000000000285", "000000000139"),
    },
    "isaid": {
        "train": ("P0002_512_1408_0_896", "P0002_0_896_0_896", "P0000_0_896_512_1408"),
        "val": ("P0003_0_896_0_896", "P0003_0_896_120_1016"),
    },
    "camvid": {"train": ("0006R0_f00960", "0006R0_f00930"), "val": ("0016E5_07959",), "test": ("Seq05VD_f00000",)},
}
NAMES["isaid_800_200"] = NAMES["isaid"]
NAMES["coco_voc"] = NAMES["coco_stuff164k"]

UNLABELLED = {("cityscapes", "test"), ("voc2012", "test")}

FOLDERS = {  # below a data root
    "ade20k": "ade/ADEChallengeData2016",
    "cityscapes": "cityscapes",
    "voc2012": "VOCdevkit/VOC2012",
    "pascal_context": "VOCdevkit/VOC2010",
    "coco_stuff164k": "coco_stuff164k",
    "coco_voc": "coco_stuff164k",
    "isaid": "iSAID",
    "isaid_800_200": "iSAID_800_200",
    "camvid": "CamVid",
}


def paths(dataset: str, split: str, name: str) -> tuple[str, str]:
    """Where mmsegmentation has the image and the label of a frame, below the dataset's folder; "": no label."""
    match dataset:
        case "ade20k":
            folder = {"train": "training", "val": "validation"}[split]
            return f"images/{folder}/{name}.jpg", f"annotations/{folder}/{name}.png"
        case "cityscapes":
            label = f"gtFine/{split}/{name}_gtFine_labelTrainIds.png"
            return f"leftImg8bit/{split}/{name}_leftImg8bit.png", "" if split == "test" else label
        case "voc2012":
            labels = {"aug": "SegmentationClassAug/", "test": ""}.get(split, "SegmentationClass/")
            return f"JPEGImages/{name}.jpg", labels and f"{labels}{name}.png"
        case "pascal_context":
            return f"JPEGImages/{name}.jpg", f"SegmentationClassContext/{name}.png"
        case "coco_stuff164k" | "coco_voc":
            return f"images/{split}2017/{name}.jpg", f"annotations/{split}2017/{name}_labelTrainIds.png"
        case "isaid" | "isaid_800_200":
            return f"img_dir/{split}/{name}.png", f"ann_dir/{split}/{name}_instance_color_RGB.png"
        case "camvid":
            return f"images/{split}/{name}.jpg", f"labels/{split}/{name}.png"
    raise ValueError(dataset)


def listing(dataset: str, split: str) -> str:
    """The list of a split: VOC's and Context's choose its frames; the others' make a part of it welcome."""
    folders = {"voc2012": "ImageSets/Segmentation/", "pascal_context": "ImageSets/SegmentationContext/"}
    return f"{folders.get(dataset, '')}{split}.txt"


def save(path: Path, pixels: Pixels) -> None:
    """Writes an image, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    """An image that says its number: uint8 (height, width, 3), all of one grey."""
    return np.full((height, width, 3), 20 * number, dtype=np.uint8)


def write(
    root: Path, dataset: str, split: str, label: Pixels | None = None, names: Sequence[str] | None = None, listed=True
) -> Path:
    """A split below a data root: image k is `picture(k)`, and every label is `label`. Returns the dataset's folder."""
    base = root / FOLDERS[dataset]
    names = NAMES[dataset][split] if names is None else names
    label = np.zeros((HEIGHT, WIDTH), np.uint8) if label is None else label
    for number, name in enumerate(names):
        image_path, label_path = paths(dataset, split, name)
        save(base / image_path, picture(number, *label.shape))
        if label_path:
            save(base / label_path, label)
    if listed:
        file = base / listing(dataset, split)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{name}\n" for name in names))
    return base
