"""The released pipelines, step by step: what an image goes through before the model sees it (datasets.md, section 3).

Images are uint8 RGB (H, W, 3), labels uint8 (H, W) with 255 = ignore; no step writes into its input. The release works
with OpenCV on uint8; these steps round and truncate where it does, and equal it to one grey level.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from segnext.config import Data
from segnext.data.source import IGNORE, Pixels

# Official code: img_norm_cfg, red, green, blue, in grey levels.
MEAN = (123.675, 116.28, 103.53)
STANDARD_DEVIATION = (58.395, 57.12, 57.375)

# Official code: PhotoMetricDistortion's defaults.
BRIGHTNESS = 32.0  # grey levels, either way
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE = (-18, 17)  # steps of 2 degrees, both ends included: the release draws randint(-18, 18)

CROP_TRIES = 10  # Official code: RandomCrop.__call__, redraws of a crop that one class fills

_LEVELS = np.arange(256)

_Integers: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float32]

_MEAN = np.array(MEAN, dtype=np.float32)[:, None, None]
_SCALE = (1 / np.array(STANDARD_DEVIATION)).astype(np.float32)[:, None, None]


def train_sample(image: Pixels, label: Pixels, data: Data, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One training sample: resized by a random ratio, cropped, flipped, distorted, normalised, padded.

    Official code: the train pipeline. All chance comes from `random`.
    (H, W, 3), (H, W) -> float32 (3, h, w), uint8 (h, w) where (h, w) is `data.crop`.
    """
    scale = scaled(data.scale, random.uniform(*data.ratio))
    height, width = fitted_size(label.shape[0], label.shape[1], scale)
    image, label = resize_image(image, height, width), resize_label(label, height, width)
    window = crop_window(label, data.crop, data.cat_max_ratio, random)
    image, label = image[window], label[window]
    if random.random() < data.flip:
        image, label = image[:, ::-1], label[:, ::-1]
    if data.photometric:
        image = distort(image, random)
    return pad(normalise(image), torch.from_numpy(label.copy()), data.crop)


def test_size(height: int, width: int, data: Data, ratio: float = 1.0) -> tuple[int, int]:  # noqa: PT028 no pytest test
    """The (height, width) in pixels at which an image is tested: fitted into scale x ratio, then up to multiples.

    Official code: Resize(keep_ratio) and ResizeToMultiple of the test pipeline.
    """
    height, width = fitted_size(height, width, scaled(data.scale, ratio))
    multiple = data.test_multiple
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def test_image(image: Pixels, data: Data, ratio: float = 1.0, flip: bool = False) -> Tensor:  # noqa: PT028
    """One image as it is tested: (H, W, 3) -> float32 (1, 3, h, w) where (h, w) is its `test_size`.

    Official code: the image is resampled twice, to the fitted size and from there to the multiple.
    """
    height, width = image.shape[:2]
    image = resize_image(image, *fitted_size(height, width, scaled(data.scale, ratio)))
    image = resize_image(image, *test_size(height, width, data, ratio))
    return normalise(image[:, ::-1] if flip else image)[None]


def scaled(scale: tuple[int, int], ratio: float) -> tuple[int, int]:
    """A scale in pixels times a ratio, truncated (official code: Resize.random_sample_ratio and MultiScaleFlipAug)."""
    return int(scale[0] * ratio), int(scale[1] * ratio)


def fitted_size(height: int, width: int, scale: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) of this shape within a scale's long and short edge, in pixels (mmcv imrescale)."""
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return int(height * factor + 0.5), int(width * factor + 0.5)


def resize_image(image: Pixels, height: int, width: int) -> Pixels:
    """Bilinear without antialias, as OpenCV's INTER_LINEAR: (H, W, 3) -> (height, width, 3)."""
    if image.shape[:2] == (height, width):
        return image
    # In float32: torch's uint8 kernel rounds otherwise, and differently from one CPU to another.
    planes = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    planes = functional.interpolate(planes, (height, width), mode="bilinear", align_corners=False)
    resized: Pixels = planes[0].permute(1, 2, 0).round_().to(torch.uint8).numpy()
    return resized


def resize_label(label: Pixels, height: int, width: int) -> Pixels:
    """Nearest, as OpenCV's INTER_NEAREST: row y comes from row floor(y * H / height). (H, W) -> (height, width)."""
    if label.shape == (height, width):
        return label
    rows, columns = (_nearest(old, new) for old, new in zip(label.shape, (height, width), strict=True))
    return label[rows[:, None], columns]


def crop_window(
    label: Pixels, crop: tuple[int, int], cat_max_ratio: float, random: np.random.Generator
) -> tuple[slice, slice]:
    """Where to crop (H, W) to at most `crop` = (height, width) pixels; a smaller image stays whole.

    Official code: RandomCrop. A window with one class only, or with one that fills `cat_max_ratio` or more of what is
    not ignored, is drawn anew, up to 10 times; the last is taken as it comes. A ratio of 1 accepts any window.
    """
    height, width = (min(side, whole) for side, whole in zip(crop, label.shape, strict=True))
    margins = (label.shape[0] - height, label.shape[1] - width)

    def draw() -> tuple[slice, slice]:
        top, left = (int(random.integers(margin + 1)) for margin in margins)
        return slice(top, top + height), slice(left, left + width)

    window = draw()
    if cat_max_ratio < 1 and any(margins):  # without a margin there is no other window
        for _ in range(CROP_TRIES):
            counts = np.bincount(label[window].ravel(), minlength=IGNORE + 1)[:IGNORE]
            if np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < cat_max_ratio:
                break
            window = draw()
    return window


