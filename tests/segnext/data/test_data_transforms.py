"""Promises of `segnext.data.transforms`: the released pipeline, pixel for pixel.

`fixtures/pipeline_arrays.npz` holds values computed by the release itself (OpenCV, mmcv 1.7.2); its sizes are held in
test_released_values.py.
"""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st

from segnext.config import Data
from segnext.data import transforms

RELEASED = dict(np.load(FIXTURES / "pipeline_arrays.npz"))
IMAGE = RELEASED["photo_input_bgr"][..., ::-1]  # red, green, blue
DATA = Data("camvid", 11, scale=(120, 90), crop=(64, 96))
PLAIN = dataclasses.replace(DATA, scale=(96, 64), ratio=(1.0, 1.0), flip=0.0, photometric=False)

untimed = settings(deadline=None, max_examples=40)  # timings are no promise: the machine may be busy
sides = st.integers(1, 70)
seeds = st.integers(0, 2**32)


def random(seed=0):
    return np.random.default_rng(seed)


def noise(height, width, seed=0, classes=3):
    """An image and a label without structure."""
    draw = random(seed)
    return draw.integers(0, 256, (height, width, 3), np.uint8), draw.integers(0, classes, (height, width), np.uint8)


def difference(ours, released):
    """Greatest difference in grey levels, and the share of values that differ."""
    gap = np.abs(ours.astype(int) - released.astype(int))
    return gap.max(), (gap > 0).mean()


@pytest.mark.parametrize("size", [(87, 131), (33, 50)])
def test_resized_image_is_that_of_the_release(size):
    resized = transforms.resize_image(RELEASED["photo_input_bgr"], *size)
    np.testing.assert_array_equal(resized, RELEASED[f"resize_img_{size[1]}x{size[0]}"])


@pytest.mark.parametrize("size", [(87, 131), (33, 50)])
def test_resized_label_is_that_of_the_release(size):
    resized = transforms.resize_label(RELEASED["resize_lab_in"], *size)
    np.testing.assert_array_equal(resized, RELEASED[f"resize_lab_{size[1]}x{size[0]}"])


def test_brightness_and_contrast_are_those_of_the_release():
    np.testing.assert_array_equal(transforms.brightness(IMAGE, 20), RELEASED["photo_bright_plus20"][..., ::-1])
    np.testing.assert_array_equal(transforms.contrast(IMAGE, 1.3), RELEASED["photo_contrast_1p3"][..., ::-1])


@pytest.mark.parametrize(
    ("step", "amount", "key"),
    [
        (transforms.saturation, 0.7, "photo_sat_0p7"),
        (transforms.hue, 10, "photo_hue_plus10"),
        (transforms.hue, -18, "photo_hue_minus18"),
    ],
)
def test_saturation_and_hue_are_those_of_the_release(step, amount, key):
    np.testing.assert_array_equal(step(IMAGE, amount), RELEASED[key][..., ::-1])


def test_normalised_image_is_that_of_the_release():
    ours = transforms.normalise(IMAGE).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, RELEASED["norm_img"], rtol=0, atol=1e-6)


def test_hue_turns_known_colours_by_two_degrees_a_step():
    wheel = np.array([[(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255)]], np.uint8)
    for sixths in range(6):
        np.testing.assert_array_equal(transforms.hue(wheel, 30 * sixths), np.roll(wheel, -sixths, axis=1))


def test_every_colour_comes_back_nearly_from_hsv():
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    image = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 52, 3)
    for same in (transforms.hue(image, 0), transforms.hue(image, 180), transforms.saturation(image, 1.0)):
        greatest, _ = difference(same, image)
        assert greatest <= 6  # grey levels: what 180 hues and truncation cost
        np.testing.assert_array_equal(same.max(axis=2), image.max(axis=2))


def test_a_grey_image_has_no_hue_to_change():
    image = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(transforms.hue(image, 11), image)
    np.testing.assert_array_equal(transforms.saturation(image, 1.4), image)


def test_steps_clip_and_truncate():
    image = np.array([[[0, 100, 250]]], np.uint8)
    assert transforms.brightness(image, 10.9).tolist() == [[[10, 110, 255]]]
    assert transforms.brightness(image, -10.1).tolist() == [[[0, 89, 239]]]
    assert transforms.contrast(image, 0.5).tolist() == [[[0, 50, 125]]]


