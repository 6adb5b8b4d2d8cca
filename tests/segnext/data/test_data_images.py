"""Promises of the readers of images and labels: of every mode and format of Pillow, the right pixels or a refusal."""

from __future__ import annotations

import io
import os

import cv2
import numpy as np
import pytest
from conftest import SHARED
from PIL import Image

from segnext.data.images import read_colours, read_image, read_label, read_size
from segnext.data.source import DataError

Image.init()
RAMP = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
CASES = SHARED / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are not at {CASES}")


def ramp(mode):
    """Greys from black to white in a mode of Pillow: (8, 256)."""
    grey = Image.fromarray(RAMP)
    if mode.startswith("I;16"):
        wide = RAMP.astype(np.uint16) * 257
        return Image.frombytes(mode, grey.size, wide.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    if mode == "I":
        return Image.fromarray(RAMP.astype(np.int32) * (1 << 23))
    if mode == "F":
        return Image.fromarray(RAMP.astype(np.float32) / 255)
    if mode in ("La", "RGBa", "PA"):
        return grey.convert({"La": "LA", "RGBa": "RGBA", "PA": "P"}[mode]).convert(mode)
    if mode == "HSV":
        return grey.convert("RGB").convert("HSV")
    if mode == "LAB":
        return Image.merge("LAB", [grey, *[grey.point([128] * 256)] * 2])
    return grey.convert(mode, dither=Image.Dither.NONE)


@pytest.mark.parametrize("mode", Image.MODES)
def test_an_image_of_any_mode_and_format_is_read_right_or_refused(tmp_path, mode):
    """Files of the formats that people have, under the name that the dataset gives its images."""
    path, read = tmp_path / "image.jpg", set()
    for kind in ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP"):
        try:
            ramp(mode).save(path, kind)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError):  # not this mode in that format
            continue
        try:
            pixels = read_image(path)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017 both outcomes are judged
            continue
        read.add(kind)
        known = 255 * (RAMP > 127) if mode == "1" else RAMP
        assert pixels.shape == (8, 256, 3)
        assert np.abs(pixels - known[..., None].astype(int)).max() <= (0 if kind == "PNG" else 8)
    assert read <= {"PNG", "JPEG"}
    if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        assert "PNG" in read


def test_grey_and_colour_of_16_bits_are_what_opencv_reads(tmp_path):
    wide = np.random.default_rng(0).integers(0, 1 << 16, (9, 12, 3), np.uint16)
    for number, pixels in enumerate((wide, wide[..., 0])):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), pixels)
        np.testing.assert_array_equal(read_image(path), cv2.imread(str(path))[..., ::-1])


@needs_cases
def test_a_grey_ramp_of_16_bits_is_a_ramp():
    np.testing.assert_array_equal(read_image(CASES / "g16.png"), cv2.imread(str(CASES / "g16.png")))


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "TIFF", "BMP", "WEBP", "JPEG2000", "TGA", "PPM"])
def test_a_label_of_another_format_is_refused_whatever_its_name(tmp_path, kind):
    path = tmp_path / "label.png"
    Image.fromarray(RAMP).save(path, kind)
    for read in (read_label, read_colours):
        with pytest.raises(DataError, match=r"label\.png: cannot be read as an image \(it is no PNG file\); put the"):
            read(path)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_label_of_few_bits_is_its_palette_index_or_refused(tmp_path, bits):
    """Pillow spreads grey of 2 and 4 bits over 0 to 255: class 1 would be 85 or 17."""
    path = tmp_path / "label.png"
    label = np.arange(8, dtype=np.uint8).reshape(2, 4) % (1 << bits)
    picture = Image.fromarray(label)
    picture.save(path, bits=bits) if bits > 1 else Image.fromarray(label > 0).save(path)
    with pytest.raises(DataError, match="label of mode 1" if bits == 1 else f"grey label of {bits} bits a pixel"):
        read_label(path)
    picture.putpalette([level for level in range(256) for _ in range(3)])
    picture.save(path, bits=bits)
    np.testing.assert_array_equal(read_label(path), label)


@pytest.mark.parametrize("read", [read_image, read_label, read_colours, read_size])
def test_ghostscript_is_never_started(tmp_path, monkeypatch, read):
    for name in ("gs", "gswin32c", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\n: > {tmp_path}/started\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    buffer = io.BytesIO()
    Image.fromarray(RAMP).convert("RGB").save(buffer, "EPS")
    path = tmp_path / "image.jpg"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="cannot be read as an image"):
        read(path)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_images_are_read_as_they_are_stored_whatever_their_orientation(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, turned = tmp_path / f"plain.{suffix}", tmp_path / f"turned.{suffix}"
    Image.fromarray(RAMP).convert("RGB").save(plain)
    Image.fromarray(RAMP).convert("RGB").save(turned, exif=exif)
    np.testing.assert_array_equal(read_image(turned), read_image(plain))
    assert read_size(turned) == read_image(turned).shape[:2]


@needs_cases
def test_a_photograph_on_its_side_stays_with_its_label():
    assert read_image(CASES / "exif6.jpg").shape == (8, 64, 3)
