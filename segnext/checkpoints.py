"""The authors' released weights in and out: our parameter names and theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

# Ours -> released (c87bcae). The released names also decide the optimiser's groups (segnext.train).
_STRIPS = {"7": "0", "11": "1", "21": "2"}
_NAMES: tuple[tuple[str, str], ...] = (
    (r"^encoder\.stages\.0\.downsample\.(\d)\.", r"backbone.patch_embed1.proj.\1."),
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
)


def released_name(name: str) -> str:
    """The name that the released code gives one of our parameters or buffers (`architectures.md`, section 4)."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    name = re.sub(r"<(\d)>", lambda stage: str(int(stage[1]) + 1), name)
    return re.sub(r"\[(\d+)\]", lambda kernel: _STRIPS.get(kernel[1], kernel[1]), name)


def load_released(model: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Load weights under the released key names, all of them or none.

    Accepts a state dict or a file's dict with `state_dict` beside `meta`, and mmsegmentation 1.x's spelling of the
    depth-wise convolution. Raises `ValueError` listing every missing, unknown or mis-shaped key: silently unloaded
    weights are the commonest failed reproduction.
    """
    given: dict[str, Tensor] = {}
    for key, value in state_dict.get("state_dict", state_dict).items():
        key = key.removeprefix("module.")
        key = re.sub(r"\.mlp\.dwconv\.(weight|bias)$", r".mlp.dwconv.dwconv.\1", key)
        given[key] = value
    own = model.state_dict()
    wanted = {released_name(name): name for name in own}
    problems = [f"missing: {key}" for key in wanted if key not in given]
    problems += [f"unknown: {key}" for key in given if key not in wanted]
    for key in wanted.keys() & given.keys():
        theirs, ours = tuple(given[key].shape), tuple(own[wanted[key]].shape)
        if theirs != ours:
            problems.append(f"shape of {key}: {theirs}, expected {ours}")
    if problems:
        raise ValueError("these weights do not fit the model:\n  " + "\n  ".join(sorted(problems)))
    model.load_state_dict({name: given[key] for key, name in wanted.items()})


def to_released(model: nn.Module) -> dict[str, Tensor]:
    """The model's state dict under the released key names."""
    return {released_name(name): value for name, value in model.state_dict().items()}
