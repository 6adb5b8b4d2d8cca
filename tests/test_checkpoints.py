"""Weights go in and out under the released names, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import golden
import pytest
import torch
from conftest import FIXTURES, named
from torch import Tensor, nn

from segnext import Model, MSCANClassifier, SegNeXt, Train
from segnext.checkpoints import load_encoder, load_file, load_released, released_name, to_released
from segnext.segmentation import parameter_groups

VARIANTS = [
    Model("micro"),
    Model("micro", decoder="a"),
    Model("micro", decoder="b", head_norm="bn"),
    Model("micro", branches=(3, 21), channel_mixing=False),
    Model("micro", mixer="lka", encoder_norm="ln"),
    Model("micro", encoder="van"),
    Model("micro", encoder="convnext_tiny"),
    *(Model("micro", context=context) for context in ("nl", "cc", "ema", "msca", "none")),
]


def disturbed(model: nn.Module) -> nn.Module:
    """Other values in every parameter and buffer than a fresh model has."""
    for value in model.state_dict().values():
        value.copy_(torch.rand(value.shape) / 10 if value.is_floating_point() else torch.full_like(value, 7))
    return model


def imagenet_file(size: str = "T") -> dict[str, Tensor]:
    """The authors' pretraining file: a bare backbone with the classifier."""
    keys = golden.weights(FIXTURES / "golden" / "tiny.keys.json")
    backbone = {k.removeprefix("backbone."): value for k, value in keys.items() if k.startswith("backbone.")}
    return {**backbone, "head.weight": torch.randn(1000, 256), "head.bias": torch.randn(1000)}


@pytest.mark.parametrize("model", VARIANTS, ids=named)
def test_every_variant_survives_a_round_trip(model: Model, tmp_path: Path):
    network, other = disturbed(SegNeXt(model, 5)).eval(), SegNeXt(model, 5).eval()
    written = to_released(network)
    assert len(written) == len(network.state_dict()), "two parameters share a released name"
    torch.save({"meta": {"epoch": 1}, "state_dict": written}, tmp_path / "weights.pth")
    load_released(other, load_file(tmp_path / "weights.pth"))
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(x), other(x))
        assert network(x).isfinite().all()


@pytest.mark.parametrize("model", VARIANTS, ids=named)
def test_the_optimisers_groups_know_encoder_and_head_of_every_variant(model: Model):
    network = SegNeXt(model, 5)
    names = [released_name(name) for name in network.state_dict()]
    assert all(name.startswith(("backbone.", "decode_head.")) for name in names)
    head = sum(len(g["params"]) for g in parameter_groups(network, Train(iterations=1)) if g["factor"] == 10)
    assert head == sum(p.requires_grad for p in network.decoder.parameters())


def test_van_has_its_authors_names():
    with torch.device("meta"):
        names = set(to_released(MSCANClassifier(Model("T", encoder="van"))))
    stem = {f"patch_embed1.{part}.{kind}" for part in ("proj", "norm") for kind in ("weight", "bias")}
    gate = {f"block3.4.attn.spatial_gating_unit.{conv}.weight" for conv in ("conv0", "conv_spatial", "conv1")}
    assert stem | gate | {"head.weight", "norm4.bias", "block1.0.mlp.dwconv.dwconv.weight"} <= names


@pytest.mark.parametrize("task", [SegNeXt, MSCANClassifier])
@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_an_imagenet_file_fills_the_encoder_and_nothing_else(task: type[nn.Module], head: bool, wrapped: bool):
    given = {key: value for key, value in imagenet_file().items() if head or not key.startswith("head.")}
    model = disturbed(task(Model("T"), 5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_encoder(model, {"meta": {}, "state_dict": {f"module.{k}": v for k, v in given.items()}} if wrapped else given)
    for name, value in model.state_dict().items():
        inside = name.startswith("encoder.")
        expected = given[released_name(name).removeprefix("backbone.")] if inside else before[name]
        assert torch.equal(value, expected), name


def test_a_classifier_is_an_imagenet_file_in_and_out(tmp_path: Path):
    given, model = imagenet_file(), MSCANClassifier(Model("T"))
    load_released(model, given)
    written = to_released(model)
    assert written.keys() == given.keys()
    assert all(torch.equal(written[key], given[key]) for key in given)
    pretrained = SegNeXt(Model("T"), 5)
    load_encoder(pretrained, written)
    assert all(
        torch.equal(a, b)
        for a, b in zip(pretrained.encoder.state_dict().values(), model.encoder.state_dict().values(), strict=True)
    )


def test_an_imagenet_file_that_does_not_fit_is_refused_with_every_key():
    given = imagenet_file()
    del given["norm2.weight"]
    given["block9.0.norm1.weight"] = torch.zeros(3)
    given["patch_embed2.proj.weight"] = torch.zeros(3, 3)
    given["head.extra"] = torch.zeros(1)
    model = SegNeXt(Model("T"), 5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"mscan_t\.pth: these keys do not fit the model") as raised:
        load_encoder(model, given, "mscan_t.pth")
    for line in (
        "missing: norm2.weight",
        "unknown: block9.0.norm1.weight",
        "unknown: head.extra",
        "shape of patch_embed2.proj.weight: (3, 3), expected (64, 32, 3, 3)",
    ):
        assert line in str(raised.value)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_segmentors_file_is_no_imagenet_file():
    with pytest.raises(ValueError, match=r"unknown: decode_head\.conv_seg\.weight"):
        load_encoder(SegNeXt(Model("T"), 150), golden.weights(FIXTURES / "golden" / "tiny.keys.json"))


def test_what_is_no_state_dict_is_refused():
    with pytest.raises(ValueError, match="'optimiser' is a dict, not a tensor"):
        load_released(SegNeXt(Model("micro"), 5), {"optimiser": {}})


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never run",)


def test_a_file_is_read_without_running_anything_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {}, "meta": Payload()}, path)
    with pytest.raises(ValueError, match=r"evil\.pth is not a readable file of plain weights"):
        load_file(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no weights at all"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path):
    (tmp_path / "damaged.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.pth is not a readable file"):
        load_file(tmp_path / "damaged.pth")


def test_a_missing_file_and_one_without_a_dict_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        load_file(tmp_path / "nowhere.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth holds a list"):
        load_file(tmp_path / "list.pth")
