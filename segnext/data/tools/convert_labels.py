"""Label converters of Cityscapes, COCO-Stuff 164k, VOC 2012 with SBD, and Pascal Context (datasets.md, section 2).

A planning function reads only names and writes nothing; each job of its plan decodes and converts one original.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segnext.data.classes import CITYSCAPES_IDS
from segnext.data.datasets import CITYSCAPES, COCO_STUFF164K, PASCAL_CONTEXT, VOC2012
from segnext.data.listing import frame_of, listed
from segnext.data.source import IGNORE, DataError, DataNotFoundError, Pixels, some
from segnext.data.tools.convert_plan import Plan, files_of, find, frames_of, relabel, relabelled, single

# Cityscapes. Official code: cityscapesScripts' labels.py, where all other labels have trainId 255 (or -1).
CITYSCAPES_VALUES: Mapping[int, int] = {
    **dict.fromkeys([*range(34), 255], IGNORE),  # the licence plate's -1 is 255 in a byte
    **{label: train for train, label in enumerate(CITYSCAPES_IDS)},
}
_CITYSCAPES_FRAMES = frames_of(CITYSCAPES, "train", "val")


def cityscapes(root: Path) -> Plan:
    """gtFine/SPLIT/CITY/*_gtFine_labelIds.png (0..33) -> *_gtFine_labelTrainIds.png (0..18, else 255) beside it.

    Official code: mmsegmentation draws the same labels from the polygons with cityscapesScripts. Ours: we recode the
    downloaded label images, which needs no polygons. Test labels are blank and are not converted. Raises
    `DataNotFoundError` if there are no labels.
    """
    base = find(CITYSCAPES.places(root), "cityscapes", "gtFine/train", "gtFine/val")
    plan = Plan("cityscapes", base)
    for split, whole in _CITYSCAPES_FRAMES.items():
        paths = sorted((base / "gtFine" / split).glob("*/[!.]*_gtFine_labelIds.png"))
        for path in paths:
            target = path.with_name(path.name.replace("_labelIds.png", "_labelTrainIds.png"))
            plan.jobs.append(relabel(path, target, CITYSCAPES_VALUES))
        plan.count(f"{split} labels", len(paths), whole)
    if not plan.jobs:
        raise DataNotFoundError(
            f"cityscapes: no */*_gtFine_labelIds.png under {base / 'gtFine'}/{{train,val}}: they are in "
            "gtFine_trainvaltest.zip; where only polygons are left, cityscapesScripts draws them again"
        )
    return plan


# COCO-Stuff 164k.

COCO_GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)  # Official code: unused ones of the 182 ids
COCO_VALUES: Mapping[int, int] = {
    255: IGNORE,
    **{label: train for train, label in enumerate(sorted(set(range(182)) - set(COCO_GAPS)))},
}
_COCO_FRAMES = {f"{split}2017": frames for split, frames in frames_of(COCO_STUFF164K, "train", "val").items()}


def coco_stuff164k(root: Path) -> Plan:
    """annotations/SPLIT/ID.png (stuffthingmaps, 0..181 and 255) -> ID_labelTrainIds.png (0..170 and 255) beside it.

    Every pixel is looked up in the original array: if ids were replaced one after another in place, a new id could be
    mistaken for an original one (12 becomes 11, and so on). An unused id means damage; the release would keep it.
    Raises `DataNotFoundError` if there are no labels.
    """
    base = find(COCO_STUFF164K.places(root), "coco_stuff164k", "annotations/train2017", "annotations/val2017")
    plan = Plan("coco_stuff164k", base)
    for split, whole in _COCO_FRAMES.items():
        paths = [path for path in files_of(base / "annotations" / split, ".png") if "_label" not in path.name]
        for path in paths:
            plan.jobs.append(relabel(path, path.with_name(f"{path.stem}_labelTrainIds.png"), COCO_VALUES))
        plan.count(f"{split} labels", len(paths), whole)
    if not plan.jobs:
        raise DataNotFoundError(
            f"coco_stuff164k: no label maps *.png under {base / 'annotations'}/{{train2017,val2017}}; unzip "
            "stuffthingmaps_trainval2017.zip into annotations/"
        )
    return plan


# Pascal VOC 2012 with the Semantic Boundaries Dataset (SBD).

_VOC_CLASSES = {value: value for value in range(21)}  # SBD masks have no 255
_VOC_LISTS = {f"VOC {split}": frames for split, frames in frames_of(VOC2012, "train", "val").items()}
_VOC_LISTS |= {"SBD train": 8_498, "SBD val": 2_857}
_VOC_AUGMENTED = frames_of(VOC2012, "aug", "trainaug")


