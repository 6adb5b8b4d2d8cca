"""The steps of the released train and test pipelines (datasets.md, section 3).

Images are uint8 RGB (H, W, 3), labels uint8 (H, W) with 255 = ignore; no step modifies its input. Like the release,
these steps use OpenCV on uint8, and they give the same pixels.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segnext.config import Data
from segnext.data.source import IGNORE, Pixels

# Official code: img_norm_cfg, red, green, blue, in grey levels.
MEAN = (123.675, 116.28, 103.53)
STANDARD_DEVIATION = (58.395, 57.12, 57.375)

# Official code: PhotoMetricDistortion's defaults.
BRIGHTNESS = 32.0  # grey levels, up or down
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE = (-18, 17)  # steps of 2 degrees, both ends included: the release draws randint(-18, 18)

CROP_TRIES = 10  # Official code: RandomCrop.__call__, redraws of a crop that one class dominates

_Floats: TypeAlias = npt.NDArray[np.float32]

# Every step except resizing and the conversion to HSV and back is a lookup table by grey level (and channel).
_LEVELS = np.arange(256, dtype=np.uint8)
_NORMALISED = (_LEVELS[:, None] - np.array(MEAN, np.float32)) * (1 / np.array(STANDARD_DEVIATION)).astype(np.float32)

cv2.setNumThreads(0)  # each loader process uses only its own core
cv2.ipp.setUseIPP(False)  # Intel's kernels, which other processors do not have


def train_sample(image: Pixels, label: Pixels, data: Data, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One training sample: resized by a random ratio, cropped, flipped, distorted, normalised, padded.

    Official code: the train pipeline. All randomness comes from `random`.
    (H, W, 3), (H, W) -> float32 (3, h, w), uint8 (h, w) where (h, w) is `data.crop`.
    """
    scale = scaled(data.scale, random.uniform(*data.ratio))
    height, width = fitted_size(label.shape[0], label.shape[1], scale)
    image, label = resize_image(image, height, width), resize_label(label, height, width)
    window = crop_window(label, data.crop, data.cat_max_ratio, random)
    image, label = image[window], label[window]
    if random.random() < data.flip:
        image, label = cv2.flip(image, 1), cv2.flip(label, 1)
    if data.photometric:
        image = distort(image, random)
    return pad(normalise(image), torch.from_numpy(label.copy()), data.crop)


def test_size(height: int, width: int, data: Data, ratio: float = 1.0) -> tuple[int, int]:  # noqa: PT028 no pytest test
    """The (height, width) in pixels at which an image is tested: fitted into scale x ratio, then rounded to multiples.

    Official code: Resize(keep_ratio) and ResizeToMultiple of the test pipeline.
    """
    height, width = fitted_size(height, width, scaled(data.scale, ratio))
    multiple = data.test_multiple
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def test_image(image: Pixels, data: Data, ratio: float = 1.0, flip: bool = False) -> Tensor:  # noqa: PT028
    """An image prepared for testing: (H, W, 3) -> float32 (1, 3, h, w) where (h, w) is its `test_size`."""
    image = tested_pixels(image, data, ratio)
    return normalise(cv2.flip(image, 1) if flip else image)[None]


def tested_pixels(image: Pixels, data: Data, ratio: float) -> Pixels:
    """An image at its `test_size`, not yet normalised: (H, W, 3) -> (h, w, 3).

    Official code: the image is resampled twice, to the fitted size and then to the multiple.
    """
    height, width = image.shape[:2]
    image = resize_image(image, *fitted_size(height, width, scaled(data.scale, ratio)))
    return resize_image(image, *test_size(height, width, data, ratio))


def scaled(scale: tuple[int, int], ratio: float) -> tuple[int, int]:
    """A scale in pixels times a ratio, truncated (official code: Resize.random_sample_ratio, MultiScaleFlipAug)."""
    return int(scale[0] * ratio), int(scale[1] * ratio)


def fitted_size(height: int, width: int, scale: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) with this aspect within a scale's long and short edge, in pixels (mmcv imrescale)."""
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return int(height * factor + 0.5), int(width * factor + 0.5)


def resize_image(image: Pixels, height: int, width: int) -> Pixels:
    """Resize bilinearly without antialiasing: (H, W, 3) -> (height, width, 3)."""
    return _resized(image, height, width, cv2.INTER_LINEAR)