@untimed
@given(sides, sides, sides, sides, seeds)
def test_a_resized_label_invents_nothing(height, width, new_height, new_width, seed):
    _, label = noise(height, width, seed)
    resized = transforms.resize_label(label, new_height, new_width)
    assert resized.shape == (new_height, new_width)
    assert set(np.unique(resized)) <= set(np.unique(label))


@untimed
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_label_row_comes_from_the_floor_of_its_scaled_position(old, new):
    label = np.arange(old) % 251
    rows = transforms.resize_label(label.astype(np.uint8)[:, None], new, 1)[:, 0]
    exact = np.arange(new) * old // new
    whole = (
        np.arange(new) * old % new == 0
    )  # there double precision may fall just short of the whole number, as in OpenCV
    matches = (rows == label[exact]) | (whole & (rows == label[exact - 1]))
    assert matches.all()


@untimed
@given(sides, sides, sides, sides, st.integers(0, 255))
def test_a_resized_flat_image_stays_flat(height, width, new_height, new_width, level):
    resized = transforms.resize_image(np.full((height, width, 3), level, np.uint8), new_height, new_width)
    np.testing.assert_array_equal(resized, np.full((new_height, new_width, 3), level))


@untimed
@given(st.integers(8, 3000), st.integers(8, 3000), st.integers(32, 2048), st.integers(32, 2048), st.floats(0.5, 2))
def test_a_fitted_image_fills_its_scale_and_not_more(height, width, long, short, ratio):
    scale = transforms.scaled((long, short), ratio)
    fitted = transforms.fitted_size(height, width, scale)
    gaps = (max(scale) - max(fitted), min(scale) - min(fitted))
    assert min(gaps) == 0
    data = dataclasses.replace(DATA, scale=(long, short))
    tested = transforms.test_size(height, width, data, ratio)
    for side, multiple in zip(fitted, tested, strict=True):
        assert multiple % 32 == 0
        assert 0 <= multiple - side < 32


@untimed
@given(sides, sides, sides, sides, seeds)
def test_a_crop_lies_in_the_image(height, width, crop_height, crop_width, seed):
    _, label = noise(height, width, seed)
    rows, columns = transforms.crop_window(label, (crop_height, crop_width), 0.75, random(seed))
    assert 0 <= rows.start < rows.stop <= height
    assert 0 <= columns.start < columns.stop <= width
    assert (rows.stop - rows.start, columns.stop - columns.start) == (min(height, crop_height), min(width, crop_width))


def half_empty():
    """Left of column 300 one class alone; right of it two, evenly mixed."""
    label = np.zeros((20, 400), np.uint8)
    label[::2, 300:] = 1
    return label


def test_a_crop_that_one_class_fills_is_drawn_again():
    shares = []
    for ratio in (1.0, 0.75):
        windows = [transforms.crop_window(half_empty(), (20, 20), ratio, random(seed)) for seed in range(300)]
        shares.append(np.mean([columns.stop > 300 for _, columns in windows]))
    assert shares[0] == pytest.approx(0.26, abs=0.07)  # any window: 100 of 381
    assert shares[1] > 0.85  # eleven draws: 1 - 0.79 ** 10 and the last


def test_ignored_pixels_do_not_count_as_a_class():
    label = half_empty()
    label[::2, :300] = 255
    windows = [transforms.crop_window(label, (20, 20), 0.75, random(seed)) for seed in range(100)]
    assert np.mean([columns.stop > 300 for _, columns in windows]) > 0.85


class CountedDraws:
    """A generator that counts what is drawn."""

    def __init__(self):
        self.count, self._random = 0, random()

    def integers(self, most):
        self.count += 1
        return self._random.integers(most)


def test_a_crop_is_drawn_at_most_eleven_times():
    hopeless, good = np.zeros((30, 30), np.uint8), np.indices((30, 30)).sum(axis=0).astype(np.uint8) % 2
    for label, windows in ((hopeless, 11), (good, 1)):
        counted = CountedDraws()
        transforms.crop_window(label, (10, 10), 0.75, counted)
        assert counted.count == 2 * windows


