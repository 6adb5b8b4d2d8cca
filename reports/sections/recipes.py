"""Appendix Table 1, printed and ours, and every value of every recipe with its source."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from reports.blocks.table import Cell, Column, Line, Notes, Source, Table, Value
from segnext.config import SIZES, Data, Model, canonical
from segnext.config.fields import choices_of, told
from studies.declare.appendix_table1 import APPENDIX_TABLE1, CHOICES, FIELDS, FIXED, PrintedRecipe, chain
from studies.declare.protocols import PAPER, PRETRAINING_DROP_PATH, PROTOCOLS, Protocol, Recipe

SLUG = "appendix_table1"

_FULL_SIZES = tuple(size for size in SIZES if size != "micro")
_DROP_PATH = f"Stochastic depth of {', '.join(_FULL_SIZES)}"
_BEGINNINGS = {"own": "imagenet1k, trained here", "released": "released weights", "": "scratch"}
_BY_DATASET = Cell("by dataset", sources=(Source("by dataset", f"#{SLUG}-datasets"),))


def tables() -> list[Table]:
    """Appendix Table 1; then the recipes by dataset, field by field, what they share, and that of ImageNet-1K."""
    return [printed_table(), datasets_table(), fields_table(), fixed_table(), pretraining_table()]


def printed_table() -> Table:
    """Appendix Table 1: what it prints of each recipe beside the recipe here."""
    columns = [Column("Dataset", align="text")]
    columns += [Column(title, group) for group in ("Crop", "Batch", "Iterations") for title in ("printed", "ours")]
    columns += [Column("agrees", align="left"), Column("Recipe, see below", align="text")]
    notes = Notes()
    lines = tuple(_printed_line(printed, notes) for printed in APPENDIX_TABLE1)
    caption = (
        "Ours: what protocol paper trains with; the recipes of a chain are trained one after another.",
        "Crops in pixels, batches over all GPUs.",
    )
    title = "Training details, printed and ours"
    return Table(f"{SLUG}-printed", title, caption, tuple(columns), lines, tuple(notes))


def _printed_line(printed: PrintedRecipe, notes: Notes) -> Line:
    recipe, trained = PAPER[printed.recipe], chain(printed.recipe)
    iterations = tuple(recipe.train.iterations for _, recipe in trained)
    pairs = {
        "crop": (_shown(printed.crop), _shown(recipe.data.crop)),
        "batch": (_shown(printed.batch), _shown(recipe.train.batch)),
        "iterations": (_thousands(printed.iterations), _thousands(iterations)),
    }
    cells = [Cell(printed.dataset, {"dataset": printed.dataset}, note=notes.mark(printed.note))]
    for name, (paper, ours) in pairs.items():
        cells += [Cell(paper, {f"{name}_printed": paper}), Cell(ours, {name: ours})]
    word = "agrees" if all(paper == ours for paper, ours in pairs.values()) else "differs"
    text = ", then ".join(name for name, _ in trained)
    source = Source(text, f"#{SLUG}-datasets-{_anchor(printed.recipe)}")
    cells += [Cell(word, {"agrees": word}, verdict=word), Cell(text, {"recipe": text}, sources=(source,))]
    return Line(_anchor(printed.recipe), tuple(cells))


def datasets_table() -> Table:
    """What sets the paper's recipes of segmentation apart; a test holds that no field is left out."""
    columns = (
        Column("Recipe", align="text"),
        Column("Starts from", align="left"),
        Column("training", "Split", align="left"),
        Column("test", "Split", align="left"),
        Column("Classes"),
        Column("Scale"),
        Column("Crop"),
        Column("Batch"),
        Column("Iterations"),
        Column("in", "Tested", align="text"),
        Column("multiple of", "Tested"),
    )
    notes = Notes()
    lines = []
    for name, recipe in PAPER.items():
        data, train = recipe.data, recipe.train
        if not isinstance(data, Data):
            continue
        after = Source(recipe.after, f"#{SLUG}-datasets-{_anchor(recipe.after)}")
        values = (data.train_split, data.test_split, data.classes, data.scale, data.crop, train.batch, train.iterations)
        cells = (
            Cell(name, note=notes.mark(_noted(name))),
            Cell(recipe.after, sources=(after,)) if recipe.after else Cell("imagenet1k"),
            *(Cell(_shown(value)) for value in values),
            Cell(f"windows of {_shown(data.window)}, every {_shown(data.stride)}" if data.window else "whole images"),
            Cell(_shown(data.test_multiple)),
        )
        lines.append(Line(_anchor(name), cells))
    caption = (
        "What differs between the recipes of protocols paper and paper-pretrained.",
        "Scale: the long and the short edge that an image is fitted into; sizes in pixels.",
        "Notes: what the paper does not print, and where that comes from.",
    )
    return Table(f"{SLUG}-datasets", "Recipes by dataset", caption, columns, tuple(lines), tuple(notes))


