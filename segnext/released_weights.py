"""The authors' released weights in and out: our parameter names and theirs."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segnext.files import write_atomically
from segnext.model import MSCANClassifier
from segnext.text import printable

_SHOWN = 5  # keys of a kind of problem that a message names
_REMEDY = "fetch or write the file again"
# What the files of others hold beside weights, by the names that pickle has: read as nothing, and nothing of it is run.
# mmengine keeps curves (HistoryBuffer: NumPy, and methods by `getattr`), timm the words of its command line.
_BESIDE_WEIGHTS = (
    *("argparse.Namespace", "mmengine.logging.history_buffer.HistoryBuffer", "builtins.getattr"),
    *("numpy.ndarray", "numpy.dtype"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")),
)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

# Ours -> released (c87bcae). The released names also decide the optimiser's groups (segnext.training.segmentation).
_STRIPS = {"7": "0", "11": "1", "21": "2"}
_NAMES: tuple[tuple[str, str], ...] = (
    (r"^encoder\.stages\.0\.downsample\.(\d)\.", r"backbone.patch_embed1.proj.\1."),
    (r"^encoder\.stages\.0\.downsample\.(proj|norm)\.", r"backbone.patch_embed1.\1."),  # VAN
    (r"^encoder\.stages\.(\d)\.downsample\.0\.", r"backbone.patch_embed<\1>.proj."),
    (r"^encoder\.stages\.(\d)\.downsample\.1\.", r"backbone.patch_embed<\1>.norm."),
    (r"^encoder\.stages\.(\d)\.norm\.", r"backbone.norm<\1>."),
    (r"^encoder\.stages\.(\d)\.blocks\.", r"backbone.block<\1>."),
    (r"\.scale(\d)$", r".layer_scale_\1"),
    (r"\.attention\.enter\.", r".attn.proj_1."),
    (r"\.attention\.leave\.", r".attn.proj_2."),
    (r"\.attention\.msca\.local\.", r".attn.spatial_gating_unit.conv0."),
    (r"\.attention\.msca\.strips\.(\d+)\.0\.", r".attn.spatial_gating_unit.conv[\1]_1."),
    (r"\.attention\.msca\.strips\.(\d+)\.1\.", r".attn.spatial_gating_unit.conv[\1]_2."),
    (r"\.attention\.msca\.mix\.", r".attn.spatial_gating_unit.conv3."),
    (r"\.attention\.msca\.dilated\.", r".attn.spatial_gating_unit.conv_spatial."),  # VAN's LKA
    (r"\.attention\.msca\.combine\.", r".attn.spatial_gating_unit.conv1."),
    (r"\.feed_forward\.expand\.", r".mlp.fc1."),
    (r"\.feed_forward\.depthwise\.", r".mlp.dwconv.dwconv."),
    (r"\.feed_forward\.reduce\.", r".mlp.fc2."),
    (r"^decoder\.(squeeze|align)\.0\.", r"decode_head.\1.conv."),
    (r"^decoder\.(squeeze|align)\.1\.", r"decode_head.\1.gn."),
    (r"^decoder\.ham\.enter\.", r"decode_head.hamburger.ham_in.conv."),
    (r"^decoder\.ham\.leave\.0\.", r"decode_head.hamburger.ham_out.conv."),
    (r"^decoder\.ham\.leave\.1\.", r"decode_head.hamburger.ham_out.gn."),
    (r"^decoder\.project\.(\d)\.0\.", r"decode_head.convs.\1.conv."),
    (r"^decoder\.project\.(\d)\.1\.", r"decode_head.convs.\1.bn."),
    (r"^decoder\.fuse\.0\.", r"decode_head.fusion_conv.conv."),
    (r"^decoder\.fuse\.1\.", r"decode_head.fusion_conv.bn."),
    (r"^decoder\.classifier\.", r"decode_head.conv_seg."),
    (r"^classifier\.", r"head."),
    # ConvNeXt, as its authors name it; the LayerNorms of the four outputs as they do for segmentation.
    (r"^encoder\.stages\.(\d)\.\d\.(\d)\.(weight|bias)$", r"backbone.downsample_layers.\1.\2.\3"),
    (r"^encoder\.stages\.(\d)\.\d\.(\d+)\.(block|layer_scale)", r"backbone.stages.\1.\2.\3"),
    (r"^(backbone\.stages\..*)\.block\.0\.", r"\1.dwconv."),
    (r"^(backbone\.stages\..*)\.block\.2\.", r"\1.norm."),
    (r"^(backbone\.stages\..*)\.block\.3\.", r"\1.pwconv1."),
    (r"^(backbone\.stages\..*)\.block\.5\.", r"\1.pwconv2."),
    (r"^(backbone\.stages\..*)\.layer_scale$", r"\1.gamma"),
    (r"^encoder\.norms\.(\d)\.", r"backbone.norm\1."),
    # What the release has no name for. The optimiser's groups need `decode_head` in every name of the decoder.
    (r"^decoder\.ham\.", r"decode_head.hamburger."),
    (r"^decoder\.", r"decode_head."),
    (r"^encoder\.", r"backbone."),
)


def released_name(name: str) -> str:
    """The name that the released code gives one of our parameters or buffers (`architectures.md`, section 4)."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    name = re.sub(r"<(\d)>", lambda stage: str(int(stage[1]) + 1), name)
    return re.sub(r"\[(\d+)\]", lambda kernel: _STRIPS.get(kernel[1], kernel[1]), name)