def resize_label(label: Pixels, height: int, width: int) -> Pixels:
    """Resize by nearest neighbour; row y is row floor(y * H / height), in doubles: (H, W) -> (height, width)."""
    return _resized(label, height, width, cv2.INTER_NEAREST)


def _resized(pixels: Pixels, height: int, width: int, interpolation: int) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    resized: Pixels = cv2.resize(pixels, (width, height), interpolation=interpolation)
    return resized


def crop_window(
    label: Pixels, crop: tuple[int, int], cat_max_ratio: float, random: np.random.Generator
) -> tuple[slice, slice]:
    """Where to crop (H, W) to at most `crop` = (height, width) pixels; a smaller image is not cropped.

    Official code: RandomCrop. A window with only one class, or with one that covers `cat_max_ratio` or more of the
    pixels that are not ignored, is drawn again, up to 10 times; the last is accepted in any case. A ratio of 1 accepts
    any window.
    """
    height, width = (min(side, whole) for side, whole in zip(crop, label.shape, strict=True))
    margins = (label.shape[0] - height, label.shape[1] - width)

    def draw() -> tuple[slice, slice]:
        top, left = (int(random.integers(margin + 1)) for margin in margins)
        return slice(top, top + height), slice(left, left + width)

    window = draw()
    if cat_max_ratio < 1 and any(margins):  # without a margin there is only one window
        for _ in range(CROP_TRIES):
            counts = cv2.calcHist([label[window]], [0], None, [IGNORE], [0, IGNORE])  # without ignored pixels
            if np.count_nonzero(counts) > 1 and float(counts.max()) / float(counts.sum()) < cat_max_ratio:
                break
            window = draw()
    return window


def distort(image: Pixels, random: np.random.Generator) -> Pixels:
    """Change brightness, contrast, saturation and hue, each with probability 1/2; contrast comes second or last.

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
    """Add `shift` grey levels, clip, truncate: (H, W, 3) -> (H, W, 3)."""
    return _looked_up(image, _converted(shift=shift))


def contrast(image: Pixels, factor: float) -> Pixels:
    """Multiply by `factor` (about zero, not about the mean), clip, truncate: (H, W, 3) -> (H, W, 3)."""
    return _looked_up(image, _converted(factor=factor))


def saturation(image: Pixels, factor: float) -> Pixels:
    """Multiply the S of HSV by `factor`, clip, truncate: (H, W, 3) -> (H, W, 3)."""
    return _in_hsv(image, _LEVELS, _converted(factor=factor))


def hue(image: Pixels, shift: int) -> Pixels:
    """Add `shift` steps of 2 degrees to the H of HSV, modulo 180: (H, W, 3) -> (H, W, 3)."""
    return _in_hsv(image, ((_LEVELS.astype(int) + shift) % 180).astype(np.uint8), _LEVELS)


def _in_hsv(image: Pixels, hues: Pixels, saturations: Pixels) -> Pixels:
    """Look up hue (0..179) and saturation (0..255) in a table each: (H, W, 3) -> (H, W, 3)."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    changed: Pixels = cv2.cvtColor(_looked_up(hsv, hues, saturations, _LEVELS), cv2.COLOR_HSV2RGB)
    return changed


def _looked_up(image: Pixels, *tables: Pixels) -> Pixels:
    """Look up each grey level in the channel's table of 256 (or in the one for all): (H, W, 3) -> (H, W, 3)."""
    found: Pixels = cv2.LUT(image, np.stack(tables, axis=-1)[None])
    return found


def _converted(factor: float = 1.0, shift: float = 0.0) -> Pixels:
    """The table of level * factor + shift, clipped and truncated (official code: PhotoMetricDistortion.convert)."""
    changed: _Floats = _LEVELS * np.float32(factor) + np.float32(shift)
    return np.clip(changed, 0, 255).astype(np.uint8)


def normalise(image: Pixels) -> Tensor:
    """(value - mean) / standard deviation per channel: uint8 (H, W, 3) -> float32 (3, H, W), channels-last."""
    return torch.from_numpy(cv2.LUT(image, _NORMALISED[None])).permute(2, 0, 1)


def pad(image: Tensor, label: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pad (3, H, W) and (H, W) to `size` = (height, width) at the bottom and right: the image with 0, the label 255."""
    height, width = label.shape
    if (height, width) == size:
        return image, label
    padded, ignored = torch.zeros(*size, 3).permute(2, 0, 1), torch.full(size, IGNORE, dtype=label.dtype)
    padded[:, :height, :width], ignored[:height, :width] = image, label
    return padded, ignored