@untimed
@given(seeds, st.booleans())
def test_image_and_label_move_together(seed, photometric):
    """An image that repeats its label in grey still does so after resize by whole factors, crop, flip and pad."""
    _, label = noise(24, 36, seed, classes=2)
    image = np.repeat(label[..., None] * np.uint8(200), 3, axis=2)
    data = dataclasses.replace(PLAIN, scale=(36, 24), crop=(20, 40), flip=0.5, photometric=photometric)
    pixels, labels = transforms.train_sample(image, label, data, random(seed))
    assert pixels.shape == (3, 20, 40)
    assert labels.shape == (20, 40)
    assert (labels[:, 36:] == 255).all()
    assert (pixels[:, :, 36:] == 0).all()
    bright = pixels[0, :, :36] > pixels[0, :, :36].mean()
    assert torch.equal(bright, labels[:, :36] == 1)


def test_half_of_the_samples_are_flipped():
    image, label = noise(64, 96)
    for flip in (0.0, 0.5, 1.0):
        data = dataclasses.replace(PLAIN, flip=flip)
        flipped = [
            torch.equal(
                transforms.train_sample(image, label, data, random(seed))[1], torch.from_numpy(label[:, ::-1].copy())
            )
            for seed in range(200)
        ]
        assert np.mean(flipped) == pytest.approx(flip, abs=0.1)


@untimed
@given(seeds)
def test_a_sample_depends_on_its_random_numbers_alone(seed):
    image, label = noise(60, 80)
    image.flags.writeable = label.flags.writeable = False  # a cached source hands these out again
    torch.manual_seed(seed)
    first = transforms.train_sample(image, label, DATA, random(seed))
    torch.manual_seed(seed + 1)
    second = transforms.train_sample(image, label, DATA, random(seed))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert first[0].dtype == torch.float32
    assert first[1].dtype == torch.uint8
    assert first[0].shape == (3, *DATA.crop)
    assert first[1].shape == DATA.crop


def test_without_augmentation_a_sample_is_the_normalised_image():
    image, label = noise(64, 96)
    pixels, labels = transforms.train_sample(image, label, PLAIN, random())
    assert torch.equal(pixels, transforms.normalise(image))
    assert torch.equal(labels, torch.from_numpy(label))


def test_padding_is_zero_after_normalisation_and_ignored():
    image, label = noise(32, 48)
    pixels, labels = transforms.train_sample(image, label, dataclasses.replace(PLAIN, scale=(48, 32)), random())
    assert torch.equal(pixels[:, :32, :48], transforms.normalise(image))
    assert pixels[:, 32:].abs().max() == pixels[:, :, 48:].abs().max() == 0
    assert (labels[32:] == 255).all()
    assert (labels[:, 48:] == 255).all()


def test_distortion_applies_each_step_to_half_of_the_images(monkeypatch):
    done = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0)
    amounts = {name: [] for name in done}

    def counted(name):
        def step(image, amount):
            done[name] += 1
            amounts[name].append(amount)
            return image

        return step

    for name in done:
        monkeypatch.setattr(transforms, name, counted(name))
    generator = random()
    for _ in range(2000):
        transforms.distort(IMAGE, generator)
    for name, count in done.items():
        assert count == pytest.approx(1000, abs=100), name
    assert set(amounts["hue"]) == set(range(-18, 18))
    for name, low, high in (("brightness", -32, 32), ("contrast", 0.5, 1.5), ("saturation", 0.5, 1.5)):
        assert low <= min(amounts[name]) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(amounts[name]) <= high


def test_a_tested_image_has_its_test_size_and_flips_at_the_end():
    image, _ = noise(50, 70)
    straight = transforms.test_image(image, DATA, ratio=0.75)
    assert straight.shape == (1, 3, *transforms.test_size(50, 70, DATA, 0.75))
    assert straight.dtype == torch.float32
    assert torch.equal(transforms.test_image(image, DATA, ratio=0.75, flip=True), straight.flip(3))


def test_no_step_writes_into_its_input():
    image, label = noise(50, 70)
    before = image.copy(), label.copy()
    for seed in range(8):
        transforms.train_sample(image, label, DATA, random(seed))
    transforms.test_image(image, DATA, flip=True)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label, before[1])
