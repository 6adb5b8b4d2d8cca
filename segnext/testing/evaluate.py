"""Single-scale and multi-scale evaluation of a model over a split (Sec. 4; the released test pipeline).

Evaluation is always in float32: autocast is off here, whatever the precision of training, and TF32 is on only if the
execution asks for it (`segnext.precision.set_up`). A GPU never waits for an image: loaders decode and resize it, its
pixels are copied while the previous image is computed, and the GPU itself counts the pixels of each class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict, Unpack

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.utils.data import Dataset

from segnext.config import Data
from segnext.data import Source
from segnext.data.ahead import in_order, to_device
from segnext.data.transforms import MEAN, STANDARD_DEVIATION, normalise, test_size, tested_pixels
from segnext.fast.upsampling import Sizes, add_probabilities, likeliest
from segnext.ham import NMF
from segnext.model import SegNeXt
from segnext.precision import full_precision
from segnext.testing.footprint import Footprint
from segnext.testing.fusing import fuse_for_inference
from segnext.testing.metrics import Boundary, Confusion, Score

Progress = Callable[[int, int], None]
"""Called with (passes done, passes in all): an image is passed once at every scale, both flips together."""

MEMORY_LIMIT = {"cpu": 2 << 30, "cuda": 8 << 30}  # bytes that a pass of more than one image may take
ROUGHLY = 4096  # bytes per pixel: an upper bound for any network here; if it fits, nothing needs to be measured


class How(TypedDict, total=False):
    """How to predict a split; the comments give the defaults. Only the first three change the predictions.

    Batch and workers change nothing beyond rounding.
    """

    multi_scale: bool  # every ratio of `data.test_scales`, each also flipped; default: one pass at the test scale
    ham_seed: int  # seed of the bases that Ham starts from, the same for every image; default 0
    share: tuple[int, int]  # (rank, world): images rank, rank + world, ...; default (0, 1), all images
    batch: int  # images of one size in a pass; fewer if that exceeds `MEMORY_LIMIT`; default 1
    device: torch.device  # default: the CPU
    workers: int  # processes that decode and resize images; default 0: this process does
    progress: Progress | None  # called after every pass; it may raise to stop the evaluation


def evaluate(model: nn.Module, source: Source, data: Data, **how: Unpack[How]) -> Score:
    """Score the model on every image of a split at the size of its label.

    With `share` the int64 counts are summed over torch's default process group: each image counts once, and every
    process returns the score of the whole split. Raises `ValueError` if there is no such group.
    """
    rank, world = how.get("share", (0, 1))
    _check_group(rank, world)
    device = how.get("device", torch.device("cpu"))
    confusion, boundary = Confusion(data.classes, device), Boundary(data.classes, device=device)
    for group, predicted in _predicted(model, source, data, **how):
        confusion.count(predicted, group.labels)
        boundary.count(predicted, group.labels)
    if world > 1:
        confusion.all_reduce()
        boundary.all_reduce()
    return confusion.score(boundary)


def predictions(
    model: nn.Module, source: Source, data: Data, **how: Unpack[How]
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield image numbers, the likeliest class of every pixel and labels, both uint8 `(B, H, W)` on the CPU.

    Autocast is off. The model is left in evaluation mode. Raises `DataError` for an image that cannot be read.
    """
    for group, predicted in _predicted(model, source, data, **how):
        yield group.numbers, predicted.cpu(), group.labels.cpu()


def _predicted(
    model: nn.Module,
    source: Source,
    data: Data,
    *,
    multi_scale: bool = False,
    ham_seed: int = 0,
    share: tuple[int, int] = (0, 1),
    batch: int = 1,
    device: torch.device = torch.device("cpu"),  # noqa: B008  # a constant
    workers: int = 0,
    progress: Progress | None = None,
) -> Iterator[tuple[_Group, Tensor]]:
    """Yield groups of images and the likeliest class of their pixels, uint8 `(B, H, W)`, both on the device."""
    model.eval()
    for module in model.modules():
        if isinstance(module, NMF):
            module.reseed(ham_seed)
    ratios, flips = (data.test_scales, (False, True)) if multi_scale else ((1.0,), (False,))
    rank, world = share
    mine = range(rank, len(source), world)
    network = fuse_for_inference(model) if isinstance(model, SegNeXt) else model
    memory = _Memory(network, data, max(ratios), len(flips), multi_scale)
    done = 0

    def passed(images: int) -> None:
        nonlocal done
        done += images
        if progress:
            progress(done, len(mine) * len(ratios))

    items = in_order(_Items(source, data, ratios), mine, workers)
    for group in _on(device, _groups(items, memory.most(batch, MEMORY_LIMIT.get(device.type, MEMORY_LIMIT["cpu"])))):
        size = (group.labels.shape[1], group.labels.shape[2])
        if multi_scale:
            yield group, _most_probable(network, group.pixels, size, data, flips, passed)
        else:
            yield group, _likeliest(network, group.pixels[0], size, data, passed)


