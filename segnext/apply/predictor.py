"""`Predictor`: a file of weights made ready for pictures. `Prediction`: what it says of one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from PIL import Image

from segnext.apply.overlay import label_image, overlay, shares
from segnext.apply.pictures import picture_of, read_picture
from segnext.apply.recognise import Recognised, recognised
from segnext.data.source import DataError, Pixels
from segnext.data.transforms import test_size
from segnext.model import SegNeXt
from segnext.released_weights import load_file, load_released
from segnext.testing.evaluate import MEMORY_LIMIT, predictions
from segnext.text import printable

SUFFIXES = (".pth", ".pt", ".tar")  # of files of weights

Picture: TypeAlias = "Path | str | Image.Image | Pixels"


@dataclass(frozen=True)
class Prediction:
    """The likeliest class of every pixel of a picture."""

    labels: Pixels  # uint8 (H, W)
    picture: Pixels  # uint8 RGB (H, W, 3), upright
    names: tuple[str, ...]  # class k is names[k]
    colours: Pixels  # uint8 (256, 3)

    @cached_property
    def percent(self) -> dict[str, float]:
        """Of the pixels, by class, of the classes that are there; the largest first."""
        return shares(self.labels, self.names)

    def overlay(self, opacity: float = 0.6) -> Image.Image:
        """The picture under its classes' colours, with a legend; `opacity` is the colours' part, 0 to 1."""
        return overlay(self.picture, self.labels, self.names, self.colours, opacity)

    def label_image(self) -> Image.Image:
        """The labels as a palette picture: saved as PNG its bytes are the classes."""
        return label_image(self.labels, self.colours)


@dataclass(frozen=True)
class Failure:
    """A picture that could not be segmented, and why; the message names it."""

    why: str


class Predictor:
    """SegNeXt on pictures of one's own: `Predictor("segnext_tiny_512x512_ade_160k.pth")("street.jpg").percent`.

    `weights` is a file, or a folder that holds one; `dataset`, `model` and `classes` settle what it does not say
    (`segnext.apply.recognise`). A picture is tested as its data set is, at one scale or at all of the paper's, flipped
    and not; Ham starts from its seed 0. Raises `ValueError` and `OSError` for weights that cannot be read or fit no
    network.
    """

    def __init__(
        self,
        weights: Path | str,
        *,
        dataset: str = "",
        model: str = "",
        classes: Sequence[str] = (),
        device: str = "cpu",
        multi_scale: bool = False,
    ) -> None:
        self.file = weights_in_folder(Path(weights))
        self.device, self.multi_scale = _device(device), multi_scale
        content = load_file(self.file)
        self.what: Recognised = recognised(content, printable(self.file), dataset, model, classes)
        self.network = SegNeXt(self.what.model, len(self.what.names))
        load_released(self.network, content, self.file)
        self.network.eval().requires_grad_(False).to(self.device)

    @cached_property
    def sha256(self) -> str:
        """The digest of the weights' file."""
        with open(self.file, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def __call__(self, picture: Picture) -> Prediction:
        """Segment a picture: a file, one of Pillow's images, or uint8 RGB (H, W, 3).

        Raises `DataError`, a `ValueError`, for one that cannot be read or segmented.
        """
        (found,) = self.each([picture])
        if isinstance(found, Failure):
            raise DataError(found.why)
        return found

    def each(self, pictures: Sequence[Picture]) -> Iterator[Prediction | Failure]:
        """What it says of every picture, in their order; one that fails leaves the others."""
        rest = list(pictures)
        while rest:
            source = _Pictures(rest, self._prepared, self.what.names)
            done = 0
            try:
                for (number,), maps, _ in predictions(
                    self.network, source, self.what.data, multi_scale=self.multi_scale, device=self.device
                ):
                    yield source.found(number, maps[0].numpy(), self.what)
                    done += 1
                return
            except (RuntimeError, MemoryError, ValueError) as error:  # torch's: out of memory, mostly
                why = printable(str(error).partition("\n")[0] or type(error).__name__)
            yield Failure(f"{named(rest[done])}: cannot be segmented ({why})")
            rest = rest[done + 1 :]

    def _prepared(self, picture: Pixels) -> Pixels:
        """A picture that the network can be shown: too many pixels are averaged, which only several scales need.

        They sum every class's probability at every pixel. Raises `ValueError` for a strip of a picture.
        """
        height, width = picture.shape[:2]
        data = self.what.data
        ratios = data.test_scales if self.multi_scale else (1.0,)
        if min(min(test_size(height, width, data, ratio)) for ratio in ratios) < 32:
            raise ValueError(f"{width}x{height} is too long and narrow: fitted into {data.scale} no 32 pixels are left")
        most = MEMORY_LIMIT.get(self.device.type, MEMORY_LIMIT["cpu"]) // (4 * len(self.what.names))
        if not self.multi_scale or height * width <= most:
            return picture
        factor = math.sqrt(most / (height * width))
        size = max(1, int(width * factor)), max(1, int(height * factor))
        smaller: Pixels = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return smaller


def weights_in_folder(path: Path) -> Path:
    """A file of weights, or the one segmentation network's that a folder holds.

    Raises `ValueError` where it holds several or none; `mscan_*` and `van_*` are encoders alone.
    """
    if not path.is_dir():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    files = [file for file in files if not file.name.startswith(("mscan_", "van_"))]
    if len(files) == 1:
        return files[0]
    held = f"several networks: {', '.join(printable(file.name) for file in files)}" if files else "no network's weights"
    raise ValueError(
        f"--weights: {printable(path)} holds {held}; name one file (python -m segnext.weights fetches some)"
    )


def named(picture: Picture) -> str:
    """What a message calls a picture."""
    return printable(picture) if isinstance(picture, str | Path) else "the picture"


def _device(name: str) -> torch.device:
    """A device that is there; `ValueError` otherwise."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {printable(name)}: {str(error).strip().partition(chr(10))[0]}") from None
    return device


class _Pictures:
    """Pictures as `evaluate` reads a split. One that cannot be read is black and small, and its failure is kept."""

    labelled = False

    def __init__(
        self, pictures: Sequence[Picture], prepared: Callable[[Pixels], Pixels], classes: tuple[str, ...]
    ) -> None:
        self.classes = classes
        self._pictures, self._prepared = pictures, prepared
        self._read: dict[int, Pixels | Failure] = {}

    def __len__(self) -> int:
        return len(self._pictures)

    def name(self, index: int) -> str:
        return named(self._pictures[index])

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        picture = self._pictures[index]
        try:
            read = read_picture(picture) if isinstance(picture, str | Path) else picture_of(picture)
            shown = self._prepared(read)
            self._read[index] = read
        except DataError as error:
            self._read[index] = Failure(str(error))
        except (ValueError, OSError, MemoryError) as error:
            self._read[index] = Failure(f"{named(picture)}: {printable(error) or 'out of memory'}")
        if isinstance(self._read[index], Failure):
            shown = np.zeros((64, 64, 3), np.uint8)
        return shown, np.zeros(shown.shape[:2], np.uint8)

    def found(self, index: int, labels: Pixels, what: Recognised) -> Prediction | Failure:
        """What is said of a picture, in its own size."""
        read = self._read.pop(index)
        if isinstance(read, Failure):
            return read
        if labels.shape != read.shape[:2]:
            labels = cv2.resize(labels, read.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return Prediction(labels, read, what.names, what.colours)

    def fingerprint(self) -> str:
        return ""

    def contents(self) -> str | None:
        return None
