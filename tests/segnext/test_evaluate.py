"""An evaluation passes images as the release does, whole or in windows, and counts each of them once."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import multiprocessing
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.distributed as distributed
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from segnext import Data, Model, SegNeXt
from segnext.data import DataError, open_split, transforms
from segnext.testing import evaluate as module
from segnext.testing.evaluate import evaluate, predictions, probabilities, scores, windows
from segnext.testing.footprint import Footprint, _Living
from segnext.testing.fusing import fuse_for_inference

CPU = torch.device("cpu")
SCENE = Data("diagnostic/scene", 7, (96, 96), (96, 96), test_scales=(0.5, 1.0), generator="1")
WINDOWS = Data("cityscapes", 3, (64, 48), (32, 32), test_multiple=1, window=(32, 32), stride=(24, 24))


class Few:
    """The first images of a generated split."""

    def __init__(self, count: int) -> None:
        self._source, self._count = open_split(SCENE, "val", None), count
        self.classes = self._source.classes

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        return self._source.name(index)

    def load(self, index: int):
        return self._source.load(index)


class Noise:
    """Images and labels without structure, of given sizes."""

    classes = ("a", "b", "c")

    def __init__(self, *sizes: tuple[int, int]) -> None:
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def load(self, index: int):
        draw = np.random.default_rng(index)
        shape = self.sizes[index]
        return draw.integers(0, 256, (*shape, 3), np.uint8), draw.integers(0, 3, shape, np.uint8)


class Sizes(torch.nn.Module):
    """Remembers what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((len(x), *x.shape[2:]))
        return x


