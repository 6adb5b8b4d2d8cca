"""SegNeXt on your own pictures: `python -m segnext.predict street.jpg photos/ --weights weights/ --out segmented`.

For every picture NAME.labels.png (a palette PNG: its bytes are the classes), NAME.overlay.png (the picture under its
classes' colours, with a legend), and in summary.csv and here the percent of the pixels of every class. The size of the
network, its classes and how pictures are tested are read from the file of weights: the authors', mmsegmentation's, or
runs/ID/weights.pt. Any picture that Pillow reads is taken upright; of an animation, the first frame. Without a change
of weights or options what is there already is kept, so that the same command continues.
Exit codes: 0 fine, 1 some pictures could not be segmented (they are named, the others are done), 2 usage, 5 stopped by
Ctrl-C.

In Python: `from segnext.predict import Predictor`; `Predictor("weights.pth")("street.jpg").overlay().save("seen.png")`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segnext.door import Column, Parser, command, say, show_table, typed_path
from segnext.files import write_atomically
from segnext.text import printable

if TYPE_CHECKING:
    from segnext.apply.predictor import Failure, Prediction, Predictor

__all__ = ["Failure", "Prediction", "Predictor"]

SUMMARY = "summary.csv"
COLUMNS = ("picture", "class", "percent")
_MARK = "segnext"  # the text of a label map that says what made it
_SHOWN = 20  # classes that are printed; the CSV has all


def __getattr__(name: str) -> Any:
    """Import torch only when a network is asked for; `--help` never needs it."""
    if name in __all__:
        from segnext.apply import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'segnext.predict' has no attribute {name!r}")


@command("python -m segnext.predict")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parser().parse_args(arguments)
    from segnext.apply.pictures import found

    tasks = _tasks(list(found(options.pictures, options.out)), options.out)
    _check_summary(options.out, tasks, options.overwrite)
    predictor = _predictor(options)
    what = predictor.what
    of = "" if what.data.dataset == "own" else f" of {what.data.dataset}"
    say(
        f"{printable(predictor.file)}: SegNeXt-{what.model.size}, {len(what.names)} classes{of} ({what.classes_from}), "
        f"on {predictor.device}"
    )
    mark = {**_mark(predictor), "overlay": options.overlay}
    done = {task: _kept(task, mark, options.overwrite) for task in tasks}
    todo = [task for task in tasks if not done[task]]
    if len(todo) < len(tasks):
        say(f"{len(tasks) - len(todo)} of {len(tasks)} are there already and kept; --overwrite makes them anew")
    failures = list(_segmented(predictor, todo, options.overlay, mark))
    for why in failures:
        say(f"error: {why}", error=True)
    left = [task for task in tasks if task.labels.exists()]
    if left:
        _summarised(left, predictor.what.names, options.out)
    if failures:
        say(f"{len(failures)} of {len(tasks)} pictures could not be segmented", error=True)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parse = Parser.of("python -m segnext.predict", __doc__)
    pictures = "of a folder, all pictures in it and below"
    parse.add_argument("pictures", nargs="+", type=typed_path, metavar="IMAGE|FOLDER", help=pictures)
    parse.add_argument(
        "--weights", type=typed_path, required=True, metavar="FILE", help="a network's, or a folder with one network's"
    )
    parse.add_argument("--out", type=typed_path, default=Path("segmented"), metavar="DIR", help="(default: segmented)")
    parse.add_argument(
        "--multi-scale", action="store_true", help="six scales, each also flipped, as the paper's MS: 17 times the work"
    )
    parse.add_argument(
        "--overlay",
        type=_opacity,
        default=0.6,
        metavar="0.6",
        help="the colours' part in the overlay, 0 to 1 (default: 0.6)",
    )
    parse.add_argument("--device", metavar="cpu|cuda", help="(default: cuda where there is a card)")
    parse.add_argument("--dataset", default="", metavar="NAME", help="whose classes these are, if the file is silent")
    parse.add_argument("--classes", type=_names, default=(), metavar="A,B", help="their names, if of no known data set")
    parse.add_argument(
        "--model",
        default="",
        metavar="SIZE[,FIELD=VALUE]",
        help="tiny, small, base or large, and what shapes do not show: T,attention=false",
    )
    parse.add_argument("--overwrite", action="store_true", help="replace what is in --out already")
    return parse


def _opacity(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


@dataclass(frozen=True)
class _Task:
    """A picture, and what is written of it."""

    file: Path
    name: str  # of the output, below OUT: a path with slashes
    out: Path

    @property
    def labels(self) -> Path:
        return self.out / f"{self.name}.labels.png"

    @property
    def overlay(self) -> Path:
        return self.out / f"{self.name}.overlay.png"


def _tasks(found: Sequence[tuple[Path, Path]], out: Path) -> list[_Task]:
    """What to do, each picture once; where two would be called the same, their endings tell them apart.

    Raises `ValueError` for two files of the same name from different folders.
    """
    chosen = list({file.resolve(): (file, place) for file, place in found}.values())
    stems = Counter(place.with_suffix("").as_posix().lower() for _, place in chosen)
    tasks = []
    for file, place in chosen:
        stem = place.with_suffix("").as_posix()
        tasks.append(_Task(file, stem if stems[stem.lower()] == 1 else place.as_posix(), out))
    twice = [name for name, count in Counter(task.name.lower() for task in tasks).items() if count > 1]
    if twice:
        raise ValueError(f"several pictures are called {printable(twice[0])}; segment them into different --out")
    return tasks


def _predictor(options: argparse.Namespace) -> Predictor:
    import torch

    from segnext.apply.predictor import Predictor
    from segnext.config import Execution
    from segnext.precision import set_up

    set_up(Execution())  # float32 proper: torch's own default on a card is TF32 in convolutions
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Predictor(
        options.weights,
        dataset=options.dataset,
        model=options.model,
        classes=options.classes,
        device=device,
        multi_scale=options.multi_scale,
    )


def _mark(predictor: Predictor) -> dict[str, Any]:
    """What decides a label map, beside its picture: kept in it, so that it is known again."""
    from segnext.config import canonical

    what = predictor.what
    how = {"model": canonical(what.model), "data": canonical(what.data), "multi_scale": predictor.multi_scale}
    return {"weights": predictor.sha256, **how, "classes": list(what.names)}


def _marked(mark: dict[str, Any], task: _Task) -> str:
    """With the picture's own digest; empty where it cannot be read."""
    try:
        with open(task.file, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
    return json.dumps({**mark, "picture": digest}, sort_keys=True)


def _kept(task: _Task, mark: dict[str, Any], overwrite: bool) -> bool:
    """Whether a picture's files are there, made from it by these weights in this way.

    Raises `ValueError` where others are.
    """
    from PIL import Image

    if overwrite or not (task.labels.exists() or task.overlay.exists()):
        return False
    try:
        with Image.open(task.labels, formats=["PNG"]) as held:
            same = held.info.get(_MARK) == _marked(mark, task)
    except (OSError, SyntaxError, ValueError):
        same = False
    if not same:
        raise ValueError(
            f"{printable(task.labels)} or its overlay is there already, of another picture or from other weights; "
            "name another folder (--out), or add --overwrite"
        )
    return task.overlay.exists()


def _segmented(predictor: Predictor, tasks: Sequence[_Task], opacity: float, mark: dict[str, Any]) -> Iterator[str]:
    """Segment the pictures and write what is drawn of them; of each that fails, why."""
    from segnext.apply.predictor import Failure
    from segnext.data.tools.progress import Progress

    with Progress("pictures", len(tasks) if len(tasks) > 1 else 0) as progress:
        for task, found in zip(tasks, predictor.each([task.file for task in tasks]), strict=True):
            if isinstance(found, Failure):
                yield found.why
            else:
                write_atomically(task.labels, _png(found.label_image(), _marked(mark, task)))
                write_atomically(task.overlay, _png(found.overlay(opacity), level=1))
            progress.advance()


def _png(picture: Any, text: str = "", level: int = 6) -> memoryview:
    """The file's bytes. Of a photograph level 1 takes a quarter of the time and an eighth more room."""
    from PIL.PngImagePlugin import PngInfo

    said = PngInfo()
    if text:
        said.add_text(_MARK, text)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=said, compress_level=level)
    return buffer.getbuffer()