def voc2012(root: Path, source: Path | None = None) -> Plan:
    """SBD's dataset/cls/ID.mat -> SegmentationClassAug/ID.png; ImageSets/Segmentation/{aug,trainaug}.txt.

    aug = (SBD train + SBD val) - (VOC train + VOC val), trainaug = aug + VOC train. Ours: the lists are sorted; the
    release leaves them in the order of a Python set. `source` is SBD's folder (benchmark_RELEASE). Raises
    `DataNotFoundError` if VOC's or SBD's files are missing.
    """
    base = find(VOC2012.places(root), "voc2012", "ImageSets/Segmentation/train.txt")
    usual = [home / name for home in (base, base.parent, root) for name in ("VOCaug", "benchmark_RELEASE")]
    homes = [source] if source else usual
    sbd = find([folder for home in homes for folder in (home, home / "dataset")], "voc2012: SBD", "cls")
    plan = Plan("voc2012", base)
    masks = files_of(sbd / "cls", ".mat")
    for path in masks:
        target = base / "SegmentationClassAug" / f"{path.stem}.png"
        plan.jobs.append(single(target, functools.partial(sbd_label, path)))
    sets = base / "ImageSets" / "Segmentation"
    named = {f"VOC {split}": listed(sets / f"{split}.txt") for split in ("train", "val")}
    named |= {f"SBD {split}": listed(sbd / f"{split}.txt") for split in ("train", "val")}
    # A frame that a shortened list leaves out still belongs to VOC and must not enter aug: trainval.txt has them all.
    both = sets / "trainval.txt"
    voc = named["VOC train"].union(named["VOC val"], listed(both) if both.exists() else ())
    aug = named["SBD train"].union(named["SBD val"]) - voc
    lists = {"aug": aug, "trainaug": aug | (named["VOC train"] - named["VOC val"])}
    plan.lists = {sets / f"{name}.txt": sorted(names) for name, names in lists.items()}
    if (sets / "trainaug.txt").exists():  # keep it, even complete beside a shortened train.txt: only aug.txt is read
        del plan.lists[sets / "trainaug.txt"]
    if missing := lists["aug"] - {path.stem for path in masks}:
        plan.problems.append(
            f"{sbd / 'cls'}: no {some(f'{name}.mat' for name in sorted(missing))}, which SBD's lists name"
        )
    if len(voc) < sum(frames_of(VOC2012, "train", "val").values()) and not all(map(Path.exists, plan.lists)):
        plan.remarks.append(
            f"{sets}/{{train,val}}.txt are shortened, and there is no complete trainval.txt: aug.txt may have frames "
            "of VOC's train or val; test only on the shortened val.txt"
        )
    whole = {name: len(names) for name, names in named.items()} == _VOC_LISTS
    for name, expected in _VOC_AUGMENTED.items():
        if (sets / f"{name}.txt").exists():  # `convert` keeps it and compares its names
            continue
        plan.count(f"{name}.txt frames", len(lists[name]), expected)
        if whole and len(lists[name]) < expected:
            plan.problems.append(
                f"{name}.txt would name {len(lists[name]):,} frames, not {expected:,}: a list is damaged"
            )
    return plan


def sbd_label(path: Path) -> Pixels:
    """The mask of SBD's .mat file, GTcls.Segmentation: uint8 (H, W), 0..20. Raises `DataError` if it is damaged."""
    structure = _matlab(path, "GTcls")
    try:
        label = structure["Segmentation"].item()
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise DataError(f"{path}: GTcls holds no Segmentation; put the original back") from error
    return relabelled(label, _VOC_CLASSES, str(path))


# Pascal Context.

# Official code: the ids of the 60 classes among 459: background (0), then sorted, which is the order of their names.
_CONTEXT_IDS = (
    "0 2 9 18 19 22 23 25 31 33 34 44 45 46 59 65 68 72 80 85 98 104 105 113 115 144 158 159 "
    "162 187 189 207 220 232 258 259 260 284 295 296 308 324 326 347 349 354 355 360 366 368 397 415 416 420 "
    "424 427 440 445 454 458"
)
CONTEXT_VALUES: Mapping[int, int] = {label: train for train, label in enumerate(map(int, _CONTEXT_IDS.split()))}
_CONTEXT_ALL_VALUES = {**dict.fromkeys(range(460), 0), **CONTEXT_VALUES}  # the other classes are background
_CONTEXT_FRAMES = frames_of(PASCAL_CONTEXT, "train", "val")
_CONTEXT_JSON = "trainval_merged.json"