class Surroundings(torch.nn.Module):
    """Scores that depend on a pixel's neighbours, and so on where a window ends."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(3, 3, 7, 7, generator=generator) / 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight, padding=3)


@pytest.fixture(scope="module")
def micro() -> SegNeXt:
    torch.manual_seed(0)
    return SegNeXt(Model("micro"), 7).eval()


@pytest.mark.parametrize("multi_scale", [False, True])
def test_a_model_that_knows_the_answer_scores_100(multi_scale: bool):
    """Through the whole test path: resizing, flips, averaging over passes, and the labels' own size."""
    data = dataclasses.replace(SCENE, test_scales=(1.0,))

    class Painted(Few):
        def load(self, index: int):
            image, label = super().load(index)
            image[...] = label[..., None]  # the answer, painted into the image
            return image, label

    class Reader(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            values = (x[:, 0] * 58.395 + 123.675).round().long()
            return 100 * torch.nn.functional.one_hot(values, 7).permute(0, 3, 1, 2).float()

    for tested in (data, dataclasses.replace(data, window=(64, 64), stride=(40, 40))):
        score = evaluate(Reader(), Painted(4), tested, multi_scale=multi_scale, batch=3)
        assert score.miou == score.mean_accuracy == score.pixel_accuracy == score.boundary_miou == 100.0


def test_images_are_grouped_by_size_and_each_counts_once():
    class Halves:
        classes = ("a", "b")
        shapes = ((40, 40), (40, 40), (40, 40), (40, 50), (40, 40))

        def __len__(self) -> int:
            return len(self.shapes)

        def load(self, index: int):
            label = np.full(self.shapes[index], index % 2, dtype=np.uint8)
            return np.zeros((*label.shape, 3), dtype=np.uint8), label

    class First(torch.nn.Module):
        batches: ClassVar[list[int]] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.batches.append(len(x))
            return torch.tensor([1.0, 0.0])[None, :, None, None].expand(len(x), 2, *x.shape[2:])

    seen = []
    data = Data("camvid", 2, (40, 40), (40, 40))
    score = evaluate(First(), Halves(), data, batch=2, progress=lambda done, total: seen.append((done, total)))
    assert First.batches == [2, 1, 1, 1]
    assert seen == [(2, 5), (3, 5), (4, 5), (5, 5)]
    assert score.pixel_accuracy == pytest.approx(100 * 3 * 1600 / (4 * 1600 + 2000))
    assert score.confusion == [[3 * 1600, 0], [1600 + 2000, 0], [0, 0]]


def test_no_more_images_are_passed_at_once_than_fit(monkeypatch: pytest.MonkeyPatch):
    """150 classes at 1.75 times the size would need gigabytes for eight images."""
    together, apart = Sizes(), Sizes()
    source = Noise(*[(48, 64)] * 4)
    data = dataclasses.replace(WINDOWS, window=None, stride=None, test_scales=(1.0, 2.0))
    whole = evaluate(together, source, data, batch=4)
    monkeypatch.setitem(module.MEMORY_LIMIT, "cpu", 2 * 4 * (3 + 3) * 48 * 64)  # pictures and scores of two
    assert evaluate(apart, source, data, batch=4) == whole
    assert [batch for batch, *_ in together.seen] == [4]
    assert [batch for batch, *_ in apart.seen] == [2, 2]
    large = Sizes()
    evaluate(large, source, data, multi_scale=True, batch=4)  # the largest scale counts, and one image always goes
    assert {batch for batch, *_ in large.seen} == {2}, "one image, both flips"


def test_multi_scale_probabilities_are_the_mean_over_scales_and_flips(micro: SegNeXt):
    images = torch.from_numpy(Few(1).load(0)[0])[None]
    whole = probabilities(micro, images, SCENE, (0.5, 1.0), (False, True), CPU)
    parts = [probabilities(micro, images, SCENE, (r,), (f,), CPU) for r in (0.5, 1.0) for f in (False, True)]
    torch.testing.assert_close(whole, torch.stack(parts).mean(0))
    torch.testing.assert_close(whole.sum(1), torch.ones(1, 96, 96))


@given(side=st.integers(1, 4000), window=st.integers(1, 1500), data=st.data())
@settings(max_examples=200, deadline=None)
def test_windows_cover_a_side_as_the_released_ones_do(side: int, window: int, data: st.DataObject):
    stride = data.draw(st.integers(1, window))
    found = windows(side, window, stride)
    assert len(found) == max(0, math.ceil((side - window) / stride)) + 1
    assert {part.stop - part.start for part in found} == {min(side, window)}
    assert found[0].start == 0
    assert found[-1].stop == side
    for number, (part, following) in enumerate(itertools.pairwise(found)):
        assert part.start == number * stride
        assert following.start <= part.stop  # no pixel is left out
        assert following.start > part.start


def test_cityscapes_is_tested_in_windows_of_1024_and_the_last_is_shifted_back():
    assert windows(2048, 1024, 768) == [slice(0, 1024), slice(768, 1792), slice(1024, 2048)]
    assert windows(1024, 1024, 768) == [slice(0, 1024)]
    assert windows(1792, 1024, 768) == [slice(0, 1024), slice(768, 1792)]
    assert windows(512, 1024, 768) == [slice(0, 512)]


@pytest.mark.parametrize("stride", [0, -1, 33])
def test_a_stride_that_leaves_pixels_out_is_refused(stride: int):
    with pytest.raises(ValueError, match=r"Data\.stride"):
        evaluate(Surroundings(), Noise((48, 64)), dataclasses.replace(WINDOWS, stride=(stride, stride)))


def released_slide(model: torch.nn.Module, x: torch.Tensor, window: int, stride: int) -> torch.Tensor:
    """slide_inference stated anew, plainly: each window's scores on an empty canvas, summed, divided by a count."""
    height, width = x.shape[2:]
    total, count = torch.zeros_like(x), torch.zeros(1, 1, height, width)
    for down in range(max(height - window + stride - 1, 0) // stride + 1):
        for across in range(max(width - window + stride - 1, 0) // stride + 1):
            bottom, right = min(down * stride + window, height), min(across * stride + window, width)
            top, left = max(bottom - window, 0), max(right - window, 0)
            margins = (left, width - right, top, height - bottom)
            part = model(x[:, :, top:bottom, left:right])
            total += F.pad(part, margins)
            count += F.pad(torch.ones(1, 1, *part.shape[2:]), margins)
    assert count.min() > 0
    return total / count


@given(height=st.integers(8, 80), width=st.integers(8, 80), stride=st.integers(5, 32))
@settings(max_examples=30, deadline=None)
@torch.inference_mode()
def test_scores_in_windows_are_the_mean_over_the_windows_that_see_a_pixel(height: int, width: int, stride: int):
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height * width))
    data = dataclasses.replace(WINDOWS, stride=(stride, stride))
    torch.testing.assert_close(
        scores(Surroundings(), x, data), released_slide(Surroundings(), x, 32, stride), rtol=1e-5, atol=1e-5
    )


@torch.inference_mode()
def test_windows_differ_from_whole_images_only_where_they_see_less():
    x = torch.randn(1, 3, 48, 64)
    whole = scores(Surroundings(), x, dataclasses.replace(WINDOWS, window=None, stride=None))
    slid = scores(Surroundings(), x, WINDOWS)
    assert not torch.allclose(slid, whole)
    torch.testing.assert_close(slid[:, :, 3:13, 3:20], whole[:, :, 3:13, 3:20])  # one window, away from its ends
    large = scores(Surroundings(), x, dataclasses.replace(WINDOWS, window=(64, 64), stride=(48, 48)))
    torch.testing.assert_close(large, whole, rtol=0, atol=1e-6)  # one smaller window


class Damaged(Few):
    """Its second image cannot be read."""

    def load(self, index: int):
        if index == 1:
            raise DataError("/data/frames/b.png: cannot be read as an image; put the original back")
        return super().load(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named_whoever_loads_it(micro: SegNeXt, workers: int):
    with pytest.raises(DataError, match=r"^/data/frames/b\.png: cannot be read as an image; put the original back$"):
        evaluate(micro, Damaged(3), SCENE, workers=workers)


@pytest.mark.parametrize("multi_scale", [pytest.param(False, marks=pytest.mark.long), True])
def test_loaders_change_nothing_and_torchs_random_state_is_left_alone(micro: SegNeXt, multi_scale: bool):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    alone, loaded = (evaluate(micro, Few(5), SCENE, multi_scale=multi_scale, batch=2, workers=n) for n in (0, 2))
    assert loaded == alone
    assert torch.equal(torch.get_rng_state(), state)


def test_progress_is_told_after_every_pass_and_a_stop_comes_between_two(micro: SegNeXt):
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate(micro, Few(4), SCENE, multi_scale=True, batch=2, progress=progress)
    assert seen == [(2, 8), (4, 8), (6, 8)]


def test_a_group_is_bounded_by_what_a_pass_needs(micro: SegNeXt, monkeypatch: pytest.MonkeyPatch):
    """Pictures and features are most of it: scores of 7 classes at the images' size are but 1 MB of these 50."""
    batches: list[int] = []
    passed = module._scores
    monkeypatch.setattr(module, "_scores", lambda *given: batches.append(len(given[1])) or passed(*given))
    data = dataclasses.replace(SCENE, scale=(384, 384))
    one = 2 * (Footprint(fuse_for_inference(micro)).bytes(384, 384) + 12 * 384 * 384) + 4 * 7 * 96 * 96
    monkeypatch.setitem(module.MEMORY_LIMIT, "cpu", 2 * one)
    evaluate(micro, Few(4), data, multi_scale=True, batch=4)
    assert batches == [4] * 4, "two images and their flips"


def test_what_a_pass_needs_is_followed_without_numbers(micro: SegNeXt, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("segnext.testing.fusing._ONEDNN", False)
    network = fuse_for_inference(micro)
    x = torch.zeros(1, 3, 96, 128).to(memory_format=torch.channels_last)
    with torch.inference_mode(), _Living([*network.parameters(), *network.buffers(), x]) as living:
        network.logits(x)
    assert Footprint(network).bytes(96, 128) == pytest.approx(living.peak, rel=0.05)
    footprint = Footprint(network)
    assert footprint.bytes(192, 256) == pytest.approx(4 * footprint.bytes(96, 128), rel=0.05)


def test_a_card_normalises_to_the_same_bits_as_the_table():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 2).T.reshape(2, 16, 16, 3)
    assert torch.equal(module._normalised(pixels), module._looked_up(pixels))
    assert torch.equal(module._pictures(pixels, (False, True))[2:], module._looked_up(pixels).flip(3))


def test_every_scale_is_tested_in_windows_and_then_resized():
    """Windows at half, the same and twice the size; the mean of scores before, of probabilities after the resizing."""
    data = dataclasses.replace(WINDOWS, test_scales=(0.5, 1.0, 2.0))
    image = Noise((40, 50)).load(0)[0]
    model = Surroundings()
    found = probabilities(model, torch.from_numpy(image)[None], data, data.test_scales, (False, True), CPU)
    passes = []
    for ratio in data.test_scales:
        for flip in (False, True):
            x = transforms.test_image(image, data, ratio, flip)
            slid = released_slide(model, x, 32, 24)
            resized = F.interpolate(slid, (40, 50), mode="bilinear", align_corners=False).softmax(1)
            passes.append(resized.flip(3) if flip else resized)
    torch.testing.assert_close(found, torch.stack(passes).mean(0), rtol=1e-4, atol=1e-5)


def test_the_number_and_size_of_passes():
    """Cityscapes at a sixteenth: 2048x1024 in windows of 1024 with a stride of 768, all twelve passes of MS."""
    cityscapes = Data("cityscapes", 3, (128, 64), (64, 64), test_multiple=1, window=(64, 64), stride=(48, 48))
    model = Sizes()
    evaluate(model, Noise((64, 128), (64, 128)), cityscapes, batch=2)
    assert model.seen == [(2, 64, 64)] * 3
    model = Sizes()
    evaluate(model, Noise((64, 128)), cityscapes, multi_scale=True)
    expected = []
    for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75):
        height, width = int(64 * ratio), int(128 * ratio)
        count = math.prod(max(0, math.ceil((side - 64) / 48)) + 1 for side in (height, width))
        expected += [(2, min(64, height), min(64, width))] * count  # both flips
    assert model.seen == expected
    whole = Sizes()
    evaluate(whole, Noise((64, 128)), dataclasses.replace(cityscapes, window=None, stride=None), multi_scale=True)
    assert len(whole.seen) == 6


def test_the_same_seed_of_ham_gives_the_same_bits_and_another_one_does_not(micro: SegNeXt):
    images = torch.from_numpy(Few(1).load(0)[0])[None]

    def passed(seed: int | None) -> torch.Tensor:
        if seed is not None:
            evaluate(micro, Few(1), SCENE, ham_seed=seed)
        return probabilities(micro, images, SCENE, (1.0,), (False,), CPU)

    torch.manual_seed(0)
    untouched = SegNeXt(Model("micro"), 7).eval()
    first = probabilities(untouched, images, SCENE, (1.0,), (False,), CPU)
    assert torch.equal(passed(0), first)  # 0: the bases that a model is built with
    assert not torch.equal(passed(5), first)
    assert torch.equal(passed(5), passed(5))
    assert torch.equal(passed(0), first)


def test_a_seed_of_ham_does_not_outlive_its_evaluation(micro: SegNeXt):
    once = evaluate(micro, Few(3), SCENE)
    evaluate(micro, Few(3), SCENE, ham_seed=9)
    assert evaluate(micro, Few(3), SCENE) == once


def test_an_evaluation_is_in_float32_whatever_surrounds_it(micro: SegNeXt):
    images = torch.from_numpy(Few(1).load(0)[0])[None]
    full = probabilities(micro, images, SCENE, (1.0,), (False, True), CPU)
    with torch.autocast("cpu", torch.bfloat16):
        half = probabilities(micro, images, SCENE, (1.0,), (False, True), CPU)
        score = evaluate(micro, Few(2), SCENE)
    assert torch.equal(half, full)
    assert score == evaluate(micro, Few(2), SCENE)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_shares_hold_each_image_once(micro: SegNeXt, world: int):
    numbers = []
    for rank in range(world):
        for found, maps, labels in predictions(micro, Few(5), SCENE, share=(rank, world), batch=2):
            assert maps.dtype == torch.uint8
            assert maps.shape == labels.shape == (len(found), 96, 96)
            numbers += found
    assert sorted(numbers) == list(range(5))


def test_a_share_needs_its_process_group(micro: SegNeXt):
    with pytest.raises(ValueError, match="start the group before an evaluation is shared"):
        evaluate(micro, Few(2), SCENE, share=(0, 2))
    with pytest.raises(ValueError, match="is not a rank"):
        evaluate(micro, Few(2), SCENE, share=(2, 2))


def evaluate_share(rank: int, folder: Path) -> None:
    """One of two processes, as torchrun starts them."""
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", meeting, rank=rank, world_size=2, timeout=timedelta(minutes=5))
    try:
        torch.manual_seed(0)
        seen: list[tuple[int, int]] = []
        score = evaluate(
            SegNeXt(Model("micro"), 7), Few(5), SCENE, share=(rank, 2), progress=lambda *counts: seen.append(counts)
        )
    finally:
        distributed.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps([dataclasses.asdict(score), seen]))


def test_two_processes_score_what_one_does(micro: SegNeXt, tmp_path: Path):
    other = multiprocessing.get_context("spawn").Process(target=evaluate_share, args=(1, tmp_path))
    other.start()
    evaluate_share(0, tmp_path)
    other.join()
    assert other.exitcode == 0
    alone = json.loads(json.dumps(dataclasses.asdict(evaluate(micro, Few(5), SCENE))))
    for rank, images in ((0, 3), (1, 2)):
        score, seen = json.loads((tmp_path / f"{rank}.json").read_text())
        assert score == alone
        assert seen[-1] == [images, images]
