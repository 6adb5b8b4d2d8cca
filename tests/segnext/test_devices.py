"""Nothing is on the wrong device: passes run on a card that is not there, where FakeTensorMode follows devices."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from conftest import named
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

from segnext import Data, Model
from segnext.config.architecture import CHOICES
from segnext.fast import upsampling
from segnext.look.gradcam import _Watched
from segnext.model import build_network
from segnext.testing import evaluate
from segnext.testing.fusing import fuse_for_inference
from segnext.testing.metrics import Boundary, Confusion
from segnext.training.segmentation import segmentation_loss

CARD = torch.device("cuda", 0)
MODELS = [
    *(Model("micro", context=context) for context in CHOICES["context"]),
    Model("micro", decoder="a"),
    Model("micro", decoder="b", head_norm="bn"),
    Model("micro", mixer="lka"),
    Model("micro", encoder="van", nmf_gradient="one-step"),
    Model("micro", encoder_norm="ln"),
    Model("micro", encoder="convnext_tiny"),
    Model("micro", branches=(21,), attention=False, channel_mixing=False),
]
DATA = Data("ade20k", 5, (96, 64), (64, 64), test_scales=(0.5, 1.0))


@pytest.fixture
def card() -> Iterator[FakeTensorMode]:
    """Where tensors have no numbers and may be said to be on a card; what is cached of them does not outlive a test."""
    caches = (upsampling._matrix, evaluate._normalisation)
    for cache in caches:
        cache.cache_clear()
    yield FakeTensorMode(allow_non_fake_inputs=False)
    for cache in caches:
        cache.cache_clear()


def moved(model: Model, card: FakeTensorMode, task: str = "segmentation") -> nn.Module:
    """A network that was made as always, on the card: what is no parameter and no buffer stays behind, and is found."""
    network = build_network(model, 5, task)
    with card:
        for module in network.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        tensors[name] = there(tensor)
    return network


class Copies(TorchFunctionMode):
    """Lets tensors without storage be copied deeply."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is Tensor.__deepcopy__:
            return args[1].setdefault(id(args[0]), there(args[0]))
        return function(*args, **(kwargs or {}))


def there(tensor: Tensor) -> Tensor:
    found = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=CARD)
    return nn.Parameter(found, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else found


def on_card(tensor: object) -> bool:
    return isinstance(tensor, FakeTensor) and tensor.device == CARD


def backward(loss: Tensor) -> None:
    """`loss.backward()` without torch's engine, which asks the driver for a card: node by node, from the loss down."""
    waiting: Counter[object] = Counter()  # by node, the gradients that have not arrived
    found, queue = {loss.grad_fn}, [loss.grad_fn]
    while queue:
        for node, _ in queue.pop().next_functions:
            waiting[node] += node is not None
            if node is not None and node not in found:
                found.add(node)
                queue.append(node)
    gradients: dict[object, dict[int, Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    queue = [loss.grad_fn]
    while queue:
        node = queue.pop()
        arrived = gradients.pop(node, {})
        given = [arrived.get(number) for number in range(len(node._input_metadata))]
        apply = getattr(node, "apply", node)  # a function of our own
        result = apply(*given) if arrived else [None] * len(node.next_functions)
        results = result if isinstance(result, tuple | list) else [result]
        for (following, number), gradient in zip(node.next_functions, results, strict=False):
            if following is None:
                continue
            if gradient is not None:
                expected = following._input_metadata[number]
                gradient = gradient.sum_to_size(tuple(expected.shape)).to(expected.dtype)  # what was broadcast or cast
                sums = gradients.setdefault(following, {})
                sums[number] = sums[number] + gradient if number in sums else gradient
            waiting[following] -= 1
            if not waiting[following]:
                queue.append(following)


def trained(network: nn.Module, loss: Tensor) -> None:
    assert on_card(loss)
    assert (loss.dtype, loss.shape) == (torch.float32, ())
    backward(loss)
    assert all(on_card(p.grad) for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("model", MODELS, ids=named)
def test_a_training_step_is_on_the_card(model: Model, card: FakeTensorMode):
    network = moved(model, card).train()
    with card:
        images = torch.randn(2, 3, 64, 96, device=CARD)
        labels = torch.zeros(2, 64, 96, dtype=torch.uint8, device=CARD)
        loss = segmentation_loss(network.logits(images), labels)
        trained(network, loss)


def test_a_classifiers_training_step_is_on_the_card(card: FakeTensorMode):
    network = moved(Model("micro"), card, "classification").train()
    with card:
        found = network(torch.randn(2, 3, 64, 64, device=CARD))
        trained(network, nn.functional.cross_entropy(found.float(), torch.zeros(2, 5, device=CARD)))


@pytest.mark.parametrize(
    ("model", "window"), [(Model("micro"), (48, 48)), *((model, None) for model in MODELS)], ids=named
)
def test_an_evaluation_is_on_the_card_from_pixels_to_counts_and_asks_it_for_nothing(
    model: Model, window: tuple[int, int] | None, card: FakeTensorMode, monkeypatch: pytest.MonkeyPatch
):
    """An operator that asks for a value fails here, too, for there is none."""
    network = moved(model, card)
    with card:
        with Copies(), monkeypatch.context() as patch:
            patch.setattr(nn.Module, "to", lambda module, **layout: module)  # parameters without storage refuse it
            network = fuse_for_inference(network)
        data = dataclasses.replace(DATA, window=window, stride=window and (32, 32))
        pixels = [torch.zeros(2, *size, 3, dtype=torch.uint8, device=CARD) for size in ((64, 64), (96, 64))]
        labels = torch.zeros(2, 70, 50, dtype=torch.uint8, device=CARD)
        confusion, boundary = Confusion(5, CARD), Boundary(5, device=CARD)
        single = evaluate._likeliest(network, pixels[1], (70, 50), data, lambda images: None)
        multi = evaluate._most_probable(network, pixels, (70, 50), data, (False, True), lambda images: None)
        for found in (single, multi):
            assert on_card(found)
            assert (found.dtype, found.shape) == (torch.uint8, labels.shape)
            for counts in (confusion, boundary):
                counts.count(found, labels)
                assert on_card(counts.counts)
        with pytest.raises(DataDependentOutputException):
            confusion.add(single, labels)  # looks whether every prediction is a class


@pytest.mark.parametrize("model", [MODELS[0], MODELS[6], MODELS[11]], ids=named)
def test_grad_cams_pass_is_on_the_card(model: Model, card: FakeTensorMode):
    watched = _Watched(moved(model, card).eval(), 4)
    seen: list[Tensor] = []

    def watch(module: nn.Module, given: object, found: Tensor) -> Tensor:
        seen.append(found.detach().requires_grad_())
        return seen[0]

    watched.stage.register_forward_hook(watch)
    with card:
        scores = watched(torch.randn(1, 3, 64, 96, device=CARD))
        backward(scores[0, 1].sum())
        assert on_card(seen[0].grad)


def test_a_tensor_on_the_wrong_device_is_found(card: FakeTensorMode):
    network = moved(Model("micro"), card)
    with card:
        network.decoder.classifier.weight = nn.Parameter(torch.zeros(network.decoder.classifier.weight.shape))
        with pytest.raises(RuntimeError, match="device"):
            network(torch.randn(1, 3, 64, 64, device=CARD))