class _Ignored:
    """In the place of what is no weight."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def load_file(path: Path | str) -> dict[str, Any]:
    """A weights file's content, read without executing anything in it (`weights_only`).

    What mmengine and timm keep beside weights comes back as empty objects.

    Raises `OSError` where the file is missing or cannot be read, and `ValueError`, naming it, where it is damaged or
    holds anything but plain weights.
    """
    file = Path(path)
    if file.exists() and not file.is_file():  # a folder, or a pipe, which would wait for ever
        raise ValueError(f"{printable(file)} is not a readable file of plain weights: it is no regular file; {_REMEDY}")
    written = file.read_bytes()  # so that an `OSError` is the file system's: of damage torch makes one, too
    try:
        ignored: list[Any] = [(_Ignored, name) for name in _BESIDE_WEIGHTS]
        with warnings.catch_warnings(), torch.serialization.safe_globals(ignored):
            warnings.simplefilter("ignore")  # of torch about what a stranger's file holds: it is judged below
            content = torch.load(io.BytesIO(written), map_location="cpu", weights_only=True)
    except Exception as error:  # damage leads the unpickler and torch to nearly all that there are
        why = printable(str(error).partition("\n")[0] or type(error).__name__)
        raise ValueError(f"{printable(file)} is not a readable file of plain weights: {why}; {_REMEDY}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{printable(file)} holds a {type(content).__name__}, not a dict of weights; {_REMEDY}")
    return content


def load_released(model: nn.Module, content: Mapping[str, Any], source: Path | str = "these weights") -> None:
    """Load a whole network under the released key names: all of it, or nothing.

    For `SegNeXt` the segmentor's, for `MSCANClassifier` the ImageNet file's (no `backbone.`, with `head.*`). Accepts a
    state dict or a file's dict with `state_dict` beside `meta`, `module.` in front, and mmsegmentation 1.x's spelling
    of the depth-wise convolution. Raises `ValueError` naming `source` and the keys that are missing, unknown, of
    another shape, or of values that no network has (NaN, infinity, negative variances, another kind of number), five of
    each and how many more: silently unloaded weights are the commonest failed reproduction.
    """
    _load(model, _released_names(model), given_weights(content, source), source)


def load_encoder(model: nn.Module, content: Mapping[str, Any], source: Path | str = "these weights") -> None:
    """Load the encoder of a network from an ImageNet file, for training to start from; the rest stays as it is.

    The authors' files name a bare backbone, with or without the classifier's `head.*`, which is left out; so does what
    `to_released` makes of an `MSCANClassifier`. Raises `ValueError` as `load_released` does.
    """
    given = {
        key: value
        for key, value in given_weights(content, source).items()
        if not re.match(r"head\.(weight|bias)$", key)
    }
    names = {key.removeprefix("backbone."): name for key, name in _released_names(model).items() if _of_encoder(name)}
    _load(model, names, given, source)


def load_initial(model: nn.Module, content: Mapping[str, Any], source: Path | str = "these weights") -> None:
    """Load what a training starts from: of an ImageNet file the encoder, of a segmentor's the whole network.

    A segmentor for other classes gives everything but the layer that scores them, which stays as it is. `Ours:` the
    paper is silent; mmsegmentation's `load_from` does so, but says nothing of other keys. Raises `ValueError` as
    `load_released` does.
    """
    given = given_weights(content, source)
    if not any(key.startswith("decode_head.") for key in given):
        return load_encoder(model, content, source)
    names, own = _released_names(model), model.state_dict()
    scores = [key for key in names if key.startswith("decode_head.conv_seg.")]
    if any(key in given and given[key].shape[:1] != own[names[key]].shape[:1] for key in scores):
        names = {key: name for key, name in names.items() if key not in scores}
        given = {key: value for key, value in given.items() if key not in scores}
    return _load(model, names, given, source)


def to_released(model: nn.Module) -> dict[str, Tensor]:
    """The model's state dict under the released key names."""
    own = model.state_dict()
    return {key: own[name] for key, name in _released_names(model).items()}


