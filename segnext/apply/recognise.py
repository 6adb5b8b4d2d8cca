"""What network a file of weights belongs to, read from the file: size and variant, classes, data set.

The weights' shapes say the size and nearly every switch. The classes' names stand in what the authors' code,
mmsegmentation and `segnext.released_weights.save_released` write beside the weights.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from segnext.config import ENCODERS, SIZES, Data, Model, resolved_run
from segnext.data import open_dataset
from segnext.data.classes import Colour
from segnext.data.datasets import DATASETS, dataset_name, display_colours
from segnext.data.source import Pixels
from segnext.data.tools.show import palette
from segnext.model import SegNeXt
from segnext.released_weights import given_weights, released_name
from segnext.text import printable

SPELT = {"tiny": "T", "small": "S", "base": "B", "large": "L"}

OWN = Data("own", 1, (2048, 512), (512, 512))  # Official code: the scale of every data set but Cityscapes and Context

# How pictures are tested, as the paper's recipes have it (studies.declare.protocols; test_predict.py: the same).
TESTED: Mapping[str, Data] = {
    data.dataset: data
    for data in (
        Data("ade20k", 150, (2048, 512), (512, 512)),
        Data(
            "cityscapes",
            19,
            (2048, 1024),
            (1024, 1024),
            test_multiple=1,
            window=(1024, 1024),
            stride=(768, 768),
        ),
        Data("coco_stuff164k", 171, (2048, 512), (512, 512)),
        Data("pascal_context", 59, (520, 520), (480, 480)),
        Data("voc2012", 21, (2048, 512), (512, 512)),
        Data("isaid", 16, (896, 896), (896, 896)),
        Data("camvid", 11, (480, 360), (352, 480)),
    )
}


@dataclass(frozen=True)
class Recognised:
    """What a file of weights is."""

    model: Model
    data: Data  # how pictures reach the network; `data.dataset` is "own" where no data set here has these classes
    names: tuple[str, ...]  # of the classes, in the order of the labels
    colours: Pixels  # uint8 (256, 3)
    classes_from: str  # how the classes are known, for people


def recognised(
    content: Mapping[str, Any], source: str, dataset: str = "", model: str = "", classes: Sequence[str] = ()
) -> Recognised:
    """What the content of a weights file is; `dataset`, `model` and `classes` settle what it does not say.

    `model` is a size and, where the shapes do not tell, fields of `Model`: "tiny", "T,attention=false". Raises
    `ValueError`, naming the source and the option that settles it, where a file fits no network or several, or where
    what is given is not what it holds.
    """
    weights = given_weights(content, source)
    said = content.get("meta")
    said = said if isinstance(said, Mapping) else {}
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    scored = shapes.get("decode_head.conv_seg.weight")
    if scored is None:
        raise ValueError(
            f"{source}: these weights score no pixels (there is no decode_head.conv_seg: an ImageNet file has the "
            "encoder alone); take those of a segmentation network: python -m segnext.weights list"
        )
    run = _run_of(said)
    if model:
        network = read_model(model)
        if not _fits(network, shapes, scored[0]):
            raise ValueError(f"{source}: these are no weights of --model {printable(model)}; leave it out to see whose")
    elif run:
        network = run[0]
    else:
        network = _model_of(content, weights, shapes, scored[0], source)
    data, names, colours, how = _classes_of(said, scored[0], source, dataset, classes, run[1] if run else None)
    return Recognised(network, data, names, colours, how)


def read_model(text: str) -> Model:
    """`tiny`, `T` or `T,attention=false,branches=[7]`: a size and other fields of `Model`, values as JSON or words."""
    size, *changes = re.split(r",(?![^\[]*\])", text)
    fields: dict[str, Any] = {"size": SPELT.get(size.lower(), size if size in SIZES else size.upper())}
    for change in changes:
        name, _, value = change.partition("=")
        if name.strip() not in Model.__dataclass_fields__:
            raise ValueError(f"--model: {change!r} is no field=value of {', '.join(Model.__dataclass_fields__)}")
        try:
            found = json.loads(value)
        except ValueError:
            found = value
        fields[name.strip()] = tuple(found) if isinstance(found, list) else found
    try:
        return Model(**fields)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"--model {printable(text)}: {error}; sizes are {', '.join(SPELT)} and {', '.join(SIZES)}"
        ) from None


def _run_of(said: Mapping[str, Any]) -> tuple[Model, Data] | None:
    """The model and the data of the run whose weights these are; None for others' files."""
    if not isinstance(said.get("run"), Mapping):
        return None
    run = resolved_run([said["run"]])
    return (run.model, run.data) if isinstance(run.data, Data) else None


