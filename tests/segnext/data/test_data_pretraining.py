"""Pretraining's pipeline is timm 0.4.12's, step by step, and a function of seed and sample alone."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from segnext.config import ClassificationData, ClassificationTrain
from segnext.data import pretraining
from segnext.data.pretraining import (
    ClassificationBatches,
    crop_window,
    cut_window,
    erase,
    mix,
    mixed_block,
    soft_targets,
    train_image,
)
from segnext.data.stream import Share

DATA = ClassificationData(classes=5, crop=(24, 32))
TRAIN = ClassificationTrain(batch=16, mixing=4)
sizes = st.integers(1, 600)


def chance(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(seed: int, height: int = 40, width: int = 50) -> np.ndarray:
    return chance(seed).integers(0, 256, (height, width, 3), np.uint8)


def levels(seed: int, count: int = 6) -> torch.Tensor:
    return torch.from_numpy(chance(seed).integers(0, 256, (count, 3, 20, 30)).astype(np.float32))


@given(sizes, sizes, st.integers(0, 1000))
def test_a_crop_lies_in_the_image_and_keeps_to_its_ranges(height: int, width: int, seed: int):
    window = crop_window(height, width, (0.08, 1.0), (3 / 4, 4 / 3), chance(seed))
    assert 0 <= window.top <= height - window.height
    assert 0 <= window.left <= width - window.width
    assert min(window.height, window.width) > 0
    if min(height, width) > 100:  # where a pixel's rounding is small
        assert 0.07 * height * width < window.height * window.width
        if 0.75 <= width / height <= 4 / 3:
            assert 0.73 < window.width / window.height < 1.36


@pytest.mark.parametrize(("height", "width"), [(20, 1000), (1000, 20), (1, 999), (333, 10)])
def test_an_image_that_no_crop_fits_gives_its_centre_as_torchvision_has_it(height: int, width: int):
    area = (0.9, 1.0)
    top, left, h, w = transforms.RandomResizedCrop.get_params(torch.zeros(3, height, width), list(area), [3 / 4, 4 / 3])
    assert crop_window(height, width, area, (3 / 4, 4 / 3), chance(0)) == (top, left, h, w)


def test_training_images_have_the_crops_size_and_the_chance_of_their_generator():
    one, again, other = (train_image(picture(0), DATA, chance(seed)) for seed in (1, 1, 2))
    assert one.shape == (24, 32, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (248, 248), (90, 60)])
def test_a_test_image_is_torchvisions_resize_and_centre_crop(height: int, width: int):
    image = picture(3, height, width)
    reference = transforms.Compose(
        [
            transforms.Resize(248, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    expected = reference(Image.fromarray(image))
    torch.testing.assert_close(pretraining.test_image(image, ClassificationData()), expected)


def test_mixup_is_the_rounded_mean_with_the_mirrored_sample():
    train = dataclasses.replace(TRAIN, switch=0.0)
    for seed in range(5):
        pixels = levels(seed)
        mixed = pixels.clone()
        own = mix(mixed, train, chance(seed))
        assert 0 < own < 1
        expected = np.rint(own * pixels.numpy().astype(float) + (1 - own) * pixels.numpy()[::-1])
        assert np.abs(mixed.numpy() - expected).max() <= 1  # a half is rounded either way
        assert np.mean(mixed.numpy() != expected) < 1e-3


def test_cutmix_pastes_one_box_of_the_mirrored_sample_and_lambda_is_what_is_left():
    train = dataclasses.replace(TRAIN, switch=1.0)
    parts = []
    for seed in range(30):
        pixels = torch.arange(6.0)[:, None, None, None].repeat(1, 3, 20, 30)  # sample k is written all over with k
        own = mix(pixels, train, chance(seed))
        for k in range(6):
            pasted = pixels[k, 0] == 5 - k
            assert torch.equal(pixels[k, 0], torch.where(pasted, 5.0 - k, float(k)))
            assert own == pytest.approx(1 - pasted.float().mean().item())
            rows, columns = pasted.any(dim=1), pasted.any(dim=0)
            assert torch.equal(pasted, rows[:, None] & columns)  # a rectangle
        parts.append(own)
    assert min(parts) < 0.3
    assert max(parts) > 0.9


@given(sizes, sizes, st.floats(0, 1), st.integers(0, 100))
def test_a_cut_box_lies_in_the_image(height: int, width: int, own: float, seed: int):
    window = cut_window(height, width, own, chance(seed))
    assert 0 <= window.top <= window.top + window.height <= height
    assert 0 <= window.left <= window.left + window.width <= width
    assert window.height * window.width <= (1 - own) * height * width + 1e-9


def test_half_of_the_blocks_are_cut_and_an_alpha_of_zero_leaves_a_method_out():
    def methods(**changes: float) -> list[str]:
        found = []
        for seed in range(400):
            pixels = torch.tensor([0.0, 200.0])[:, None, None, None].repeat(1, 3, 20, 30)
            mix(pixels, dataclasses.replace(TRAIN, **changes), chance(seed))
            own = pixels[0].unique().tolist()
            # A lambda close to 0 or 1 shows nothing of the method.
            found.append("cutmix" if len(own) > 1 else "either" if own[0] in (0, 200) else "mixup")
        return found

    both = methods()
    assert both.count("cutmix") == pytest.approx(200, abs=50)
    assert both.count("mixup") == pytest.approx(200, abs=50)
    assert set(methods(mixup=0.0)) == {"cutmix", "either"}
    assert set(methods(cutmix=0.0)) == {"mixup", "either"}
    assert set(methods(mixup=0.0, cutmix=0.0)) == {"either"}


def test_soft_targets_are_timms():
    """timm's mixup_target at two classes of four, smoothing 0.1: 0.025 off, 0.925 on, mixed 0.3 to 0.7."""
    found = soft_targets(torch.tensor([1, 2]), 0.3, 4, 0.1)
    assert found.tolist() == [
        pytest.approx([0.025, 0.3 * 0.925 + 0.7 * 0.025, 0.3 * 0.025 + 0.7 * 0.925, 0.025]),
        pytest.approx([0.025, 0.3 * 0.025 + 0.7 * 0.925, 0.3 * 0.925 + 0.7 * 0.025, 0.025]),
    ]
    assert soft_targets(torch.tensor([0, 3]), 1.0, 4, 0.0).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


