"""The data pipeline of MSCAN's pretraining: VAN's, which is that of timm 0.4.12 (datasets.md, section 3.1).

Each image is cropped, flipped and augmented on its own. Then a block of samples is mixed in grey levels, normalised,
and partly erased; in this order, which is timm's, noise from erasing is never mixed. Images are uint8 RGB (H, W, 3)
until they are mixed. All randomness comes from the generators that the caller passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from segnext.config import ClassificationData, ClassificationTrain
from segnext.data.imagenet import ClassFolderSource
from segnext.data.randaugment import RESAMPLING, rand_augment
from segnext.data.source import Pixels
from segnext.data.stream import AUGMENTATION, MIXING, Batch, Share, generator, image_index

CROP_TRIES = 10  # timm and torchvision: RandomResizedCrop; after these it takes the central part
ERASING_TRIES = 10  # timm: RandomErasing; after these it erases nothing
ERASED_AREA = (0.02, 1 / 3)  # timm: RandomErasing, part of the image
ERASED_ASPECT = (0.3, 1 / 0.3)


class ClassificationBatches(Dataset[Batch]):
    """Batches by number, with `batch` samples each, of which a process loads its share.

    Sample k is image k % N of epoch k // N, augmented with random numbers of (seed, k). The samples b * mixing ..
    (b + 1) * mixing - 1 are block b, mixed with random numbers of (seed, b). So a block does not depend on the process
    that loads it. Labels are soft targets, float32 (B, classes).

    Raises `ValueError` for a share that does not consist of whole blocks.
    """

    def __init__(
        self,
        data: ClassificationData,
        train: ClassificationTrain,
        source: ClassFolderSource,
        seed: int,
        batch: int,
        share: Share,
    ) -> None:
        self._data, self._train, self._source = data, train, source
        self._seed, self._batch, self._share = seed, batch, share
        each = len(share.of(range(batch)))
        if each % train.mixing:
            raise ValueError(
                f"ClassificationTrain.mixing: the {each} samples that a process passes together cannot be cut into "
                f"blocks of {train.mixing}; take fewer processes, or another batch, or smaller blocks (another recipe)"
            )

    def __getitem__(self, number: int) -> Batch:
        samples = self._share.of(range(number * self._batch, (number + 1) * self._batch))
        size = self._train.mixing
        blocks = [self._block(samples[first : first + size]) for first in range(0, len(samples), size)]
        images, targets = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        return Batch(number, torch.tensor(samples), images, targets)

    def _block(self, samples: range) -> tuple[Tensor, Tensor]:
        randoms = [generator(self._seed, AUGMENTATION, sample) for sample in samples]
        images, labels = [], []
        for sample, random in zip(samples, randoms, strict=True):
            image, label = self._source.load(image_index(self._seed, sample, len(self._source)))
            images.append(train_image(image, self._data, random))
            labels.append(label)
        own = generator(self._seed, MIXING, samples.start // self._train.mixing)
        return mixed_block(images, labels, self._data, self._train, randoms, own)


class Window(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def train_image(image: Pixels, data: ClassificationData, random: np.random.Generator) -> Pixels:
    """Random resized crop, flip, RandAugment: (H, W, 3) -> (h, w, 3), where (h, w) is `data.crop`."""
    window = crop_window(image.shape[0], image.shape[1], data.area, data.aspect, random)
    cropped = Image.fromarray(image[window.top : window.top + window.height, window.left : window.left + window.width])
    resampling = RESAMPLING[data.interpolations[random.integers(len(data.interpolations))]]
    picture = cropped.resize(data.crop[::-1], resampling)
    if random.random() < data.flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    red, green, blue = (min(255, round(255 * mean)) for mean in data.mean)
    return np.array(rand_augment(picture, *data.rand_augment, data.interpolations, (red, green, blue), random))


def test_image(image: Pixels, data: ClassificationData) -> Tensor:
    """Short edge resized to `data.test_resize` (bicubic), centre crop, normalised: (H, W, 3) -> float32 (3, h, w)."""
    from torchvision.transforms import functional as pillow  # not at the top: it imports the compiler, 3 s per process

    picture = pillow.resize(Image.fromarray(image), [data.test_resize], pillow.InterpolationMode.BICUBIC)
    pixels = np.array(pillow.center_crop(picture, list(data.crop)))
    return normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None].float(), data)[0]


def crop_window(
    height: int, width: int, area: tuple[float, float], aspect: tuple[float, float], random: np.random.Generator
) -> Window:
    """A window with a random part of the area and a random aspect (width / height), uniform in its logarithm.

    As in the RandomResizedCrop of timm and torchvision, a window that does not fit is drawn again, up to 10 times; then
    the result is the largest central window within the range of aspects.
    """
    for _ in range(CROP_TRIES):
        pixels = random.uniform(*area) * height * width
        ratio = math.exp(random.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Window(int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w)
    ratio = min(max(width / height, aspect[0]), aspect[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return Window((height - h) // 2, (width - w) // 2, h, w)


def mixed_block(
    images: Sequence[Pixels],
    labels: Sequence[int],
    data: ClassificationData,
    train: ClassificationTrain,
    randoms: Sequence[np.random.Generator],
    random: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """A block of samples mixed with each other, normalised and erased, and their soft targets.

    Mixup or cutmix with one lambda per block; sample i is mixed with sample B - 1 - i (timm: mode `batch`). `randoms`
    are the generators of the samples, `random` is that of the block.
    B of (h, w, 3), B classes -> float32 (B, 3, h, w), float32 (B, classes).
    """
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float()
    own = mix(pixels, train, random)
    normalise(pixels, data)
    for image, own_random in zip(pixels, randoms, strict=True):
        erase(image, data.erasing, own_random)
    return pixels, soft_targets(torch.tensor(labels), own, data.classes, train.smoothing)


def mix(pixels: Tensor, train: ClassificationTrain, random: np.random.Generator) -> float:
    """Mix grey levels `(B, 3, H, W)` in place, sample i with sample B - 1 - i; returns lambda, the own share of each.

    Mixup (Zhang et al.) is rounded to grey levels, as in timm's collate. Cutmix (Yun et al.) pastes a box that is
    clipped at the borders, and lambda is the share of the area that the box leaves. An alpha of 0 disables a method.
    """
    cut = random.random() < (train.switch if train.mixup > 0 else 1.0) and train.cutmix > 0
    alpha = train.cutmix if cut else train.mixup
    if alpha == 0:
        return 1.0
    own = float(random.beta(alpha, alpha))
    if not cut:
        other = pixels.flip(0).mul_(1 - own)
        pixels.mul_(own).add_(other).round_()
        return own
    height, width = pixels.shape[2:]
    window = cut_window(height, width, own, random)
    rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
    pixels[:, :, rows, columns] = pixels[:, :, rows, columns].flip(0)
    return 1 - window.height * window.width / (height * width)


def cut_window(height: int, width: int, own: float, random: np.random.Generator) -> Window:
    """A box with the share 1 - `own` of the area, centred anywhere and clipped at the borders (cutmix)."""
    side = math.sqrt(1 - own)
    edges = []
    for length in (height, width):
        half, centre = int(length * side) // 2, int(random.integers(length))
        edges.append((max(0, centre - half), min(length, centre + half)))
    (top, bottom), (left, right) = edges
    return Window(top, left, bottom - top, right - left)


def normalise(pixels: Tensor, data: ClassificationData) -> Tensor:
    """(level - mean) / deviation per channel, both as fractions of 255, in place: float32 `(B, 3, H, W)`."""
    mean, deviation = (torch.tensor(value).mul(255)[:, None, None] for value in (data.mean, data.deviation))
    return pixels.sub_(mean).div_(deviation)


def erase(image: Tensor, probability: float, random: np.random.Generator) -> None:
    """With this probability, fill a random rectangle of `(3, H, W)` with normal noise, in place (Zhong et al.).

    timm's mode `pixel`: one rectangle with 0.02 to 1/3 of the area and an aspect (height / width) of 0.3 to 1/0.3,
    uniform in its logarithm. A rectangle that does not fit is drawn again, up to 10 times.
    """
    if random.random() >= probability:
        return
    height, width = image.shape[1:]
    for _ in range(ERASING_TRIES):
        pixels = random.uniform(*ERASED_AREA) * height * width
        ratio = math.exp(random.uniform(math.log(ERASED_ASPECT[0]), math.log(ERASED_ASPECT[1])))
        h, w = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if h < height and w < width:
            top, left = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
            noise = random.standard_normal((3, h, w), dtype=np.float32)
            image[:, top : top + h, left : left + w] = torch.from_numpy(noise)
            return


def soft_targets(labels: Tensor, own: float, classes: int, smoothing: float) -> Tensor:
    """Smoothed labels, mixed as the samples are: `own` of label i, the rest of label B - 1 - i: `(B,) -> (B, classes)`.

    timm: every class gets smoothing / classes, and the right one 1 - smoothing in addition.
    """
    smooth = functional.one_hot(labels.long(), classes).float().mul_(1 - smoothing).add_(smoothing / classes)
    return smooth * own + smooth.flip(0) * (1 - own)