def distort(image: Pixels, random: np.random.Generator) -> Pixels:
    """Brightness, contrast, saturation, hue, each with probability 1/2; contrast before or after the two in HSV.

    (H, W, 3) -> (H, W, 3). Official code: PhotoMetricDistortion; unlike SSD's it never swaps channels.
    """

    def chosen() -> bool:
        return bool(random.integers(2))

    if chosen():
        image = brightness(image, random.uniform(-BRIGHTNESS, BRIGHTNESS))
    contrast_first = chosen()
    if contrast_first and chosen():
        image = contrast(image, random.uniform(*CONTRAST))
    if chosen():
        image = saturation(image, random.uniform(*SATURATION))
    if chosen():
        image = hue(image, int(random.integers(*HUE, endpoint=True)))
    if not contrast_first and chosen():
        image = contrast(image, random.uniform(*CONTRAST))
    return image


def brightness(image: Pixels, shift: float) -> Pixels:
    """Adds `shift` grey levels, clips, truncates: (H, W, 3) -> (H, W, 3)."""
    return _converted(image, shift=shift)


def contrast(image: Pixels, factor: float) -> Pixels:
    """Multiplies by `factor` (about zero, not about the mean), clips, truncates: (H, W, 3) -> (H, W, 3)."""
    return _converted(image, factor=factor)


def saturation(image: Pixels, factor: float) -> Pixels:
    """Multiplies the S of HSV by `factor`, clips, truncates: (H, W, 3) -> (H, W, 3)."""
    hues, saturations, values = hsv_from_rgb(image)
    return rgb_from_hsv(hues, _converted(saturations, factor=factor), values)


def hue(image: Pixels, shift: int) -> Pixels:
    """Adds `shift` steps of 2 degrees to the H of HSV, around the circle of 180: (H, W, 3) -> (H, W, 3)."""
    hues, saturations, values = hsv_from_rgb(image)
    turned = ((_LEVELS + shift) % 180).astype(np.uint8)
    return rgb_from_hsv(turned[hues], saturations, values)


class HSV(NamedTuple):
    """Hue 0..179, saturation and value 0..255: uint8 (H, W) each."""

    hue: Pixels
    saturation: Pixels
    value: Pixels


def hsv_from_rgb(image: Pixels) -> HSV:
    """(H, W, 3) -> three of (H, W): V the largest channel, S = 255 (V - least) / V, H in steps of 2 degrees.

    As OpenCV's uint8 conversion, in the same fixed-point arithmetic.
    """
    red, green, blue = (np.ascontiguousarray(image[..., channel]).astype(np.int32) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    # The distance along the circle in sixths of it times spread, counted from the largest channel.
    position = np.where(
        value == red,
        green - blue,
        np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hues = _scaled_down(position * _fixed_point(180, 6)[spread])
    hues += 180 * (hues < 0)
    saturations = _scaled_down(spread * _fixed_point(255, 1)[value])
    return HSV(hues.astype(np.uint8), saturations.astype(np.uint8), value.astype(np.uint8))


def rgb_from_hsv(hues: Pixels, saturations: Pixels, values: Pixels) -> Pixels:
    """Three of (H, W) -> (H, W, 3): back from `hsv_from_rgb`, in float32, truncated as OpenCV does (measured).

    At least 98 % of values equal OpenCV's; its own order of roundings would give the others.
    """
    depths = np.float32(1 / 255) * saturations
    planes = values * (1 - depths * _channel_offsets()[:, hues])  # (3, H, W)
    return planes.astype(np.uint8).transpose(1, 2, 0)


def normalise(image: Pixels) -> Tensor:
    """(value - mean) / standard deviation of its channel: uint8 (H, W, 3) -> float32 (3, H, W)."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy((planes - _MEAN) * _SCALE)


def pad(image: Tensor, label: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Fills (3, H, W) and (H, W) up to `size` = (height, width) at the bottom and right: image 0, label 255."""
    bottom, right = size[0] - label.shape[0], size[1] - label.shape[1]
    if bottom == 0 and right == 0:
        return image, label
    margin = (0, right, 0, bottom)
    return functional.pad(image, margin, value=0.0), functional.pad(label, margin, value=IGNORE)


def _nearest(old: int, new: int) -> npt.NDArray[np.intp]:
    """For each new row, the old one it comes from: rounded down in double precision, as OpenCV does it."""
    sources: npt.NDArray[np.intp] = np.floor(np.arange(new) * (1 / (new / old))).astype(np.intp)
    return sources.clip(max=old - 1)


def _converted(levels: Pixels, factor: float = 1.0, shift: float = 0.0) -> Pixels:
    """levels * factor + shift, clipped and truncated (official code: PhotoMetricDistortion.convert, in float32)."""
    changed: _Floats = levels * np.float32(factor) + np.float32(shift)
    return np.clip(changed, 0, 255, out=changed).astype(np.uint8)


_FRACTION_BITS = 12


@functools.cache
def _fixed_point(numerator: int, divisor: int) -> _Integers:
    """numerator / (divisor * level) for each level, in 12 fractional bits: OpenCV divides by table."""
    quotients = (numerator << _FRACTION_BITS) / (divisor * np.maximum(_LEVELS, 1))
    table: _Integers = np.where(_LEVELS > 0, np.rint(quotients), 0).astype(np.int32)
    return table


def _scaled_down(fixed: _Integers) -> _Integers:
    rounded: _Integers = (fixed + (1 << _FRACTION_BITS - 1)) >> _FRACTION_BITS
    return rounded


@functools.cache
def _channel_offsets() -> _Floats:
    """For each hue, how far red, green and blue lie below V, as a part of S * V: float32 (3, 256)."""
    sixths = (_LEVELS / 30 + np.array([[5], [3], [1]])) % 6
    offsets: _Floats = np.clip(np.minimum(sixths, 4 - sixths), 0, 1).astype(np.float32)
    return offsets