def _model_of(
    content: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    classes: int,
    source: str,
) -> Model:
    """The network that has weights of these names and shapes: the paper's where it fits, else with one switch."""
    near = [model for model in _candidates() if _widths_fit(model, shapes)]
    for model in near:
        if _fits(model, shapes, classes):
            return _with_rank(model, content)
    if near:
        size = near[0].size
        example = f"--model {size},decoder=a"
        raise ValueError(
            f"{source}: the widths are those of SegNeXt-{size}, but the weights fit neither it nor a network with "
            f"one of its parts switched; name the network: {example}, say, and --help has the fields"
        )
    raise ValueError(
        f"{source}: these weights have the widths of no network that segnext knows ({', '.join(SIZES)}, "
        "VAN or ConvNeXt under its decoder); take weights of one of them"
    )


def _candidates() -> Iterator[Model]:
    """Every network whose weights tell it from others: the paper's sizes, then each with one switch of its own."""
    branches = [kernels for count in (2, 1, 0) for kernels in itertools.combinations((7, 11, 21), count)]
    stages = [chosen for count in (1, 2, 3, 4) for chosen in itertools.combinations((1, 2, 3, 4), count)]
    changes: list[dict[str, Any]] = [{}]
    changes += [{"branches": kernels} for kernels in branches]
    changes += [{"decoder": letter} for letter in "ab"] + [{"stages": chosen} for chosen in stages]
    changes += [{"context": name} for name in ("nl", "cc", "ema", "msca", "none")]
    changes += [{"channel_mixing": False}, {"encoder_norm": "ln"}, {"head_norm": "bn"}, {"mixer": "lka"}]
    changes += [{"encoder": name} for name in ENCODERS if not name.startswith("segformer")]
    for change, size in itertools.product(changes, SIZES):
        yield Model(size, **change)


