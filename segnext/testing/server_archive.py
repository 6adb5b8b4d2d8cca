"""Predictions as files: archives for the test servers of VOC 2012 and Cityscapes, plain class maps for other datasets.

An archive is written atomically, with a manifest beside it. The same predictions give the same bytes.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Unpack

import numpy as np
from PIL import Image
from torch import nn

from segnext.config import Data
from segnext.data.classes import CITYSCAPES_IDS, VOC_PALETTE
from segnext.data.source import Pixels, Source
from segnext.files import write_atomically
from segnext.testing.evaluate import How, predictions


@dataclass(frozen=True)
class Form:
    """The format that a server accepts: an archive of 8-bit PNG files, one per image."""

    suffix: str  # .tar.gz or .zip
    folder: str = ""  # folder of the files in the archive
    frame: str = ".+"  # regular expression for the part of an image's name that is its file's name
    values: tuple[int, ...] | None = None  # pixel value of each class; None: the class itself
    palette: bool = False  # whether the PNG is indexed with VOC's colours


FORMS: Mapping[str, Form] = {
    # VOC 2012 development kit, sections 5.2 and 5.3: comp6 is the competition that allows any training data.
    "voc2012": Form(".tar.gz", "results/VOC2012/Segmentation/comp6_test_cls/", r"\d{4}_\d{6}", palette=True),
    # cityscapesScripts, evalPixelLevelSemanticLabeling.py: CITY_SEQUENCE_FRAME*.png, pixels are label ids.
    "cityscapes": Form(".zip", "", r"[A-Za-z-]+_\d{6}_\d{6}", CITYSCAPES_IDS),
}
PLAIN = Form(".zip")


@dataclass(frozen=True)
class Manifest:
    """Describes an archive, and is kept beside it, so that a server's score can be traced to the run."""

    run: str  # the id of the run that predicted
    dataset: str
    archive: str  # file name
    sha256: str
    images: int
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the prediction: multi-scale, Ham's seed


def predict(model: nn.Module, source: Source, data: Data, **how: Unpack[How]) -> Iterator[tuple[str, Pixels]]:
    """Yield the name of each image and the likeliest class of its pixels, uint8 `(H, W)`, as in `evaluate`.

    The split needs no labels, so the test split of a server works.
    """
    for numbers, maps, _ in predictions(model, source, data, **how):
        for number, classes in zip(numbers, maps, strict=True):
            yield source.name(number), classes.numpy()


def export(
    predicted: Iterable[tuple[str, Pixels]],
    path: Path,
    *,
    dataset: str,
    classes: int,
    run: str,
    settings: Mapping[str, Any] | None = None,
) -> Manifest:
    """Pack named class maps, uint8 `(H, W)`, into an archive for the dataset's server.

    `path` has no suffix: the archive is `path.tar.gz` or `path.zip`, its manifest `path.json`. Raises `ValueError`, and
    writes nothing, for a value that is no class, for a name that repeats or is not the dataset's, and for no image.
    """
    form = FORMS.get(dataset, PLAIN)
    files: dict[str, bytes] = {}
    for name, pixels in predicted:
        found = re.match(form.frame, PurePosixPath(name).name)
        if found is None:
            raise ValueError(f"{name!r} is not the name of a {dataset} image: it does not begin with {form.frame}")
        file = f"{form.folder}{found[0]}.png"
        if file in files:
            raise ValueError(f"{file} is predicted twice, the second time for {name!r}")
        if pixels.max() >= classes:
            raise ValueError(f"{name}: {pixels.max()} is none of the {classes} classes")
        files[file] = _png(pixels, form)
    if not files:
        raise ValueError(f"there is no prediction to pack into {path}{form.suffix}; the split is empty")
    content = (_tar if form.suffix == ".tar.gz" else _zip)(files)
    archive = path.with_name(path.name + form.suffix)
    manifest = Manifest(
        run, dataset, archive.name, hashlib.sha256(content).hexdigest(), len(files), dict(settings or {})
    )
    write_atomically(archive, content)
    write_atomically(_beside(path), json.dumps(dataclasses.asdict(manifest), indent=2) + "\n")
    return manifest


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _png(pixels: Pixels, form: Form) -> bytes:
    values = pixels if form.values is None else np.array(form.values, dtype=np.uint8)[pixels]
    picture = Image.fromarray(values)
    if form.palette:
        picture.putpalette([level for colour in VOC_PALETTE for level in colour])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, content in files.items():
            entry = tarfile.TarInfo(name)  # without time and owner, so that the same predictions give the same bytes
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # without compression, because PNG is compressed
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()
