"""Pictures of finished runs, drawn from the small arrays of results/cam that `python -m studies.run figures` computed.

Segmentations (Fig. 4, appendix Fig. 1), Grad-CAM on one scale (appendix Fig. 2) with the share of its heat inside the
class's true pixels, effective receptive fields, and how Ham's bases evolve.
"""

from __future__ import annotations

import hashlib
import io
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reports.blocks.csv import to_csv
from reports.blocks.figure import Drawing, sheet
from reports.blocks.style import CLASSES
from reports.blocks.table import Cell, Column, Line, Notes, Source, Table, Value, number
from segnext.config import Model
from studies.declare.study import Row
from studies.facts.gather import Variant
from studies.judge import verdicts
from studies.records.schema import Pictures
from studies.records.store import Store
from studies.records.typed import Damaged, content_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
MOST_ROWS = 6  # networks side by side
STEPS_SHOWN = 6  # of Ham's updates
CODES_SHOWN = 8  # of Ham's bases
DIFFERS = "#ffffff"


@dataclass(frozen=True)
class Picture:
    """What was computed from one run's weights."""

    row: Row
    seed: int
    facts: Pictures
    arrays: Mapping[str, Array]  # empty where the numbers alone were kept, as of photographs that may not be committed
    digest: str  # of the arrays' file

    @property
    def shows(self) -> tuple[object, ...]:
        """What is looked at: pictures of the same stand side by side."""
        facts = self.facts
        return facts.dataset, facts.split, facts.images, facts.target, facts.version, facts.stage

    @property
    def shares(self) -> dict[int, float]:
        """Part of Grad-CAM's heat inside the class's true pixels, by image; images without any heat are left out."""
        return {int(image): float(inside) for image, inside, _ in map(str.split, self.facts.shares) if inside != "-"}

    def label(self, image: int) -> Array:
        """The truth of an image."""
        return self.arrays[f"label{image}"]

    @property
    def area(self) -> float:
        """The class's part of the pixels, mean over the images: the share of heat that is spread evenly."""
        return statistics.fmean(float(area) for _, _, area in map(str.split, self.facts.shares))


def pictures(variant: Variant, store: Store) -> list[Picture]:
    """Of every row the finished run with the lowest seed that has them, made of the weights that its record names.

    Those that show the same images. What is damaged is named in `store.damage`.
    """
    found: list[Picture] = []
    for row in variant.rows:
        for line in sorted(variant.finished_by_row.get(row.slug, ()), key=lambda line: line.seed or 0):
            picture = _read(row, line.seed or 0, line.run_id, store)
            if picture and picture.facts.weights == store.weights_digest(line.run_id):
                found.append(picture)
                break
    return [picture for picture in found if picture.shows == found[0].shows][:MOST_ROWS]


def _read(row: Row, seed: int, identifier: str, store: Store) -> Picture | None:
    if (facts := store.pictures(identifier)) is None:
        return None
    packed, remedy = store.folder / "cam" / f"{identifier}.npz", "restore it from git, or delete it and its .json"
    try:
        if (content := content_of(packed, remedy)) is None:
            return Picture(row, seed, facts, {}, "")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        places = range(len(facts.images))
        needed = {"field", *(f"{name}{k}" for name in ("image", "label", "predicted") for k in places)}
        if missing := needed - set(arrays):
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
    except Damaged as damaged:
        store.damage.append(damaged)
        return None
    except Exception as error:  # zipfile, zlib and NumPy raise what they like
        store.damage.append(Damaged(packed, f"not readable pictures ({error})", remedy))
        return None
    return Picture(row, seed, facts, arrays, hashlib.sha256(content).hexdigest()[:16])


def reference(found: Sequence[Picture]) -> Picture:
    """Ours, which the others are held against: the row that is a size of Table 2 as it is, else the last."""
    return next((p for p in found if p.row.model == Model(p.row.model.size)), found[-1])