def test_erasing_fills_one_rectangle_of_the_promised_size_with_normal_noise():
    areas, aspects, values, images = [], [], [], 2000
    for seed in range(images):
        image = torch.full((3, 60, 80), 7.0)
        erase(image, 0.25, chance(seed))
        erased = (image != 7).all(dim=0)
        assert torch.equal(erased, (image != 7).any(dim=0))
        if erased.any():
            height, width = int(erased.any(dim=1).sum()), int(erased.any(dim=0).sum())
            assert int(erased.sum()) == height * width
            areas.append(height * width / (60 * 80))
            aspects.append(height / width)
            values.append(image[:, erased])
    assert len(areas) / images == pytest.approx(0.25, abs=0.03)
    assert 0.015 < min(areas) < 0.05
    assert 0.28 < max(areas) < 0.345
    assert 0.25 < min(aspects) < 0.4
    assert 2.5 < max(aspects) < 3.8
    noise = torch.cat([value.flatten() for value in values])
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)


def test_noise_is_never_mixed():
    """timm erases after it has mixed: what is erased is normal noise, whatever the images hold."""
    data = dataclasses.replace(DATA, erasing=1.0)
    white = [np.full((24, 32, 3), 255, np.uint8)] * 4
    pixels, _ = mixed_block(white, [0] * 4, data, TRAIN, [chance(k) for k in range(4)], chance(9))
    noise = torch.cat([image[:, (image != 1).all(dim=0)].flatten() for image in pixels])
    assert len(noise) > 500
    assert noise.std().item() == pytest.approx(1, abs=0.1)


class Numbered:
    """A source whose image k is written all over with k, of class k % 5."""

    classes = tuple("abcde")

    def __len__(self) -> int:
        return 23

    def load(self, index: int) -> tuple[np.ndarray, int]:
        return np.full((40, 50, 3), 10 * index, np.uint8), index % 5


def batches(batch: int = 16, share: Share | None = None, **changes: float) -> ClassificationBatches:
    train = dataclasses.replace(TRAIN, **changes)
    return ClassificationBatches(DATA, train, Numbered(), 3, batch, share or Share())  # type: ignore[arg-type]


def test_a_batch_split_at_blocks_is_the_same_whoever_loads_it_and_in_how_many_parts():
    whole = batches()[2]
    assert whole.samples.tolist() == list(range(32, 48))
    assert whole.images.shape == (16, 3, 24, 32)
    torch.testing.assert_close(whole.labels.sum(dim=1), torch.ones(16))
    for parts in (
        [batches(share=Share(rank, 2))[2] for rank in range(2)],
        [batches(share=Share(rank, 4))[2] for rank in range(4)],
        [batches(4)[number] for number in range(8, 12)],
    ):
        for name in ("samples", "images", "labels"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_every_epoch_shows_every_image_once():
    plain = batches(batch=1, mixing=1, smoothing=0.0, mixup=0.0, cutmix=0.0)
    for epoch in range(2):
        shown = torch.stack([plain[k].labels[0] for k in range(23 * epoch, 23 * (epoch + 1))]).sum(dim=0)
        assert shown.tolist() == [5, 5, 5, 4, 4]


def test_a_share_that_cuts_a_block_is_refused():
    with pytest.raises(ValueError, match=r"ClassificationTrain\.mixing: the 2 samples .*blocks of 4; take fewer"):
        batches(share=Share(0, 8))


def test_the_aspect_of_crops_is_uniform_in_its_logarithm():
    random, logs = chance(0), []
    for _ in range(3000):
        window = crop_window(1000, 1000, (0.1, 0.5), (3 / 4, 4 / 3), random)
        logs.append(math.log(window.width / window.height) / math.log(4 / 3))
    quarters = np.histogram(logs, bins=4, range=(-1.01, 1.01))[0]
    assert quarters.tolist() == pytest.approx([750] * 4, abs=110)