def _widths_fit(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether channels and depths are the model's, before a network is built to compare all."""
    if model.encoder not in ("mscan", "van"):
        return "backbone.patch_embed1.norm.weight" not in shapes and "backbone.patch_embed1.proj.0.weight" not in shapes
    channels = tuple(shapes.get(f"backbone.norm{stage}.weight", (0,))[0] for stage in (1, 2, 3, 4))
    blocks = {found[0] for key in shapes if (found := re.match(r"backbone\.block\d\.\d+\.", key))}
    depths = tuple(sum(block.startswith(f"backbone.block{stage}.") for block in blocks) for stage in (1, 2, 3, 4))
    return (channels, depths) == (model.widths.channels, model.widths.depths)


def _fits(model: Model, shapes: Mapping[str, tuple[int, ...]], classes: int) -> bool:
    with torch.device("meta"):
        own = SegNeXt(model, classes).state_dict()
    return {released_name(name): tuple(value.shape) for name, value in own.items()} == dict(shapes)


def as_trained(model: Model, content: Mapping[str, Any], source: str) -> Model:
    """A network as the weights in a file were trained with it: with the file's own rank of Ham, if the file says one.

    Raises `ValueError`, naming the source, where the file says that its weights are another network's, which their
    shapes need not show (attention is a product without weights).
    """
    said = content.get("meta")
    run = _run_of(said) if isinstance(said, Mapping) else None
    if run is None:
        return _with_rank(model, content)
    theirs, ours = run[0].resolved(), model.resolved()
    apart = {name for name in theirs if theirs[name] != ours.get(name)} - {"nmf_rank", "drop_path"}
    if apart:
        words = ", ".join(f"{name} {theirs[name]} and not {ours.get(name)}" for name in sorted(apart))
        raise ValueError(f"{source}: trained with {words}; name the file after the row that these weights are of")
    return dataclasses.replace(model, nmf_rank=run[0].nmf_rank)


def _with_rank(model: Model, content: Mapping[str, Any]) -> Model:
    """With the rank that Ham was trained with: its bases are drawn, and no weight shows how many there are.

    It stands in the configuration beside the weights. mmsegmentation has 16 for every size, the release 64 for B and L;
    without a configuration a file that spells the depth-wise convolution as mmsegmentation 1.x does is taken as its.
    """
    if model.context != "ham" or model.decoder == "a" or model.encoder.startswith("segformer"):
        return model
    said = content.get("meta")
    told = [said[key] for key in ("config", "cfg") if isinstance(said, Mapping) and isinstance(said.get(key), str)]
    rank = next(
        (int(found[1]) for text in told if (found := re.search(r"MD_R['\"]?\s*[=:]\s*(\d{1,4})\b", text))), None
    )
    state = content.get("state_dict", content)
    if rank is None and not told and any(re.search(r"\.mlp\.dwconv\.weight$", str(key)) for key in state):
        rank = 16
    return model if rank is None else dataclasses.replace(model, nmf_rank=rank)


def _classes_of(
    said: Mapping[str, Any], count: int, source: str, dataset: str, classes: Sequence[str], own: Data | None
) -> tuple[Data, tuple[str, ...], Pixels, str]:
    """How pictures reach the network, the names of its classes, their colours, and how that is known."""
    if classes:
        if len(classes) != count:
            raise ValueError(f"--classes: {len(classes)} names, but {source} scores {count} classes")
        return dataclasses.replace(OWN, classes=count), _apart(classes), palette(classes), "named by --classes"
    if dataset:
        return _of_dataset(dataset, count, source, own, "named by --dataset")
    if own:
        return _of_dataset(own.dataset, count, source, own, "as the run has it")
    names, colours = _names_of(said, count)
    if names:
        for known in TESTED:
            if [*map(_bare, names)] == [*map(_bare, DATASETS[known].colours)]:
                return _of_dataset(known, count, source, None, "their names stand in the file")
        table = palette(names, colours)
        return dataclasses.replace(OWN, classes=count), names, table, "named in the file, of no data set here"
    for known, data in TESTED.items():
        if data.classes == count:
            return _of_dataset(known, count, source, None, f"no other data set here has {count}; else --dataset")
    raise ValueError(
        f"{source}: {count} classes, and neither the file nor a data set here says which; name the data set "
        "(--dataset diagnostic/scene, say) or the classes (--classes road,sky,...)"
    )


def _of_dataset(
    dataset: str, count: int, source: str, own: Data | None, how: str
) -> tuple[Data, tuple[str, ...], Pixels, str]:
    if dataset.startswith("diagnostic/"):
        names = open_dataset(dataset, "train").classes
        data = own or Data(dataset, len(names), (96, 96), (96, 96), test_scales=(1.0,))
    else:
        dataset = dataset_name(dataset)
        if dataset not in DATASETS:
            raise ValueError(f"--dataset: {dataset} has no classes of pixels; name one of {', '.join(DATASETS)}")
        names = tuple(DATASETS[dataset].colours)
        data = TESTED.get(dataset, dataclasses.replace(OWN, dataset=dataset, classes=len(names)))
    if len(names) != count:
        raise ValueError(f"{source}: {count} classes, but {dataset} has {len(names)}; name another data set: --dataset")
    if own and own.dataset == dataset:
        data = own
    return data, names, palette(names, display_colours(dataset)), how


def _names_of(said: Mapping[str, Any], count: int) -> tuple[tuple[str, ...], tuple[Colour, ...] | None]:
    """The names and colours of the classes that a file of mmsegmentation 0.x or 1.x has; empty where it has none."""
    later = said.get("dataset_meta")
    held = later if isinstance(later, Mapping) else {"classes": said.get("CLASSES"), "palette": said.get("PALETTE")}
    names, colours = held.get("classes"), held.get("palette")
    if not isinstance(names, list | tuple) or len(names) != count or not all(isinstance(name, str) for name in names):
        return (), None
    return _apart(printable(name.strip()) for name in names), _colours(colours, count)


def _colours(given: object, count: int) -> tuple[Colour, ...] | None:
    """The colours of a file's palette; None where it has none that fits."""
    rows = given if isinstance(given, list | tuple) and len(given) == count else ()
    found = [tuple(row) for row in rows if isinstance(row, list | tuple)]
    fine = [row for row in found if len(row) == 3 and all(isinstance(level, int) and 0 <= level < 256 for level in row)]
    return tuple((red, green, blue) for red, green, blue in fine) if rows and len(fine) == count else None


def _apart(names: Iterable[str]) -> tuple[str, ...]:
    """Names that tell the classes from each other, whatever they were."""
    kept: dict[str, None] = {}
    for label, name in enumerate(names):
        kept.setdefault(name if name and name not in kept else f"{name} {label}".strip())
    return tuple(kept)


def _bare(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
