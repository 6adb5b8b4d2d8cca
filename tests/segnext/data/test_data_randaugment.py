"""RandAugment draws what timm 0.4.12's `rand-m9-mstd0.5-inc1` draws, and its operations are torchvision's."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from segnext.data import randaugment
from segnext.data.randaugment import OPERATIONS, RESAMPLING, Operation, rand_augment

GREY = (128, 128, 128)

# timm 0.4.12, auto_augment.py, _RAND_INCREASING_TRANSFORMS with LEVEL_TO_ARG: the argument at levels 0, 5, 9 and 10,
# and whether its sign (of the part that is not 1, for an enhancement) is drawn.
TIMM = {
    "AutoContrast": None,
    "Equalize": None,
    "Invert": None,
    "Rotate": ((0, 15, 27, 30), "degrees"),
    "Posterize": ((4, 2, 1, 0), "bits"),
    "Solarize": ((256, 128, 26, 0), "threshold"),
    "SolarizeAdd": ((0, 55, 99, 110), "added"),
    "Color": ((1, 1.45, 1.81, 1.9), "factor"),
    "Contrast": ((1, 1.45, 1.81, 1.9), "factor"),
    "Brightness": ((1, 1.45, 1.81, 1.9), "factor"),
    "Sharpness": ((1, 1.45, 1.81, 1.9), "factor"),
    "ShearX": ((0, 0.15, 0.27, 0.3), "signed"),
    "ShearY": ((0, 0.15, 0.27, 0.3), "signed"),
    "TranslateX": ((0, 0.225, 0.405, 0.45), "signed"),
    "TranslateY": ((0, 0.225, 0.405, 0.45), "signed"),
}


def picture() -> Image.Image:
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(40, 216, (8, 10, 3), np.uint8)).resize((60, 48), Image.Resampling.BICUBIC)


def test_the_operations_are_timms():
    assert set(OPERATIONS) == set(TIMM)


@pytest.mark.parametrize("name", [name for name, row in TIMM.items() if row])
def test_parameters_are_those_of_timms_table(name: str):
    values, kind = TIMM[name]
    parameter = OPERATIONS[name].parameter
    assert [parameter(level / 10) for level in (0, 5, 9, 10)] == pytest.approx(values)
    mirrored = {"factor": [2 - v for v in values], "degrees": [-v for v in values], "signed": [-v for v in values]}
    assert [parameter(-level / 10) for level in (0, 5, 9, 10)] == pytest.approx(mirrored.get(kind, values))


def torchvisions(name: str, value: float, image: Image.Image, mode: InterpolationMode) -> Image.Image:
    width, height = image.size
    filled = {"interpolation": mode, "fill": GREY}
    match name:
        case "AutoContrast":
            return reference.autocontrast(image)
        case "Equalize":
            return reference.equalize(image)
        case "Invert":
            return reference.invert(image)
        case "Rotate":
            return reference.rotate(image, value, **filled)
        case "Posterize":
            return reference.posterize(image, int(value))
        case "Solarize":
            return reference.solarize(image, int(value))
        case "Color":
            return reference.adjust_saturation(image, value)
        case "Contrast":
            return reference.adjust_contrast(image, value)
        case "Brightness":
            return reference.adjust_brightness(image, value)
        case "Sharpness":
            return reference.adjust_sharpness(image, value)
    degrees = math.degrees(math.atan(value))
    shear = {"ShearX": [degrees, 0.0], "ShearY": [0.0, degrees]}.get(name, [0.0, 0.0])
    # torchvision says where a pixel goes, timm where it comes from
    moved = {"TranslateX": [-value * width, 0], "TranslateY": [0, -value * height]}.get(name, [0, 0])
    return reference.affine(image, 0.0, moved, 1.0, shear, center=[0, 0], **filled)


@pytest.mark.parametrize("resampling", RESAMPLING)
@pytest.mark.parametrize("strength", [-0.99, 0.9, 0.45])
@pytest.mark.parametrize("name", [name for name in TIMM if name != "SolarizeAdd"])
def test_an_operation_is_torchvisions_of_the_same_parameter(name: str, strength: float, resampling: str):
    image, (parameter, apply) = picture(), OPERATIONS[name]
    found = apply(image, parameter(strength), randaugment._Filling(RESAMPLING[resampling], GREY))
    expected = torchvisions(name, parameter(strength), image, InterpolationMode(resampling))
    assert found.size == image.size
    different = np.abs(np.array(found).astype(int) - np.array(expected)).max(axis=2) > 1
    assert different.mean() <= 0.02  # pixels whose source lies on a border between two, by a rounding


def test_posterize_to_no_bit_is_black():
    """One in forty magnitudes from N(9, 0.5) is clipped to 10: no bit is kept (timm's formula)."""
    parameter, apply = OPERATIONS["Posterize"]
    found = np.array(apply(picture(), parameter(1.0), randaugment._Filling(RESAMPLING["bilinear"], GREY)))
    assert not found.any()


def test_solarize_add_brightens_the_dark_half_alone():
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2))
    parameter, apply = OPERATIONS["SolarizeAdd"]
    found = np.array(apply(levels, parameter(0.9), randaugment._Filling(RESAMPLING["bilinear"], GREY)))[0, :, 0]
    assert found.tolist() == [min(255, level + 99) if level < 128 else level for level in range(256)]


def test_two_operations_each_with_probability_a_half_at_magnitudes_around_the_mean(monkeypatch: pytest.MonkeyPatch):
    """The draws themselves, recorded in the place of the pixels' arithmetic."""
    seen: list[tuple[str, float, object]] = []

    def recorder(name: str) -> Operation:
        def record(image: Image.Image, value: float, filling: randaugment._Filling) -> Image.Image:
            seen.append((name, value, filling.resampling))
            return image

        return Operation(lambda strength: strength, record)

    monkeypatch.setattr(randaugment, "_OPERATIONS", tuple(recorder(name) for name in OPERATIONS))
    random, image, images = np.random.default_rng(0), picture(), 6000
    counts = []
    for _ in range(images):
        before = len(seen)
        rand_augment(image, 9.0, 0.5, ("bilinear", "bicubic"), GREY, random)
        counts.append(len(seen) - before)
    shares = [counts.count(n) / images for n in (0, 1, 2)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    named = Counter(name for name, _, _ in seen)
    assert all(abs(named[name] / len(seen) - 1 / 15) < 0.015 for name in TIMM)
    strengths = np.array([value for _, value, _ in seen])
    assert (strengths > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert np.abs(strengths).max() <= 1
    assert np.abs(strengths).mean() == pytest.approx(0.9, abs=0.005)
    assert np.abs(strengths).std() == pytest.approx(0.05, abs=0.005)
    assert (np.array([kind for _, _, kind in seen]) == RESAMPLING["bicubic"]).mean() == pytest.approx(0.5, abs=0.03)


def test_the_same_chance_gives_the_same_image_and_size_and_mode_stay():
    image, modes = picture(), ("bilinear", "bicubic")
    for seed in range(40):
        one, two = (rand_augment(image, 9.0, 0.5, modes, GREY, np.random.default_rng(seed)) for _ in range(2))
        assert (one.size, one.mode) == (image.size, "RGB")
        assert np.array_equal(np.array(one), np.array(two))