def pascal_context(root: Path, source: Path | None = None) -> Plan:
    """VOC2010's trainval_merged.json, or trainval/ID.mat -> SegmentationClassContext/ID.png, 0..59, and split lists.

    Official code: mmsegmentation reads the labels from the JSON file through the Detail API; here they are read
    directly. Without the JSON file the .mat LabelMaps are used. Their masks differ from the JSON's (mmsegmentation pull
    request 474), which the plan says in a remark; their splits are VOC 2010's own. `source` is the JSON file or the
    folder of .mat files. Raises `DataNotFoundError` if there is neither.
    """
    base = find(PASCAL_CONTEXT.places(root), "pascal_context", "JPEGImages")
    places = [source] if source else [base / _CONTEXT_JSON, base.parent / _CONTEXT_JSON, base / "trainval"]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise DataNotFoundError(f"pascal_context: no labels: there is neither {' nor '.join(map(str, places))}")
    labels = base / "SegmentationClassContext"
    # This note prevents labels of both kinds in one folder.
    origin = labels / ".made-from", f"{_CONTEXT_JSON if found.is_file() else '.mat LabelMaps'}\n"
    plan = Plan("pascal_context", base, origin=origin)
    sets = base / "ImageSets" / "SegmentationContext"
    splits: dict[str, list[str]] = defaultdict(list)
    if found.is_file():
        for frame, annotations in _detail(found):
            name = Path(frame["file_name"]).stem
            splits[frame["phase"]].append(name)
            decode = functools.partial(detail_label, (frame["height"], frame["width"]), annotations, f"{found}: {name}")
            plan.jobs.append(single(labels / f"{name}.png", decode))
    else:
        masks = files_of(found, ".mat")
        for path in masks:
            plan.jobs.append(single(labels / f"{path.stem}.png", functools.partial(context_label, path)))
        present = {path.stem for path in masks}
        for split in _CONTEXT_FRAMES:
            listing = base / "ImageSets" / "Main" / f"{split}.txt"
            if listing.is_file():
                # Only VOC's lists in Main may have a flag after the name: "2008_000002 -1".
                splits[split] = sorted({frame_of(line.split()[0]) for line in listed(listing)} & present)
        if len(splits) < 2:
            plan.remarks.append(
                f"no split lists are written: {base / 'ImageSets' / 'Main'} has no train.txt and val.txt"
            )
        plan.remarks.append(
            f"the labels of .mat files differ from those of {_CONTEXT_JSON}, which mmsegmentation uses: a score on "
            "them is not to be compared with the paper's to the digit"
        )
    if not plan.jobs:
        raise DataNotFoundError(f"pascal_context: {found} holds no label")
    for split, whole in _CONTEXT_FRAMES.items():
        if split in splits:
            plan.lists[sets / f"{split}.txt"] = sorted(splits[split])
            plan.count(f"{split} frames", len(splits[split]), whole)
    return plan


def context_label(path: Path) -> Pixels:
    """A LabelMap with its 459 ids mapped to the 60 classes: uint8 (H, W), 0 = background. Raises `DataError`."""
    return relabelled(_matlab(path, "LabelMap"), _CONTEXT_ALL_VALUES, str(path))


def _detail(path: Path) -> Iterator[tuple[dict[str, Any], list[tuple[int, Any]]]]:
    """The train and val frames of PASCAL in Detail, each with its (category, run-length code) pairs, last on top."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        # By id, as in the Detail API: if two annotations share an id, the later one counts.
        segments = {segment["id"]: segment for segment in content["annos_segmentation"]}
        by_frame = defaultdict(list)
        for segment in segments.values():
            by_frame[segment["image_id"]].append((segment["category_id"], segment["segmentation"]))
        frames = [frame for frame in content["images"] if frame["phase"] in _CONTEXT_FRAMES]
        for frame in frames:
            frame["file_name"], frame["height"], frame["width"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataNotFoundError(
            f"{path} is not PASCAL in Detail's {_CONTEXT_JSON} ({error!r}); fetch it again"
        ) from error
    return ((frame, by_frame[frame["image_id"]]) for frame in frames)


def detail_label(size: tuple[int, int], annotations: Sequence[tuple[int, Any]], name: str) -> Pixels:
    """Paint the masks of (category, run-length code) over each other, as getMask of the Detail API does.

    Returns uint8 `size` = (H, W), 0..59, with 0 outside all masks. Raises `DataError` for an impossible category or
    code.
    """
    label = np.zeros(size, dtype=np.int64)
    for category, code in annotations:
        try:
            mask = run_lengths_decoded(code["counts"], tuple(code["size"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{name}: a mask cannot be decoded ({error}); fetch {_CONTEXT_JSON} again") from error
        if mask.shape != size:
            raise DataError(f"{name}: a mask of {mask.shape}, but the image has {size}; fetch {_CONTEXT_JSON} again")
        label[mask] = category
    return relabelled(label, CONTEXT_VALUES, name)


def run_lengths_decoded(counts: str | Sequence[int], size: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Decode COCO's run-length code of a mask: bool (H, W). Raises `ValueError` if the runs do not fill it.

    Runs go down the columns and alternate, zeros first. In text form a character, counted from "0", has 5 bits of a
    number (low bits first, two's complement), and its sixth bit says that more follow. From the fourth run on, the
    number is the difference to the run two before.
    """
    if isinstance(counts, str):
        lengths: list[int] = []
        value = shift = 0
        for character in counts:
            bits = ord(character) - 48
            value |= (bits & 31) << shift
            shift += 5
            if not bits & 32:
                value -= (bits & 16) << (shift - 4)
                lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
                value = shift = 0
        counts = lengths
    height, width = size
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise ValueError(f"runs of {sum(counts)} pixels for {height} x {width}")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def _matlab(path: Path, variable: str) -> Any:
    from scipy.io import loadmat  # slow to import, and only VOC and Context need it

    try:
        return loadmat(path)[variable]
    except KeyError as error:
        raise DataError(f"{path}: it contains no {variable}; put the original back") from error
    except Exception as error:  # scipy can raise anything for a damaged file
        raise DataError(f"{path}: cannot be read as a MATLAB file ({error}); put the original back") from error
