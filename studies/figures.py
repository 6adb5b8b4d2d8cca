"""Compute pictures of finished runs: `python -m studies.figures --rows STUDY/ROW[@seed],... --protocol quick`.

For every selected run, from its kept weights: segmentations and Grad-CAM of a few test images, the share of Grad-CAM's
heat inside the class's true pixels over more images, the encoder's effective receptive field, and the evolution of
Ham's bases. Small arrays go to results/cam/RUN.npz, numbers and provenance to RUN.json; reports.build draws them. Exit
codes: 0 fine, 2 usage, 3 weights or data are missing and nothing was written.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segnext.config import Data
from segnext.door import Parser, command, console
from segnext.files import write_atomically
from studies.declare.protocols import PROTOCOLS, protocol
from studies.plan.options import add_data_root, numbers, positive, words_of
from studies.plan.runs import PlannedRun, plan, select
from studies.plan.weights import verified
from studies.records.schema import RunRecord
from studies.records.store import Store
from studies.records.typed import to_json
from studies.records.workspace import Workspace

if TYPE_CHECKING:
    from segnext.data import Source
    from segnext.model import SegNeXt

VERSION = 1  # of the computation: raise it when that changes
FIELD_SIDE = 257  # pixels: side of the noise images from which the effective receptive field is computed
LONGEST = 320  # pixels: longer side of a kept image


@command("python -m studies.figures")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser.of("python -m studies.figures", __doc__)
    parse.add_argument("--rows", type=words_of, required=True, metavar="STUDY/ROW[@seed],...", help="finished runs")
    parse.add_argument("--protocol", default="paper", help=f"one of {', '.join(PROTOCOLS)} (default: paper)")
    parse.add_argument("--seeds", type=numbers, default=(0,), metavar="0,1,2", help="(default: 0)")
    parse.add_argument("--limit-iterations", type=positive, metavar="N", help="runs that ended after N iterations")
    parse.add_argument(
        "--images", type=positive, default=4, metavar="N", help="images to draw, the first of the split (4)"
    )
    parse.add_argument(
        "--heat-images", type=positive, default=50, metavar="N", help="images whose heat is measured (50)"
    )
    parse.add_argument(
        "--class", dest="target", metavar="NAME", help="class for Grad-CAM (default: see results/README.md)"
    )
    parse.add_argument("--stage", type=int, choices=(1, 2, 3, 4), default=4, help="encoder stage for Grad-CAM (4)")
    add_data_root(parse)
    options = parse.parse_args(arguments)
    from studies.facts import files  # scipy: not for --help

    out = console()
    chosen, store = protocol(options.protocol), Store()
    runs = plan(select(options.rows, chosen, None, options.seeds), chosen, options.limit_iterations, store)
    runs = _finished(planned for planned in runs if not planned.upstream and isinstance(planned.run.data, Data))
    try:
        weights = {planned.id: _weights(planned, store) for planned in runs}
        made: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {}
        for number, planned in enumerate(runs, start=1):
            out.print(f"{number}/{len(runs)} {planned.label}")
            made[planned.id] = _pictures(planned, store.finished(planned.id), weights[planned.id], options)
    except (ValueError, OSError) as error:  # segnext.data.DataError is a ValueError
        parse.exit(3, f"{parse.prog}: nothing was written: {error}\n")
    for identifier, (facts, arrays) in made.items():
        for ending, content in ((".npz", _packed(arrays)), (".json", to_json(facts))):
            write_atomically(store.folder / "cam" / f"{identifier}{ending}", content)
        out.print(f"wrote {store.folder.name}/cam/{identifier}.npz and .json")
    files.write(Store(store.folder))
    return 0


def _finished(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """The runs with a record. Raises `ValueError` for a row without any; a row may have further, unfinished runs."""
    rows: dict[tuple[str, str, int], list[PlannedRun]] = {}
    for planned in runs:
        rows.setdefault((planned.study.slug, planned.row.slug, planned.run.seed), []).append(planned)
    for (study, row, seed), found in rows.items():
        if all(planned.state != "done" for planned in found):
            raise ValueError(f"{study}/{row}@{seed} has no record; pictures are made of finished runs")
    return [planned for found in rows.values() for planned in found if planned.state == "done"]


def _weights(planned: PlannedRun, store: Store) -> Path:
    """The kept weights of a finished run. Raises `ValueError` if there are none, or not those that its record names."""
    path = Workspace(planned.run.id).weights
    if not path.exists():
        raise ValueError(f"{planned.label}: its weights are not in runs/{planned.id}; run it again with --rerun done")
    verified(path, store.weights_digest(planned.id), planned.label)
    return path


def _pictures(
    planned: PlannedRun, record: RunRecord, weights: Path, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import torch

    from segnext.data import open_split
    from segnext.look.gradcam import grad_cam, share_inside
    from segnext.look.insight import effective_receptive_field, reach
    from segnext.model import SegNeXt
    from segnext.released_weights import load_file, load_released
    from studies.records.provenance import provenance

    data = planned.run.data
    assert isinstance(data, Data)
    source = open_split(data, data.test_split, options.data_root)
    if not source.labelled:
        raise ValueError(f"{planned.label}: only a test server has the labels of {data.test_split}")
    model = SegNeXt(planned.run.model, data.classes)
    load_released(model, load_file(weights), weights)
    model.eval()
    target = _target(source, options)
    arrays: dict[str, np.ndarray] = {}
    shares: list[str] = []
    for number in range(min(len(source), max(options.images, options.heat_images))):
        image, label = source.load(number)
        mask = label == target
        heat = None
        if mask.any():
            picture = _tested(image, data)
            size = tuple(picture.shape[2:])
            heat = grad_cam(model, picture, target, _resized(mask, size), options.stage)
            inside = share_inside(heat, _resized(mask, size))
            if number < options.heat_images:
                shares.append(f"{number} {'-' if inside is None else f'{inside:.6f}'} {mask.mean():.6f}")
        if number < options.images:
            with torch.inference_mode():
                scores = _scores(model, image, data)
            arrays |= {f"image{number}": _small(image), f"label{number}": _small(label)}
            arrays[f"predicted{number}"] = _small(scores.argmax(axis=0).astype(np.uint8))
            if heat is not None:
                arrays[f"heat{number}"] = _resized(heat, _small(label).shape).astype(np.float16)
    field = effective_receptive_field(model.encoder, FIELD_SIDE)
    arrays["field"] = _halved(field)
    facts = {
        "run": planned.id,
        "version": VERSION,
        "weights": record.weights.sha256 if record.weights else "",
        "dataset": data.dataset,
        "split": data.test_split,
        "classes": list(source.classes),
        "images": [source.name(number) for number in range(min(options.images, len(source)))],
        "target": source.classes[target],
        "stage": options.stage,
        "field_side": FIELD_SIDE,
        "shares": shares,
        "reach": {str(share): reach(field, share) for share in (0.5, 0.9, 0.99)},
        "errors": _evolution(model, source, data, arrays),
        "provenance": {**provenance("evaluation"), "command": "python -m studies.figures"},
    }
    return facts, arrays


def _halved(field: np.ndarray) -> np.ndarray:
    """A field at half its resolution, scaled so that its largest value is 1."""
    half = FIELD_SIDE // 2
    blocks = field[:-1, :-1].reshape(half, 2, half, 2).sum(axis=(1, 3))
    return (blocks / blocks.max()).astype(np.float16)


def _target(source: Source, options: argparse.Namespace) -> int:
    """The class named by --class; by default the one in most drawn images, then with most pixels, except background."""
    if options.target is not None:
        if options.target not in source.classes:
            raise ValueError(f"--class {options.target}: the classes are {', '.join(source.classes)}")
        return source.classes.index(options.target)
    images, pixels = Counter[int](), Counter[int]()
    for number in range(min(options.images, len(source))):
        found, counts = np.unique(source.load(number)[1], return_counts=True)
        images.update(found.tolist())
        pixels.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    usable = [k for k in images if k < len(source.classes) and source.classes[k] != "background"]
    return max(usable, key=lambda k: (images[k], pixels[k], -k))


def _tested(image: np.ndarray, data: Data) -> Any:
    from segnext.data.transforms import test_image

    return test_image(image, data)


def _scores(model: SegNeXt, image: np.ndarray, data: Data) -> np.ndarray:
    import torch

    from segnext.testing.evaluate import probabilities

    found = probabilities(model, torch.tensor(image)[None], data, (1.0,), (False,), torch.device("cpu"))
    return found[0].numpy()


def _evolution(model: SegNeXt, source: Source, data: Data, arrays: dict[str, np.ndarray]) -> list[float]:
    """Add Ham's codes on the first image to `arrays` and return the errors; without Ham, do nothing."""
    import torch

    from segnext.ham import NMF
    from segnext.look.insight import bases_evolution

    nmf = next((module for module in model.modules() if isinstance(module, NMF)), None)
    if nmf is None:
        return []
    seen: list[torch.Tensor] = []
    nmf.reseed(0)
    handle = nmf.register_forward_hook(lambda module, given, result: seen.append(given[0]))
    with torch.no_grad():
        model(_tested(source.load(0)[0], data))
    handle.remove()
    codes, errors = bases_evolution(nmf, seen[0])
    arrays["codes"] = codes.astype(np.float16)
    return errors


def _small(pixels: np.ndarray) -> np.ndarray:
    """Shrink to at most LONGEST pixels a side by dropping rows and columns, which keeps labels valid."""
    step = -(-max(pixels.shape[:2]) // LONGEST)
    return pixels[::step, ::step]


def _resized(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize by nearest neighbour."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, pixels.shape, strict=True))
    return pixels[rows[:, None], columns]


def _packed(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
