"""Weights go in and out under the released names, whole or not at all."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import golden
import pytest
import torch
from conftest import FIXTURES, FUZZ, named
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segnext import Model, MSCANClassifier, SegNeXt, Train
from segnext.released_weights import load_encoder, load_file, load_initial, load_released, released_name, to_released
from segnext.training.segmentation import parameter_groups

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


def test_an_imagenet_file_that_does_not_fit_is_refused_with_its_keys():
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
    with pytest.raises(ValueError, match=r"unknown: backbone\.block1"):
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


KEY = "decode_head.conv_seg.weight"
MICRO = Model("micro")


@cache
def drawn() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return to_released(SegNeXt(MICRO, 5))


def weights() -> dict[str, Tensor]:
    """Released weights of a micro model with 5 classes, to be spoilt."""
    return {key: value.clone() for key, value in drawn().items()}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return SegNeXt(MICRO, 5)


def refused(network: nn.Module, content: Any, path: Path) -> str:
    """The message with which a file that holds this is refused; the network is as it was."""
    torch.save(content, path)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"^\S*weights\.pth") as raised:
        load_released(network, load_file(path), path)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    return str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": None}, "'state_dict' is a NoneType, not a dict of weights"),
        ({"state_dict": [1]}, "'state_dict' is a list"),
        ({1: torch.zeros(1)}, "a key 1 is a int, not text"),
        ({("a",): torch.zeros(1)}, "a key ('a',) is a tuple, not text"),
        ({"model": {}}, "'model' is a dict, not a tensor; this is no state dict"),
        ("text", "holds a str, not a dict of weights"),
    ],
)
def test_what_is_no_dict_of_weights_is_named_with_its_remedy(network: nn.Module, tmp_path: Path, content, said: str):
    message = refused(network, content, tmp_path / "weights.pth")
    assert said in message
    assert "fetch or write the file again" in message


SHAPE = (5, 64, 1, 1)


def quantised(value: Tensor) -> Tensor:
    return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value.to("meta"), "a tensor without data"),
        (lambda value: value.to_sparse(), "a sparse tensor"),
        (lambda value: value[:, :, 0, 0].to_sparse_csr(), "a sparse tensor"),
        pytest.param(quantised, "a quantised tensor", marks=pytest.mark.filterwarnings("ignore")),
        (lambda value: value * float("nan"), f"values of {KEY}: {{n}} of {{n}} are NaN or infinite"),
        (lambda value: value / 0, "are NaN or infinite"),
        (lambda value: value.double() * 1e300, "are NaN or infinite"),
        (lambda value: value.to(torch.int64), "torch.int64, where floating-point numbers belong"),
        (lambda value: value > 0, "torch.bool, where floating-point"),
        (lambda value: value.to(torch.complex64), "torch.complex64, where floating-point"),
        (lambda value: value.to(torch.float8_e4m3fn), "torch.float8_e4m3fn, where floating-point"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_tensors_that_are_no_weights_are_refused(network: nn.Module, tmp_path: Path, change: Callable, said: str):
    given = weights()
    count = given[KEY].numel()
    given[KEY] = change(given[KEY] + 1)
    message = refused(network, {"state_dict": given}, tmp_path / "weights.pth")
    assert said.format(n=count) in message
    assert KEY in message


def test_negative_variances_and_counts_that_are_no_integers_are_refused(network: nn.Module, tmp_path: Path):
    given = weights()
    variance = next(key for key in given if key.endswith("running_var"))
    given[variance][0] = -1e-3
    assert f"values of {variance}: negative" in refused(network, given, tmp_path / "weights.pth")
    given[variance][0] = 0
    steps = next(key for key in given if key.endswith("num_batches_tracked"))
    given[steps] = torch.tensor(1.5)
    assert f"values of {steps}: torch.float32, where integers" in refused(network, given, tmp_path / "weights.pth")


@pytest.mark.parametrize("other", ["module.{}", "{}"])
def test_one_weight_under_two_names_is_refused(network: nn.Module, tmp_path: Path, other: str):
    given = weights()
    key = KEY if "module" in other else next(key for key in given if ".mlp.dwconv.dwconv.weight" in key)
    twin = other.format(key).replace("dwconv.dwconv", "dwconv")
    given[twin] = given[key] + 1
    message = refused(network, given, tmp_path / "weights.pth")
    assert f"'{key}' and '{twin}' are the same weight twice" in message
    with pytest.raises(ValueError, match="the same weight twice"):
        load_initial(network, given)


def test_half_and_double_precision_are_welcome(network: nn.Module, tmp_path: Path):
    given = weights()
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        kept = {key: value.to(kind) if value.is_floating_point() else value for key, value in given.items()}
        torch.save(kept, tmp_path / "weights.pth")
        load_released(network, load_file(tmp_path / "weights.pth"))
        assert torch.equal(to_released(network)[KEY], kept[KEY].float())


def test_messages_are_short_and_hold_no_control_characters(network: nn.Module, tmp_path: Path):
    given = weights() | {f"\x1b[2J{number}" + "x" * 5_000: torch.zeros(1) for number in range(500)}
    for content in (given, {"\x1b[2J" * 5_000: None}, {"state_dict": {"a\u202eb\n": 1}}):
        message = refused(network, content, tmp_path / "weights.pth")
        assert len(message) < 3_000
        assert all(letter.isprintable() or letter == "\n" for letter in message)
    assert "unknown: 495 more" in refused(network, given, tmp_path / "weights.pth")


def test_a_pipe_and_a_folder_are_no_weights(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", tmp_path):
        with pytest.raises(ValueError, match="it is no regular file"):
            load_file(path)


FIXTURES_STAY = (HealthCheck.function_scoped_fixture,)  # every example writes its own file
ODDITIES: tuple[Callable[[Tensor], Any], ...] = (
    lambda value: None,
    lambda value: {"weight": value},
    lambda value: [value],
    lambda value: 1.5,
    lambda value: "\x1b[31m",
    lambda value: value.to("meta"),
    lambda value: value.to_sparse(),
    lambda value: value.reshape(-1),
    lambda value: value.expand(7, *value.shape),
    lambda value: torch.zeros(0),
    lambda value: torch.full_like(value, 255),
    lambda value: value * float("inf"),
    lambda value: value.to(torch.complex64),
    lambda value: nn.Parameter(value.float()),
    lambda value: value.T if value.ndim == 2 else value[..., None],
    lambda value: -value - 1,
)


def odd(chance: random.Random) -> Any:
    """A state dict with some keys and values that it should not have."""
    given: dict[Any, Any] = dict(weights())
    for _ in range(chance.randint(1, 3)):
        key = chance.choice(list(given))
        match chance.randrange(4):
            case 0:
                del given[key]
            case 1:
                given[chance.choice([1, None, b"x", "", f"module.{key}", f"{key}\0", ("a", 1)])] = given[key]
            case _ if isinstance(given[key], Tensor):
                given[key] = chance.choice(ODDITIES)(given[key])
    return chance.choice([given, {"state_dict": given}, {"state_dict": given, "meta": [given]}, [given], {"": given}])


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, taken away, doubled or written over."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        place, length = chance.randrange(len(data) + 1), chance.choice([1, 1, 4, 100])
        # Most of a file are weights: what says how to read them lies at its beginning and its end.
        place = chance.choice([place, place % 4096, max(0, len(data) - place % 4096)])
        match chance.randrange(4):
            case 0:
                data[place : place + length] = chance.randbytes(length)
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = data[place : place + length]
            case _:
                data[place : place + 1] = b"\xff"
    return bytes(data[: chance.choice([len(data)] * 4 + [chance.randrange(len(data) + 1)])])


@pytest.mark.fuzz
@example(seed=218414, old=False, bytewise=True)  # torch seeks before the beginning: an `OSError`
@given(seed=st.integers(0, 1 << 32), old=st.booleans(), bytewise=st.booleans())
@settings(
    max_examples=FUZZ, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_weights_file_raises_anything_but_value_errors(network, tmp_path, seed: int, old: bool, bytewise: bool):
    """Damaged bytes in both of torch's formats, and contents that are no weights; damage may also go unseen."""
    chance, path = random.Random(seed), tmp_path / "weights.pth"
    buffer = io.BytesIO()
    torch.save(weights() if bytewise else odd(chance), buffer, _use_new_zipfile_serialization=not old)
    path.write_bytes(damaged(buffer.getvalue(), chance) if bytewise else buffer.getvalue())
    load = chance.choice([load_released, load_encoder, load_initial])
    try:
        load(network, load_file(path), path)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 both outcomes are judged
        assert len(str(error)) < 3_000  # noqa: PT017
    assert all(value.isfinite().all() for value in network.state_dict().values())
