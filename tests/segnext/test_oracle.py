"""Our network against the published mmsegmentation wheel: equal features and scores under the same random weights.

Needs the extra `oracle`: `make oracle` installs it beside everything else, in an environment of its own, and runs this.
"""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from conftest import needs
from mmcv_ops import stand_in
from torch import Tensor, nn

from segnext import Model, SegNeXt
from segnext.config import SIZES
from segnext.decoder import HamDecoder
from segnext.ham import NMF
from segnext.mscan import MSCAN
from segnext.released_weights import load_released

pytestmark = needs("oracle", "mmseg", "mmengine", "mmcv")
PARAMETERS = {"T": 4_263_414, "S": 13_932_886, "B": 27_636_310, "L": 48_926_550}


@pytest.fixture(scope="module")
def published() -> Iterator[types.SimpleNamespace]:
    """The wheel's encoder and head."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's own
        patch.setitem(sys.modules, "mmcv.ops", stand_in())
        from mmseg.models.backbones.mscan import MSCAN
        from mmseg.models.decode_heads.ham_head import LightHamHead

        yield types.SimpleNamespace(MSCAN=MSCAN, LightHamHead=LightHamHead)


def build(published: types.SimpleNamespace, size: str) -> nn.ModuleDict:
    """The wheel's network under the names of its checkpoints; ranks as in the official configs, not the wheel's."""
    own = SIZES[size]
    encoder = published.MSCAN(
        embed_dims=list(own.channels),
        depths=list(own.depths),
        mlp_ratios=list(own.expansion_ratios),
        drop_path_rate=own.drop_path,
        norm_cfg={"type": "BN"},
    )
    head = published.LightHamHead(
        in_channels=list(own.channels[1:]),
        in_index=[1, 2, 3],
        channels=own.decoder_channels,
        ham_channels=own.decoder_channels,
        ham_kwargs={"MD_R": own.nmf_rank},
        num_classes=150,
        dropout_ratio=0.1,
        norm_cfg={"type": "GN", "num_groups": 32},
        align_corners=False,
    )
    return nn.ModuleDict({"backbone": encoder, "decode_head": head}).eval()


def randomise(network: nn.Module) -> None:
    """Everything away from its initial value first: a layer scale of 1e-2 hides errors. (1 overflows in 38 blocks.)"""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "layer_scale" in name:
                value.uniform_(0.03, 0.07)
            elif name.endswith("running_var"):
                value.uniform_(1, 1.5)
            elif value.dim() == 4:
                value.normal_(0, value[0].numel() ** -0.5)
            elif value.is_floating_point():
                value.add_(torch.randn(value.shape), alpha=0.1)


@pytest.mark.filterwarnings("ignore:``build_loss`` would be", "ignore:Default ``avg_non_ignore``")
@pytest.mark.parametrize(("height", "width"), [(128, 128), (95, 127)])
@pytest.mark.parametrize("size", PARAMETERS)
def test_features_and_scores_are_those_of_the_published_wheel(
    published: types.SimpleNamespace, size: str, height: int, width: int, monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(3)
    theirs = build(published, size)
    randomise(theirs)
    ours = SegNeXt(Model(size), classes=150).eval()
    load_released(ours, theirs.state_dict())
    assert sum(p.numel() for p in ours.parameters()) == PARAMETERS[size]
    assert sum(p.numel() for p in theirs.parameters()) == PARAMETERS[size]

    x = torch.randn(1, 3, height, width)
    torch.manual_seed(11)  # the wheel draws its bases in the head's forward pass, from the global generator
    with torch.no_grad():
        expected = theirs.backbone(x)
        scores = theirs.decode_head(expected)

    def drawn(self: NMF, batch: int, dim: int, rank: int, device: torch.device | None = None) -> Tensor:
        torch.manual_seed(11)
        return F.normalize(torch.rand(batch, dim, rank), dim=1)

    monkeypatch.setattr(NMF, "initial_bases", drawn)
    with torch.no_grad():
        features = ours.encoder(x.contiguous(memory_format=torch.channels_last))
        found = [*features, ours.decoder(features)]
    for ours_, wheels in zip(found, [*expected, scores], strict=True):
        torch.testing.assert_close(ours_, wheels, rtol=0, atol=1e-5 * wheels.abs().max().item())

    # Bit for bit where the memory is laid out alike: ours is channels-last, in which convolutions sum in another order.
    encoder, decoder = MSCAN(Model(size)).eval(), HamDecoder(Model(size), 150, 0.1).eval()
    encoder.load_state_dict(ours.encoder.state_dict())
    decoder.load_state_dict(ours.decoder.state_dict())
    for module in (*encoder.stages, decoder.ham.nmf):
        module.register_forward_hook(lambda module, inputs, output: output.contiguous())
    with torch.no_grad():
        features = encoder(x)
        assert all(torch.equal(a, b) for a, b in zip(features, expected, strict=True))
        assert torch.equal(decoder(features), scores)
