"""The converter of iSAID: colour masks to classes, and aerial images into tiles (datasets.md, section 2)."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from segnext.data.datasets import ISAID, ISAID_800_200
from segnext.data.folders import FolderDataset
from segnext.data.images import UNREADABLE, Original, archive, read_colours, read_image, read_size
from segnext.data.source import IGNORE, DataError, DataNotFoundError, Pixels
from segnext.data.tools.convert_plan import Job, Made, Plan, find

# (patch, overlap) of each dataset. Official code: the PyTorch and the Jittor release.
TILINGS = {ISAID.name: (896, 384), ISAID_800_200.name: (800, 200)}
_IMAGES = {"train": 1_411, "val": 458}
_PUBLISHED = {ISAID.name: {"train": 33_978, "val": 11_644}, ISAID_800_200.name: {"train": 28_029, "val": 9_512}}
_NAME = re.compile(r"(P\d+)(_instance_color_RGB)?\.png")


def isaid(root: Path, source: Path | None = None, dataset: FolderDataset = ISAID) -> Plan:
    """Images and colour masks -> img_dir/SPLIT/P####_y0_y1_x0_x1.png, ann_dir/SPLIT/..._instance_color_RGB.png (0..15).

    Originals may be anywhere below SPLIT, unpacked or in the downloaded zip archives. Each tiling is a dataset in its
    own folder. Test images have no labels and are not converted. A split with all its images gets a list, SPLIT.txt, so
    that an incomplete copy of its tiles is noticed. `source` is the folder of the originals. Raises `DataNotFoundError`
    if there are none.
    """
    patch, overlap = TILINGS[dataset.name]
    (name,) = dataset.folders
    places = [source] if source else [root / "iSAID", root / "isaid", root]
    base = find(places, dataset.name, "train", "val")
    in_place = dataset is ISAID and source is None
    plan = Plan(dataset.name, base if in_place else root if root.name == name else root / name)
    for split, whole in _IMAGES.items():
        images, masks = _isaid_originals(base / split)
        for number in sorted(images.keys() ^ masks.keys()):
            lone, kind = (images[number], "mask") if number in images else (masks[number], "image")
            plan.problems.append(f"{lone}: it has no {kind} under {base / split}")
        tiles: list[str] = []
        released = 0
        for number in sorted(images.keys() & masks.keys()):
            try:
                size = read_size(images[number])
            except DataError as error:
                plan.problems.append(str(error))
                continue
            files = isaid_files(plan.folder, split, number, size, patch, overlap)
            convert = functools.partial(isaid_tiles, images[number], masks[number], files, size, patch)
            plan.jobs.append(Job(tuple(itertools.chain(*files.values())), convert))
            tiles += [image.stem for image, _ in files.values()]
            released += isaid_released(number, size, patch, overlap)
        plan.count(f"{split} images", len(images), whole)
        remark = f"{split} tiles: {len(tiles):,}"
        if len(images) == whole:
            plan.lists[plan.folder / f"{split}.txt"] = sorted(tiles)
            published = _PUBLISHED[dataset.name][split]
            remark += f"; the release's rule makes {released:,} of these images, and it published {published:,}"
        plan.remarks.append(remark)
    if not plan.jobs and not plan.problems:
        raise DataNotFoundError(
            f"{dataset.name}: no P####.png with its P####_instance_color_RGB.png under {base}/{{train,val}}, nor zip "
            "archives of them; images are those of DOTA-v1.0, masks iSAID's Semantic_masks"
        )
    return plan


def starts(side: int, patch: int, overlap: int) -> list[int]:
    """Where tiles along `side` pixels begin: every `patch - overlap`, with the last shifted to end at the border.

    Official code: the same positions; several shifted tiles can coincide there and overwrite each other.
    """
    return [*range(0, side - patch, patch - overlap), side - patch] if side > patch else [0]


def isaid_files(
    folder: Path, split: str, number: str, size: tuple[int, int], patch: int, overlap: int
) -> dict[tuple[int, int], tuple[Path, Path]]:
    """Image and label file of every tile of image P#### with `size` = (H, W), by the tile's (top, left)."""
    files = {}
    for top, left in itertools.product(*(starts(side, patch, overlap) for side in size)):
        tile = f"{number}_{top}_{top + patch}_{left}_{left + patch}"
        image = folder / "img_dir" / split / f"{tile}.png"
        files[top, left] = (image, folder / "ann_dir" / split / f"{tile}_instance_color_RGB.png")
    return files