def drawings(variant: Variant, found: Sequence[Picture]) -> tuple[Drawing, ...]:
    """Every figure that the pictures of a variant give, of those rows whose arrays were kept."""
    found = [picture for picture in found if picture.arrays]
    if not found:
        return ()
    facts = found[0].facts
    of = f"{facts.dataset}, {facts.split} split, the first {len(facts.images)} images"
    names = "; ".join(f"{p.row.label}, seed {p.seed}" for p in found)
    ours = reference(found)
    files: list[dict[str, Value]] = [
        {"row": p.row.slug, "seed": p.seed, "run": p.facts.run, "weights": p.facts.weights, "arrays": p.digest}
        for p in found
    ]
    made = [
        Drawing(
            f"{variant.slug}-segmentations",
            f"{of}: image, prediction of each network, truth. White lines: where {ours.row.label} differs from the "
            f"truth, and where another network differs from {ours.row.label}.",
            f"Predictions of {names}",
            to_csv(files),
            lambda: _segmentations([ours, *(p for p in found if p is not ours)]),
            photographic=True,
        ),
        Drawing(
            f"{variant.slug}-fields",
            "Effective receptive field of each encoder's stage 4: how much each input pixel moves the middle, over "
            "normal noise, on a logarithmic scale of its own; squares: half, 90 % and 99 % of it.",
            f"Half the side of the square with 50, 90 and 99 %, in pixels: {'; '.join(map(_reach, found))}",
            to_csv([{**line, **_reached(p)} for line, p in zip(files, found, strict=True)]),
            lambda: _fields(found),
            photographic=True,
        ),
    ]
    if any(f"heat{place}" in p.arrays for p in found for place in range(len(facts.images))):
        ordered = [p for p in found if p is not ours] + [ours]
        made.append(
            Drawing(
                f"{variant.slug}-gradcam",
                f"{of}: Grad-CAM of class “{facts.target}” at the encoder's stage {facts.stage}, all on one "
                "scale; above each its own largest value. Line: the class's true pixels.",
                f"Grad-CAM of {names}",
                to_csv(files),
                lambda: _gradcam(ordered),
                photographic=True,
            )
        )
    if "codes" in ours.arrays:
        errors = ours.facts.errors
        made.append(
            Drawing(
                f"{variant.slug}-ham-bases",
                f"{ours.row.label}, {ours.facts.dataset}, first image: the codes of {CODES_SHOWN} of Ham's bases after "
                "each update of its factorisation, each column on a scale of its own.",
                "Relative error after each update: " + ", ".join(number(error, 3) for error in errors),
                to_csv([{**files[found.index(ours)], "update": k, "error": error} for k, error in enumerate(errors)]),
                lambda: _codes(ours),
                photographic=True,
            )
        )
    return tuple(made)


def share_table(variant: Variant, found: Sequence[Picture]) -> Table:
    """The number behind Grad-CAM's pictures: the share of its heat inside the class's true pixels, row by row."""
    columns = (
        Column("Row", align="text"),
        Column("Images"),
        Column("Heat inside (%)"),
        Column("True pixels (%)"),
        Column("Difference to ours"),
        Column("95 % interval"),
    )
    lines, notes = [], Notes()
    ours = reference(found) if found else None
    if (
        any(row.model == Model(row.model.size) for row in variant.rows)
        and ours
        and ours.row.model != Model(ours.row.model.size)
    ):
        ours = None  # its own row was not looked at
    for picture in found:
        if not picture.facts.shares:
            continue
        shares = picture.shares
        held = ours.shares if ours and picture is not ours else {}
        differences = [100 * (shares[image] - held[image]) for image in shares if image in held]
        mean = 100 * statistics.fmean(shares.values()) if shares else None
        interval = verdicts.mean_interval(differences) if len(differences) >= verdicts.MINIMUM_SEEDS else None
        values: dict[str, Value] = {"row": picture.row.slug, "seed": picture.seed, "target": picture.facts.target}
        mixed = variant.mixture([one.facts.run for one in (picture, ours) if one])
        shown = "no heat" if mean is None else number(mean, 1)
        lines.append(
            Line(
                picture.row.slug,
                (
                    Cell(f"{picture.row.label}, seed {picture.seed}", values),
                    Cell(f"{len(shares)} of {len(picture.facts.shares)}", {"images": len(shares)}),
                    Cell(shown, {"inside": mean}, sources=(Source(shown, picture.facts.run, "run"),)),
                    Cell(number(100 * picture.area, 1), {"area": 100 * picture.area}),
                    Cell(
                        number(statistics.fmean(differences), 1, signed=True) if differences else "–",
                        note=notes.mark(mixed),
                    ),
                    Cell(f"[{number(interval.low, 1, True)}, {number(interval.high, 1, True)}]" if interval else "–"),
                ),
            )
        )
    target, stage = (found[0].facts.target, found[0].facts.stage) if found else ("", "")
    caption = (
        f"Class “{target}”, at the encoder's stage {stage}: part of Grad-CAM's heat that lies on the "
        "class's true pixels, mean over the images of the test split that have both.",
        "True pixels: the same of heat that is spread evenly. Difference: on the same images, with Student's interval "
        "over images; one run of each row, so it says nothing of other seeds.",
    )
    title = f"Grad-CAM inside the mask, protocol {variant.name}"
    return Table(f"{variant.slug}-gradcam-share", title, caption, columns, tuple(lines), tuple(notes))


def _reached(picture: Picture) -> dict[str, Value]:
    return {f"reach_{share}": reach for share, reach in sorted(picture.facts.reach.items())}


def _reach(picture: Picture) -> str:
    return f"{picture.row.label} {', '.join(str(reach) for _, reach in sorted(picture.facts.reach.items()))}"


def _grid(rows: int, columns: int, height: float, width: float = 7.2) -> tuple[Figure, Array]:
    figure = sheet(width, height)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes: Array = figure.subplots(rows, columns, squeeze=False)
    for place in axes.flat:
        place.set_xticks([])
        place.set_yticks([])
        place.grid(False)
        for spine in place.spines.values():
            spine.set_visible(False)
    return figure, axes