@torch.inference_mode()
def probabilities(
    model: nn.Module, images: Tensor, data: Data, ratios: Sequence[float], flips: Sequence[bool], device: torch.device
) -> Tensor:
    """Class probabilities `(B, classes, H, W)` of `(B, H, W, 3)` uint8 images, averaged over ratios and flips.

    Official code: resize scores to the image's size, softmax, flip back, mean over the passes. Ours: both flips are in
    one pass, and are flipped back before resizing, which gives the same result.
    """
    resized = (
        torch.stack([torch.tensor(tested_pixels(image.numpy(), data, ratio)) for image in images]) for ratio in ratios
    )
    pixels = (to_device(each, device) for each in resized)
    total = _probabilities(model, pixels, (images.shape[1], images.shape[2]), data, flips)
    return total.permute(0, 3, 1, 2)


def _probabilities(
    model: nn.Module,
    pixels: Iterable[Tensor],
    size: tuple[int, int],
    data: Data,
    flips: Sequence[bool],
    passed: Callable[[int], None] = lambda images: None,
) -> Tensor:
    """Probabilities `(B, H, W, classes)` of images given at several sizes, uint8 `(B, h, w, 3)` each."""
    total, passes = None, 0
    for each in pixels:
        if total is None:
            total = torch.zeros(len(each), *size, data.classes, device=each.device)
        with full_precision(each):  # for the network and for the products that resize its scores
            found, sizes = _scores(model, _pictures(each, flips), data)
            for flip, part in zip(flips, found.split(len(each)), strict=True):
                add_probabilities(total, part.flip(3) if flip else part, [*sizes, size])
        passes += len(flips)
        passed(len(each))
    assert total is not None
    return total.div_(passes)


@torch.inference_mode()
def _most_probable(
    model: nn.Module,
    pixels: Sequence[Tensor],
    size: tuple[int, int],
    data: Data,
    flips: Sequence[bool],
    passed: Callable[[int], None],
) -> Tensor:
    """The class with the highest mean probability, in a tie the first: uint8 `(B, H, W)`."""
    return _probabilities(model, pixels, size, data, flips, passed).max(-1).indices.to(torch.uint8)


@torch.inference_mode()
def _likeliest(
    model: nn.Module, pixels: Tensor, size: tuple[int, int], data: Data, passed: Callable[[int], None]
) -> Tensor:
    """The class with the highest score in one pass, without a softmax: uint8 `(B, H, W)`."""
    with full_precision(pixels):
        found, sizes = _scores(model, _pictures(pixels, (False,)), data)
        classes = likeliest(found, [*sizes, size]).to(torch.uint8)
    passed(len(pixels))
    return classes


def _pictures(pixels: Tensor, flips: Sequence[bool]) -> Tensor:
    """The input of a network: uint8 `(B, h, w, 3)` -> float32 `(flips B, 3, h, w)`, one flip after the other."""
    pictures = _looked_up(pixels) if pixels.device.type == "cpu" else _normalised(pixels)
    return torch.cat([pictures.flip(3) if flip else pictures for flip in flips]) if any(flips) else pictures


def _looked_up(pixels: Tensor) -> Tensor:
    """Normalise by a lookup table: `(B, h, w, 3) -> (B, 3, h, w)`."""
    return normalise(pixels.flatten(0, 1).numpy()).unflatten(1, pixels.shape[:2]).movedim(1, 0)