def isaid_tiles(
    image: Original,
    mask: Original,
    files: Mapping[tuple[int, int], tuple[Path, Path]],
    size: tuple[int, int],
    patch: int,
) -> Made:
    """Cut an image and its mask into tiles of `patch` x `patch`, padded at the right and bottom with 0 and 255.

    Ours: every tile has that size. The PyTorch release does not pad a side if the other equals the patch (and cuts a
    thin tile from a negative offset). The Jittor release does not cut an image unless both sides exceed the patch, and
    leaves out P1527 and P1530. Raises `DataError` if a file is damaged or the sizes differ.
    """
    picture, colours = read_image(image), read_colours(mask)
    for original, pixels in ((image, picture), (mask, colours)):
        if pixels.shape[:2] != size:
            sizes = f"{pixels.shape[1]}x{pixels.shape[0]}, but its image's header says {size[1]}x{size[0]}"
            raise DataError(f"{original}: the picture is {sizes}; put the original pair back")
    label, unknown = isaid_label(colours)
    remark = f"{mask}: {unknown:,} pixels have a colour of no class and count as background" if unknown else ""

    def tiles() -> Iterator[tuple[Path, Pixels]]:
        for (top, left), (image_file, label_file) in files.items():
            window = (slice(top, top + patch), slice(left, left + patch))
            yield image_file, _padded(picture[window], patch, 0)
            yield label_file, _padded(label[window], patch, IGNORE)

    return Made(tiles(), remark)


def isaid_label(colours: Pixels) -> tuple[Pixels, int]:
    """The classes of a colour mask, uint8 RGB (H, W, 3) -> uint8 (H, W), 0..15, and the number of unknown pixels.

    Official code: a colour without a class is background.
    """
    red, green, blue = (colours[..., channel] for channel in range(3))
    table = np.full(1 << 16, IGNORE, dtype=np.uint8)  # indexed by green and blue, because no class has any red
    for label, (_, class_green, class_blue) in enumerate(ISAID.colours.values()):
        table[class_green << 8 | class_blue] = label
    label = table[green.astype(np.uint16) << 8 | blue]
    unknown = (red != 0) | (label == IGNORE)
    label[unknown] = 0
    return label, int(unknown.sum())


def isaid_released(number: str, size: tuple[int, int], patch: int, overlap: int) -> int:
    """The number of tiles of image P#### in the release with this tiling, for comparison with published counts."""
    if patch == 800 and number in ("P1527", "P1530"):
        return 0
    if patch == 800 and min(size) <= patch:
        return 1
    return math.prod(len(starts(side, patch, overlap)) for side in size)


def _isaid_originals(folder: Path) -> tuple[dict[str, Original], dict[str, Original]]:
    """The images and the masks below a folder, by P####; unpacked files take precedence over archives."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".zip"))
    found = [Original(path) for path in paths if path.suffix == ".png"]
    for path in paths:
        if path.suffix == ".zip":
            try:
                found += [Original(path, member) for member in archive(path).namelist()]
            except UNREADABLE as error:
                raise DataNotFoundError(f"{path}: cannot be read as an archive ({error}); fetch it again") from error
    images: dict[str, Original] = {}
    masks: dict[str, Original] = {}
    for original in found:
        if match := _NAME.fullmatch((original.member or original.path.name).rpartition("/")[2]):
            (masks if match[2] else images).setdefault(match[1], original)
    return images, masks


def _padded(pixels: Pixels, side: int, fill: int) -> Pixels:
    if pixels.shape[:2] == (side, side):
        return pixels
    padded = np.full((side, side, *pixels.shape[2:]), fill, dtype=np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    return padded