def _segmentations(found: Sequence[Picture]) -> Figure:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    """Fig. 4's order: image, ours (the first), the others, truth."""
    ours = found[0]
    images = len(ours.facts.images)
    columns = len(found) + 2
    shape = ours.label(0).shape
    figure, axes = _grid(images, columns, 0.45 + images * 7.0 / columns * shape[0] / shape[1] + 0.35)
    colours = ListedColormap([CLASSES[k % len(CLASSES)] for k in range(len(ours.facts.classes))])
    options: dict[str, Any] = {"cmap": colours, "vmin": -0.5, "vmax": colours.N - 0.5, "interpolation": "nearest"}
    seen: set[int] = set()
    for place in range(images):
        label = ours.label(place)
        known = label < colours.N
        seen.update(np.unique(label[known]).tolist())
        axes[place, 0].imshow(ours.arrays[f"image{place}"])
        axes[place, -1].imshow(np.where(known, label.astype(float), np.nan), **options)
        for column, picture in enumerate(found, start=1):
            predicted = picture.arrays[f"predicted{place}"]
            axes[place, column].imshow(predicted, **options)
            against = label if picture is ours else ours.arrays[f"predicted{place}"]
            _outline(axes[place, column], (predicted != against) & known, DIFFERS)
    heads = ["image", *(textwrap.fill(p.row.label, max(12, 80 // columns)) for p in found), "truth"]
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head, fontsize=7, fontweight="normal")
    handles = [Patch(color=colours(k), label=ours.facts.classes[k]) for k in sorted(seen)][:12]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=6.5, handlelength=1)
    return figure


def _outline(axes: Axes, region: Array, colour: str) -> None:
    if region.any() and not region.all():
        axes.contour(region.astype(float), levels=[0.5], colors=colour, linewidths=0.7)


def _gradcam(found: Sequence[Picture]) -> Figure:
    images = len(found[0].facts.images)
    target = found[0].facts.classes.index(found[0].facts.target)
    heats = [p.arrays[f"heat{k}"].astype(float) for p in found for k in range(images) if f"heat{k}" in p.arrays]
    largest = max(float(heat.max()) for heat in heats) or 1.0
    shape = found[0].label(0).shape
    figure, axes = _grid(len(found), images, 0.3 + len(found) * (6.2 / images * shape[0] / shape[1] + 0.2))
    drawn = None
    for place, picture in enumerate(found):
        for column in range(images):
            axis, label = axes[place, column], picture.label(column)
            axis.imshow(picture.arrays[f"image{column}"].mean(axis=2), cmap="gray", vmin=0, vmax=255)
            heat = picture.arrays.get(f"heat{column}")
            if heat is None:
                axis.set_title("class not there", fontsize=6.5, fontweight="normal")
                continue
            drawn = axis.imshow(heat.astype(float), cmap="inferno", vmin=0, vmax=largest, alpha=0.65)
            _outline(axis, label == target, DIFFERS)
            axis.set_title(f"largest {float(heat.max()):.3g}", fontsize=6.5, fontweight="normal", pad=2)
        axes[place, 0].set_ylabel(textwrap.fill(picture.row.label, 18), fontsize=7)
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.6, label="Grad-CAM, not scaled")
    return figure


def _fields(found: Sequence[Picture]) -> Figure:
    from matplotlib.patches import Rectangle

    figure, axes = _grid(1, len(found), 7.0 / max(3, len(found)) + 0.8)
    for axis, picture in zip(axes[0], found, strict=True):
        field = picture.arrays["field"].astype(float)
        axis.imshow(np.log10(field / field.max() + 1e-4), cmap="cividis", vmin=-4, vmax=0)
        halves = [half for _, half in sorted(picture.facts.reach.items())]
        for half in halves:
            reach = half * field.shape[0] / picture.facts.field_side
            corner = field.shape[0] / 2 - reach
            axis.add_patch(
                Rectangle((corner, corner), 2 * reach, 2 * reach, fill=False, edgecolor=DIFFERS, linewidth=0.8)
            )
        name = textwrap.fill(picture.row.label, 80 // len(found))
        axis.set_title(f"{name}\n±{', '.join(map(str, halves))} px", fontsize=7, fontweight="normal")
        axis.set(xlim=(-0.5, field.shape[1] - 0.5), ylim=(field.shape[0] - 0.5, -0.5))
    return figure


def _codes(ours: Picture) -> Figure:
    codes = ours.arrays["codes"].astype(float)
    steps = sorted({round(k * (len(codes) - 1) / (STEPS_SHOWN - 1)) for k in range(STEPS_SHOWN)})
    order = np.argsort(-codes[-1].reshape(codes.shape[1], -1).max(axis=1), kind="stable")[:CODES_SHOWN]
    ratio = codes.shape[2] / codes.shape[3]
    figure, axes = _grid(len(steps), len(order), 0.2 + len(steps) * (6.2 / len(order) * ratio + 0.06))
    for place, step in enumerate(steps):
        for column, code in enumerate(order):
            top = codes[:, code].max() or 1.0
            axes[place, column].imshow(codes[step, code], cmap="cividis", vmin=0, vmax=top)
        name = "start" if step == 0 else f"update {step}"
        axes[place, 0].set_ylabel(f"{name}\nerror {ours.facts.errors[step]:.2f}", fontsize=6.5)
    return figure