def save_released(model: nn.Module, path: Path, meta: Mapping[str, Any] | None = None) -> None:
    """Write the model's weights under the released key names: whole or not at all.

    With `meta`, plain data that say what the weights are, as the authors' files have it: beside a `state_dict`.
    """
    buffer, weights = io.BytesIO(), to_released(model)
    torch.save({"meta": dict(meta), "state_dict": weights} if meta else weights, buffer)
    write_atomically(path, buffer.getbuffer())


def _of_encoder(name: str) -> bool:
    return name.startswith("encoder.")


def _released_names(model: nn.Module) -> dict[str, str]:
    """Released key -> our name, for everything in the model's state dict."""
    names = {released_name(name): name for name in model.state_dict()}
    if isinstance(model, MSCANClassifier):
        return {key.removeprefix("backbone."): name for key, name in names.items()}
    return names


def given_weights(content: Mapping[str, Any], source: Path | str) -> dict[str, Tensor]:
    """The plain tensors of a file by released key, whatever the file wraps them in. Raises as `load_released` does."""
    source = printable(source)
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping):
        raise ValueError(f"{source}: 'state_dict' is a {type(state).__name__}, not a dict of weights; {_REMEDY}")
    given: dict[str, Tensor] = {}
    spelt: dict[str, str] = {}  # released key -> as the file has it
    for name, value in state.items():
        shown = printable(repr(name))
        if not isinstance(name, str):
            raise ValueError(f"{source}: a key {shown} is a {type(name).__name__}, not text; {_REMEDY}")
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise ValueError(f"{source}: {shown} is a {kind}, not a tensor; this is no state dict; {_REMEDY}")
        if fault := _unusable(value):
            raise ValueError(f"{source}: {shown} is {fault}, not a plain tensor of numbers; {_REMEDY}")
        key = name.removeprefix("module.")
        key = re.sub(r"\.mlp\.dwconv\.(weight|bias)$", r".mlp.dwconv.dwconv.\1", key)
        if key in given:
            both = f"{printable(repr(spelt[key]))} and {shown}"
            raise ValueError(f"{source}: {both} are the same weight twice; take one out")
        given[key], spelt[key] = value, name
    return given


def _unusable(value: Tensor) -> str:
    """What a tensor is whose numbers cannot be looked at and copied like any other's; "" where they can."""
    if type(value) not in (Tensor, nn.Parameter):
        return f"a {type(value).__name__}"
    if value.is_nested:
        return "a nested tensor"
    if value.layout is not torch.strided:
        return f"a sparse tensor ({value.layout})"
    if value.is_quantized:
        return f"a quantised tensor ({value.dtype})"
    return "a tensor without data (device meta)" if value.is_meta else ""


def _load(model: nn.Module, names: Mapping[str, str], given: Mapping[str, Tensor], source: Path | str) -> None:
    own = model.state_dict()
    wrong = {"missing": [key for key in names if key not in given]}
    wrong["unknown"] = [printable(key) for key in given if key not in names]
    shapes, values = wrong.setdefault("shape of", []), wrong.setdefault("values of", [])
    for key in names.keys() & given.keys():
        theirs, ours = tuple(given[key].shape), tuple(own[names[key]].shape)
        if theirs != ours:
            shapes.append(f"{key}: {theirs}, expected {ours}")
        elif fault := _wrong_values(key, given[key], own[names[key]].dtype):
            values.append(f"{key}: {fault}")
    if any(wrong.values()):
        lines = []
        for kind, keys in wrong.items():
            between = " " if kind.endswith(" of") else ": "
            lines += [f"{kind}{between}{key}" for key in sorted(keys)[:_SHOWN]]
            lines += [f"{kind}{between}{len(keys) - _SHOWN} more"] * (len(keys) > _SHOWN)
        raise ValueError(
            f"{printable(source)}: these keys do not fit the model; take weights of this model, or {_REMEDY}:\n  "
            + "\n  ".join(lines)
        )
    model.load_state_dict({**own, **{name: given[key] for key, name in names.items()}})


def _wrong_values(key: str, value: Tensor, wanted: torch.dtype) -> str:
    """What keeps a tensor of the right shape from being this weight, in the numbers that the model computes with."""
    if not wanted.is_floating_point:
        return "" if value.dtype in _INTEGERS else f"{value.dtype}, where integers belong"
    if value.dtype not in _FLOATS:
        return f"{value.dtype}, where floating-point numbers belong"
    held = value.to(wanted)
    if not held.isfinite().all():
        return f"{int((~held.isfinite()).sum())} of {held.numel()} are NaN or infinite"
    return "negative, but these are variances" if key.endswith(".running_var") and bool((held < 0).any()) else ""