def _normalised(pixels: Tensor) -> Tensor:
    """Normalise by arithmetic, which is faster on a GPU and gives the same bits: `(B, h, w, 3) -> (B, 3, h, w)`."""
    mean, factor = _normalisation(pixels.device)
    return pixels.float().sub_(mean).mul_(factor).permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _normalisation(device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        mean, factor = torch.tensor(MEAN), torch.tensor([1 / deviation for deviation in STANDARD_DEVIATION])
        return to_device(mean, device), to_device(factor, device)


def _scores(model: nn.Module, pictures: Tensor, data: Data) -> tuple[Tensor, Sizes]:
    """Scores in float32 at the lowest resolution available, and the size to which they must be resized, if any."""
    if data.window is None and isinstance(model, SegNeXt):
        return model.logits(pictures).float(), [(pictures.shape[2], pictures.shape[3])]
    return scores(model, pictures, data).float(), []


def scores(model: nn.Module, pictures: Tensor, data: Data) -> Tensor:
    """Class scores `(B, classes, H, W)` of pictures `(B, 3, H, W)`, whole or in sliding windows.

    Official code: slide_inference, the mean of the scores of all windows that cover a pixel, before any softmax.
    """
    if data.window is None or data.stride is None:
        return model(pictures)
    size = (pictures.shape[2], pictures.shape[3])
    rows, columns = (windows(*sides) for sides in zip(size, data.window, data.stride, strict=True))
    shape = (len(pictures), data.classes, *size)
    total = torch.empty(shape, device=pictures.device, memory_format=torch.channels_last).zero_()
    seen = torch.zeros(size, device=pictures.device)
    for row in rows:
        for column in columns:
            total[:, :, row, column] += model(pictures[:, :, row, column])
            seen[row, column] += 1
    return total.div_(seen)


def windows(side: int, window: int, stride: int) -> list[slice]:
    """The ceil((side - window) / stride) + 1 windows along one side, in pixels; the last is shifted back to the edge.

    Official code: slide_inference; a side shorter than the window is one smaller window, without padding. Raises
    `ValueError` for a stride that would skip pixels.
    """
    if not 0 < stride <= window:
        raise ValueError(f"Data.stride: {stride} with a window of {window}; it must lie between 1 and the window")
    starts = range(0, max(side - window, 0) + stride, stride)
    ends = [min(start + window, side) for start in starts]
    return [slice(max(end - window, 0), end) for end in ends]


@dataclass
class _Item:
    """An image of a split, as a worker prepares it."""

    number: int
    pixels: list[Tensor]  # uint8 (h, w, 3) for every ratio
    label: Tensor  # uint8 (H, W)


@dataclass
class _Group:
    """Images of one size."""

    numbers: list[int]
    pixels: list[Tensor]  # uint8 (B, h, w, 3) for every ratio
    labels: Tensor  # uint8 (B, H, W)


class _Items(Dataset[_Item]):
    """The images of a split by number, decoded and resized."""

    def __init__(self, source: Source, data: Data, ratios: Sequence[float]) -> None:
        self._source, self._data, self._ratios = source, data, ratios

    def __getitem__(self, number: int) -> _Item:
        image, label = self._source.load(number)
        pixels = [torch.tensor(tested_pixels(image, self._data, ratio)) for ratio in self._ratios]
        return _Item(number, pixels, torch.tensor(label))


class _Memory:
    """The number of images in a pass, from the measured memory of one image at the largest ratio with its flips."""

    def __init__(self, network: nn.Module, data: Data, ratio: float, flips: int, summed: bool) -> None:
        self._data, self._ratio, self._flips, self._summed = data, ratio, flips, summed
        self._footprint = Footprint(network) if isinstance(network, SegNeXt) else None

    def most(self, batch: int, limit: int) -> Callable[[int, int], int]:
        """A function that maps the (height, width) of images, in pixels, to their number per pass, at least 1."""

        def most(height: int, width: int) -> int:
            tall, wide = test_size(height, width, self._data, self._ratio)
            if batch == 1 or batch * self._flips * tall * wide * ROUGHLY <= limit:
                return batch
            return max(1, min(batch, limit // self._bytes(height, width)))

        return most

    def _bytes(self, height: int, width: int) -> int:
        data, (tall, wide) = self._data, test_size(height, width, self._data, self._ratio)
        shown = (tall, wide) if data.window is None else (min(tall, data.window[0]), min(wide, data.window[1]))
        picture = 4 * 3 * tall * wide + (self._footprint.bytes(*shown) if self._footprint else 0)
        if data.window is not None or self._footprint is None:
            picture += 4 * data.classes * tall * wide  # the sum over all windows, at full size
        return self._flips * picture + (4 * data.classes * height * width if self._summed else 0)


def _groups(items: Iterable[_Item], most: Callable[[int, int], int]) -> Iterator[_Group]:
    """Group consecutive images of one size, as many as fit in a pass."""
    group: list[_Item] = []
    room = 1
    for item in items:
        if group and (len(group) >= room or item.label.shape != group[0].label.shape):
            yield _stacked(group)
            group = []
        if not group:
            room = most(*item.label.shape)
        group.append(item)
    if group:
        yield _stacked(group)


def _stacked(group: list[_Item]) -> _Group:
    pixels = [torch.stack(each) for each in zip(*(item.pixels for item in group), strict=True)]
    return _Group([item.number for item in group], pixels, torch.stack([item.label for item in group]))


def _on(device: torch.device, groups: Iterable[_Group]) -> Iterator[_Group]:
    """Yield the groups on a device; a separate stream copies each while the previous one is computed."""
    streams = torch.get_device_module(device)  # on a CPU streams do nothing
    copying = streams.Stream(device)
    before: tuple[_Group, object] | None = None
    for group in groups:
        with streams.stream(copying):
            moved = _Group(
                group.numbers, [to_device(each, device) for each in group.pixels], to_device(group.labels, device)
            )
            copied = copying.record_event()
        if before is not None:
            yield _arrived(*before)
        before = moved, copied
    if before is not None:
        yield _arrived(*before)


def _arrived(group: _Group, copied: object) -> _Group:
    """Make later work on the device wait for the copies, without blocking this process."""
    device = group.labels.device
    stream = torch.get_device_module(device).current_stream(device)
    stream.wait_event(copied)
    if device.type != "cpu":
        for tensor in (*group.pixels, group.labels):
            tensor.record_stream(stream)  # otherwise its memory could be reused while it is still read
    return group


def _check_group(rank: int, world: int) -> None:
    if not 0 <= rank < world:
        raise ValueError(f"share: {(rank, world)} is not a rank below a number of processes")
    if world > 1:
        group = distributed.is_available() and distributed.is_initialized()
        found = (distributed.get_rank(), distributed.get_world_size()) if group else None
        if found != (rank, world):
            raise ValueError(
                f"share: process {rank} of {world}, but torch.distributed has {found or 'no group'}; "
                "start the group before an evaluation is shared"
            )