def _check_summary(out: Path, tasks: Sequence[_Task], overwrite: bool) -> None:
    """`ValueError` where OUT holds the summary of other pictures, which would be lost."""
    path = out / SUMMARY
    if overwrite or not path.exists():
        return
    with open(path, newline="", encoding="utf-8") as file:
        others = {row[0] for row in list(csv.reader(file))[1:] if row} - {task.name for task in tasks}
    if others:
        raise ValueError(
            f"{printable(path)} is there already, of other pictures ({printable(min(others))}); name another folder "
            "(--out), or add --overwrite"
        )


def _summarised(tasks: Sequence[_Task], names: tuple[str, ...], out: Path) -> None:
    """Write summary.csv, and say the percent of every class over all pictures."""
    import numpy as np

    from segnext.apply.overlay import shares
    from segnext.data.images import read_label

    total: Counter[str] = Counter()
    pixels = 0
    buffer = io.StringIO()
    lines = csv.writer(buffer, lineterminator="\n")
    lines.writerow(COLUMNS)
    for task in tasks:
        labels = read_label(task.labels)
        for name, percent in shares(labels, names).items():
            lines.writerow((task.name, name, f"{percent:.4f}"))
            total[name] += round(percent / 100 * labels.size)
        pixels += np.size(labels)
    write_atomically(out / SUMMARY, buffer.getvalue())
    found = [[name, f"{100 * count / pixels:.2f}"] for name, count in total.most_common(_SHOWN)]
    show_table((Column("class", folds=True), Column("percent", right=True)), found)
    if len(total) > _SHOWN:
        say(f"and {len(total) - _SHOWN} more")
    if len(tasks) == 1:
        say(f"wrote {printable(tasks[0].labels)}, {printable(tasks[0].overlay.name)} and {SUMMARY}")
    else:
        say(f"wrote *.labels.png, *.overlay.png and {SUMMARY} of {len(tasks)} pictures into {printable(out)}")


if __name__ == "__main__":
    sys.exit(main())