def fields_table() -> Table:
    """Every field of a recipe of segmentation under every protocol; those with the same recipes share a column."""
    groups: dict[tuple[Recipe, ...], list[Protocol]] = {}
    for protocol in PROTOCOLS.values():
        own = (recipe for recipe in protocol.recipes.values() if isinstance(recipe.data, Data))
        groups.setdefault(tuple(own), []).append(protocol)
    columns = [Column("Value", align="text")]
    columns += [Column(", ".join(p.name for p in same), "Protocol", "text") for same in groups.values()]
    columns += [Column("Source, of protocol paper", align="text")]
    lines = []
    for part in ("data", "train"):
        example = getattr(PAPER["ade20k"], part)
        for field in dataclasses.fields(example):
            words, source = _described(example, field.name)
            found = ({getattr(getattr(recipe, part), field.name) for recipe in recipes} for recipes in groups)
            cells = (Cell(_shown(*values)) if len(values) == 1 else _BY_DATASET for values in found)
            lines.append(Line(f"{part}-{field.name}", (Cell(words), *cells, Cell(source))))
    for key, words, shown, source in (
        ("start", "Encoder starts from", _beginning, "Paper: Sec. 4"),
        ("drop-path", _DROP_PATH, _drop_path, "Official code; the paper is silent"),
        ("seeds", "Seeds", _seeds, "Ours; the paper is silent"),
    ):
        cells = (Cell(" or ".join(dict.fromkeys(map(shown, same)))) for same in groups.values())
        lines.append(Line(key, (Cell(words), *cells, Cell(source))))
    caption = (
        "Read from the values that a run is made of.",
        "Where the other protocols differ from protocol paper, the choice is ours.",
    )
    return Table(f"{SLUG}-fields", "Recipes field by field", caption, tuple(columns), tuple(lines))


def _noted(recipe: str) -> str:
    return f"{told(CHOICES[recipe])}." if recipe in CHOICES else ""


def _beginning(protocol: Protocol) -> str:
    return _BEGINNINGS[protocol.pretraining]


def _drop_path(protocol: Protocol) -> str:
    sizes = [protocol.size] if protocol.size else _FULL_SIZES
    return _shown(tuple(Model(size).widths.drop_path for size in sizes))


def _seeds(protocol: Protocol) -> str:
    return ", ".join(map(str, protocol.seeds))


def fixed_table() -> Table:
    """What no field of a recipe sets."""
    columns = (Column("Value", align="text"), Column("Every protocol", align="text"), Column("Source", align="text"))
    lines = (
        Line(str(place), (Cell(fixed.words), Cell(fixed.value), Cell(told(fixed.choices))))
        for place, fixed in enumerate(FIXED)
    )
    caption = ("Constants of the code of segmentation, which the tests hold this table to.",)
    return Table(f"{SLUG}-fixed", "What no recipe changes", caption, columns, tuple(lines))


def pretraining_table() -> Table:
    """The recipe of ImageNet-1K."""
    recipe = PAPER["imagenet1k"]
    columns = (Column("Value", align="text"), Column("Protocol paper", align="text"), Column("Source", align="text"))
    lines = []
    for part in (recipe.data, recipe.train):
        for field in dataclasses.fields(part):
            words, source = _described(part, field.name)
            cells = (Cell(words), Cell(_shown(getattr(part, field.name))), Cell(source))
            lines.append(Line(f"{type(part).__name__}-{field.name}", cells))
    models = (dataclasses.replace(Model(size), drop_path=PRETRAINING_DROP_PATH.get(size)) for size in _FULL_SIZES)
    depths = _shown(tuple(model.widths.drop_path for model in models))
    lines.append(Line("drop-path", (Cell(_DROP_PATH), Cell(depths), Cell("VAN; DeiT: 0.1"))))
    caption = (
        'The paper says "same as DeiT"; the authors pretrained as VAN (issue 33 of the release), and so does this.',
        "DeiT adds repeated augmentation and an average of the weights.",
        "Protocol paper-pretrained reads released weights instead.",
    )
    return Table(f"{SLUG}-pretraining", "ImageNet-1K pretraining", caption, columns, tuple(lines))


def values() -> list[dict[str, Value]]:
    """Every value of every recipe of every protocol, one a line; lists as JSON."""
    return [
        {"protocol": protocol.name, "version": protocol.version, "recipe": name, "after": recipe.after, **value}
        for protocol in PROTOCOLS.values()
        for name, recipe in protocol.recipes.items()
        for value in _flat(recipe, protocol)
    ]


def _flat(recipe: Recipe, protocol: Protocol) -> Iterator[dict[str, Value]]:
    for part in (recipe.data, recipe.train):
        for field in dataclasses.fields(part):
            value = canonical(getattr(part, field.name))
            text = json.dumps(value) if isinstance(value, list) else value
            source = _described(part, field.name)[1] if protocol.comparable else ""
            yield {"field": f"{type(part).__name__}.{field.name}", "value": text, "source": source}


def _described(part: object, name: str) -> tuple[str, str]:
    """A field in words, and the source of its value; its bare name where a test has yet to ask for them."""
    words = FIELDS.get(f"{type(part).__name__}.{name}", name)
    return words, told(choices_of(part).get(name, ()))


def _anchor(recipe: str) -> str:
    return recipe.replace(" ", "-")


def _thousands(iterations: tuple[int, ...]) -> str:
    return " + ".join(f"{count / 1000:g}K" for count in iterations)


def _shown(value: Any) -> str:
    """A value for reading: `512×512`, `0.5, 1, 2`, `160,000`, `6e-5`."""
    if isinstance(value, tuple):
        pair = len(value) == 2 and all(isinstance(item, int) for item in value)
        return ("×" if pair else ", ").join(map(str if pair else _shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-")
    return str(value)
