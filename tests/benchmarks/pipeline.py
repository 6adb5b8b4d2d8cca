"""The input pipeline against the released one's steps: decode, resize, crop, flip, distort, normalise, pad.

`python tests/benchmarks/pipeline.py [--images N]` in .venv-oracle (`make bench` does it). Their steps are those of
mmcv's and mmseg's wheels with OpenCV. Images are of the datasets' size and file type, smooth with a little noise. One
core, of the CPU's time, interleaved. `in memory`: a dataset as small as CamVid is decoded once and kept, so that every
epoch but the first begins at the resizing; the release decodes in each.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import torch  # noqa: E402
from mmcv_ops import stand_in  # noqa: E402
from published import write  # noqa: E402

from segnext.config import Data  # noqa: E402
from segnext.data.images import read_image, read_label  # noqa: E402
from segnext.data.source import Pixels  # noqa: E402
from segnext.data.stream import AUGMENTATION, generator  # noqa: E402
from segnext.data.transforms import MEAN, STANDARD_DEVIATION, train_sample  # noqa: E402

GOAL = 1.5


@dataclass(frozen=True)
class Kind:
    """Images of a dataset: their size, file type, and how they are trained on."""

    size: tuple[int, int]
    ending: str
    data: Data


KINDS = {
    "camvid": Kind((360, 480), ".png", Data("camvid", 11, (480, 360), (360, 480))),
    "ade20k": Kind((512, 683), ".jpg", Data("ade20k", 150, (2048, 512), (512, 512))),
    "cityscapes": Kind((1024, 2048), ".png", Data("cityscapes", 19, (2048, 1024), (1024, 1024))),
    "isaid": Kind((896, 896), ".png", Data("isaid", 16, (896, 896), (896, 896))),
}
IN_MEMORY = {"camvid"}  # small enough to be kept decoded
LARGE = 1 << 19  # pixels of an image above which a quarter of the images will do


def write_images(folder: Path, kind: Kind, count: int) -> list[tuple[Path, Path]]:
    random = np.random.default_rng(0)
    height, width = kind.size
    pairs = []
    for index in range(count):
        coarse = random.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
        image = np.clip(smooth + random.integers(-2, 3, (height, width, 1)), 0, 255).astype(np.uint8)
        label = np.asarray(Image.fromarray(coarse[..., 0] % kind.data.classes).resize((width, height), 0), np.uint8)
        paths = folder / f"{index}{kind.ending}", folder / f"{index}_label.png"
        Image.fromarray(image).save(paths[0], quality=90)
        Image.fromarray(label).save(paths[1])
        pairs.append(paths)
    return pairs


def released(data: Data) -> Callable[[Path, Path, int], Any]:
    """The release's train pipeline: mmseg 0.x's steps as mmcv and mmseg 1.x have them."""
    import cv2
    import mmcv

    sys.modules["mmcv.ops"] = stand_in()
    from mmcv.transforms import LoadImageFromFile, RandomFlip, RandomResize
    from mmseg.datasets.transforms import LoadAnnotations, PhotoMetricDistortion, RandomCrop

    cv2.setNumThreads(0)
    steps = [
        LoadImageFromFile(),
        LoadAnnotations(),
        RandomResize(scale=data.scale, ratio_range=data.ratio, keep_ratio=True),
        RandomCrop(crop_size=data.crop, cat_max_ratio=data.cat_max_ratio),
        RandomFlip(prob=data.flip),
        PhotoMetricDistortion(),
    ]
    mean, deviation = np.array(MEAN, np.float32), np.array(STANDARD_DEVIATION, np.float32)

    def sample(image: Path, label: Path, number: int) -> Any:
        found: dict[str, Any] = {"img_path": str(image), "seg_map_path": str(label), "seg_fields": []}
        found |= {"label_map": None, "reduce_zero_label": False}
        for step in steps:
            found = step(found)
        pixels = mmcv.imnormalize(found["img"], mean, deviation, to_rgb=True)
        pixels = mmcv.impad(pixels, shape=data.crop, pad_val=0)
        labels = mmcv.impad(found["gt_seg_map"], shape=data.crop, pad_val=255)
        planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return planes, torch.from_numpy(labels[None].astype(np.int64))

    return sample


def ours(data: Data, kept: bool) -> Callable[[Path, Path, int], Any]:
    """From `segnext.data`: what a loader does for one sample, with the decoded pair `kept` in memory or not."""

    def load(image: Path, label: Path) -> tuple[Pixels, Pixels]:
        return read_image(image), read_label(label)

    load = functools.cache(load) if kept else load

    def sample(image: Path, label: Path, number: int) -> Any:
        return train_sample(*load(image, label), data, generator(0, AUGMENTATION, number))

    return sample


def decoded(image: Path, label: Path, number: int) -> tuple[Pixels, Pixels]:
    """The ceiling: nothing but the reading, which takes OpenCV as long where the files are PNG."""
    return read_image(image), read_label(label)


def means(images: int, pairs: list[tuple[Path, Path]], *samples: Callable[[Path, Path, int], Any]) -> list[float]:
    """Seconds of CPU an image. Chance differs from sample to sample and between the two: means, over many."""
    times = [0.0] * len(samples)
    for number in range(-len(pairs), images):  # the first of each image warms up
        for index, sample in enumerate(samples):
            started = time.process_time()
            sample(*pairs[number % len(pairs)], abs(number))
            times[index] += time.process_time() - started if number >= 0 else 0
    return [total / images for total in times]


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--images", type=int, default=200)
    options = parse.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, kind in KINDS.items():
        try:
            theirs = released(kind.data)
        except ImportError as error:
            print(f"skipped: {error}; it runs in .venv-oracle (make oracle sets it up)")
            return
        with tempfile.TemporaryDirectory() as folder:
            pairs = write_images(Path(folder), kind, 8)
            for kept in (False, True) if name in IN_MEMORY else (False,):
                images = options.images // (4 if kind.size[0] * kind.size[1] > LARGE else 1)
                found = means(images, pairs, theirs, ours(kind.data, kept), decoded)
                ratio, what = found[0] / found[1], f"{name}{' in memory' if kept else ''}"
                rows.append([what, *(1 / mean for mean in found), ratio, GOAL])
                print(
                    f"{what:17} released {1 / found[0]:5.1f} images/s   ours {1 / found[1]:5.1f} images/s   "
                    f"ratio {ratio:.2f} (goal {GOAL}; to decode alone {1 / found[2]:5.1f})",
                    flush=True,
                )
    write("pipeline", 1, ["what", "released images/s", "ours images/s", "decoded images/s", "ratio", "goal"], rows)


if __name__ == "__main__":
    main()
