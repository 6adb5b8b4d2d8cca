"""`Model`: an architecture as one value, with the sizes of Table 2, the encoders and the values of each switch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from segnext.config.fields import chosen, later, needed, official, paper, require
from segnext.config.identity import fields


@dataclass(frozen=True)
class Size:
    """One column of Table 2, with the values that only the released code states."""

    channels: tuple[int, int, int, int] = needed(paper("Table 2, C of the four stages"))
    depths: tuple[int, int, int, int] = needed(paper("Table 2, L"))
    expansion_ratios: tuple[int, int, int, int] = needed(paper("Table 2, e.r."))
    decoder_channels: int = needed(paper('Table 2, "decoder dimension"'))
    nmf_rank: int = needed(official("MD_R in local_configs/segnext (B and L: the default of ham_head.py:19)"))
    drop_path: float = needed(official("local_configs/segnext", "the paper is silent"))


SIZES: dict[str, Size] = {
    "T": Size((32, 64, 160, 256), (3, 3, 5, 2), (8, 8, 4, 4), 256, 16, 0.1),
    "S": Size((64, 128, 320, 512), (2, 2, 4, 2), (8, 8, 4, 4), 256, 16, 0.1),
    "B": Size((64, 128, 320, 512), (3, 3, 12, 3), (8, 8, 4, 4), 512, 64, 0.1),
    "L": Size((64, 128, 320, 512), (3, 5, 27, 3), (8, 8, 4, 4), 1024, 64, 0.3),
    # Our stand-ins; segnext.config.choices says what each is for.
    "micro": Size((16, 32, 48, 64), (1, 1, 2, 1), (4, 4, 4, 4), 64, 16, 0.0),
    "microscope": Size((24, 8, 8, 8), (1, 0, 0, 0), (2, 2, 2, 2), 32, 16, 0.0),
    "microscope-wide": Size((26, 8, 8, 8), (1, 0, 0, 0), (2, 2, 2, 2), 32, 16, 0.0),
}

# Values of `Size` that an encoder replaces by its own. The light Ham decoder keeps those of the size.
_PVT: dict[str, Any] = {"expansion_ratios": (4, 4, 4, 4), "nmf_rank": 0, "drop_path": 0.1}  # SegFormer: no NMF at all
ENCODERS: dict[str, dict[str, Any]] = {
    "mscan": {},
    "van": {},  # VAN-B0 to B3 have the channels, depths and ratios of MSCAN-T to L
    # torchvision: convnext_tiny(), convnext_small()
    "convnext_tiny": {
        "channels": (96, 192, 384, 768),
        "depths": (3, 3, 9, 3),
        "expansion_ratios": (4, 4, 4, 4),
        "drop_path": 0.1,
    },
    "convnext_small": {
        "channels": (96, 192, 384, 768),
        "depths": (3, 3, 27, 3),
        "expansion_ratios": (4, 4, 4, 4),
        "drop_path": 0.4,
    },
    # SegFormer with its own decoder: Table 6 of its paper; expansion ratios as in its code, where the two differ
    "segformer_b0": {"channels": (32, 64, 160, 256), "depths": (2, 2, 2, 2), "decoder_channels": 256, **_PVT},
    "segformer_b1": {"channels": (64, 128, 320, 512), "depths": (2, 2, 2, 2), "decoder_channels": 256, **_PVT},
    "segformer_b2": {"channels": (64, 128, 320, 512), "depths": (3, 4, 6, 3), "decoder_channels": 768, **_PVT},
    "segformer_b3": {"channels": (64, 128, 320, 512), "depths": (3, 4, 18, 3), "decoder_channels": 768, **_PVT},
}

CHOICES: dict[str, tuple[str, ...]] = {
    "encoder": tuple(ENCODERS),
    "mixer": ("msca", "lka"),
    "context": ("ham", "nl", "cc", "ema", "msca", "none"),
    "encoder_norm": ("bn", "ln"),
    "head_norm": ("gn", "bn"),
    "nmf_gradient": ("full", "one-step"),
}

DECODER_STAGES = {"a": (1, 2, 3, 4), "b": (4,), "c": (2, 3, 4)}


@dataclass(frozen=True)
class Model:
    """An architecture as one value: SegNeXt (Sec. 3) or any variant that a table of the paper trains.

    Raises `ValueError`, naming the field, for a value that no variant has.
    """

    size: str = "T"
    branches: tuple[int, ...] = chosen((7, 11, 21), paper("Sec. 3.1, the strip kernels; Table 6 drops them one by one"))
    channel_mixing: bool = chosen(True, paper("Eq. 1, the 1x1 convolution; Table 6"))
    attention: bool = chosen(True, paper("Eq. 2, the element-wise product; Table 6"))
    decoder: str = chosen("c", paper("Fig. 3 (a), (b), (c); Table 7"))
    stages: tuple[int, ...] | None = None  # encoder stages that decoder (c) reads; None: as in Fig. 3
    nmf_rank: int | None = None  # None: the default of the size
    drop_path: float | None = None  # None: the default of the size
    encoder: str = later(
        "mscan",
        paper('Sec. 3.1; "van": what Table 8\'s digits say; others: Table 9, Fig. 1'),
        frozen="mscan",
    )
    mixer: str = later(
        "msca",
        paper('Sec. 3.1; "lka": VAN\'s large-kernel attention in its place, Table 8'),
        frozen="msca",
    )
    context: str = later(
        "ham", paper("Sec. 3.2; Table 5 (cc, ema, nl), appendix Table 2 (msca), or none"), frozen="ham"
    )
    encoder_norm: str = later(
        "bn",
        paper('Sec. 3.1, "we use batch normalization instead of layer normalization"'),
        frozen="bn",
    )
    head_norm: str = later("gn", official("GN with 32 groups", "the paper names BN alone"), frozen="gn")
    nmf_gradient: str = later("full", official("PyTorch", 'JSeg and HamNet: "one-step"'), frozen="full")

    def __post_init__(self) -> None:
        require(self.size in SIZES, f"Model.size: {self.size!r} is not one of {', '.join(SIZES)}")
        require(self.decoder in DECODER_STAGES, f"Model.decoder: {self.decoder!r} is not one of a, b, c (Fig. 3)")
        for kernel in self.branches:
            require(kernel > 0 and kernel % 2 == 1, f"Model.branches: {kernel} is not an odd kernel size")
        default = DECODER_STAGES[self.decoder]
        stages = self.decoder_stages
        ascending = len(stages) > 0 and tuple(sorted(set(stages))) == stages and set(stages) <= {1, 2, 3, 4}
        require(ascending, f"Model.stages: {stages} is not an ascending choice of 1, 2, 3, 4")
        require(
            self.decoder == "c" or stages == default,
            f"Model.stages: decoder ({self.decoder}) reads stages {default}; only (c) can read {stages}",
        )
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            require(value in choices, f"Model.{name}: {value!r} is not one of {', '.join(choices)}")
        # Equal architectures must be equal values, so that they share an id: an explicit value that equals the default
        # of the size, the encoder or the decoder is stored as None,
        size = self._own
        object.__setattr__(self, "branches", tuple(self.branches))
        object.__setattr__(self, "stages", None if stages == default else stages)
        for name in ("nmf_rank", "drop_path"):
            if getattr(self, name) == getattr(size, name):
                object.__setattr__(self, name, None)
        if self.encoder == "van":
            object.__setattr__(self, "mixer", "lka")
        # and a switch that this architecture does not read must stay at its default.
        for name, reason in self._unread():
            value, field = getattr(self, name), type(self).__dataclass_fields__[name]
            require(
                value == field.default,
                f"Model.{name}: {value!r} has no effect, because {reason}; leave it at {field.default!r}",
            )

    @property
    def _own(self) -> Size:
        return dataclasses.replace(SIZES[self.size], **ENCODERS[self.encoder])

    def _unread(self) -> Iterator[tuple[str, str]]:
        """Fields that have no effect on this architecture, each with the reason."""
        if self.encoder not in ("mscan", "van"):
            for name in ("branches", "channel_mixing", "attention", "mixer", "encoder_norm"):
                yield name, f"encoder {self.encoder} has none of MSCAN's blocks"
        elif self.mixer == "lka":
            for name in ("branches", "channel_mixing", "attention"):
                yield name, "Table 6 switches parts of MSCA and the mixer is LKA"
        if self.encoder.startswith("segformer"):
            for name in ("size", "decoder", "stages", "nmf_rank", "context", "head_norm", "nmf_gradient"):
                yield name, f"{self.encoder} has widths and a decoder of its own"
        elif self.decoder == "a":
            for name in ("nmf_rank", "context", "head_norm", "nmf_gradient"):
                yield name, "decoder (a) is SegFormer's, as released with BN, and has no context module"
        elif self.context != "ham":
            for name in ("nmf_rank", "nmf_gradient"):
                yield name, f"context {self.context} factorises nothing"

    @property
    def decoder_stages(self) -> tuple[int, ...]:
        """The encoder stages that the decoder reads, counted from 1."""
        return DECODER_STAGES[self.decoder] if self.stages is None else tuple(self.stages)

    @property
    def encoder_alone(self) -> Model:
        """The model to pretrain for this one: the same encoder, with the decoder's fields at their defaults."""
        default = Model(self.size)
        names = ("decoder", "stages", "nmf_rank", "context", "head_norm", "nmf_gradient")
        return dataclasses.replace(self, **{name: getattr(default, name) for name in names})

    @property
    def widths(self) -> Size:
        """The size, after the encoder's widths and this model's rank and drop path have replaced its defaults."""
        own = {k: getattr(self, k) for k in ("nmf_rank", "drop_path") if getattr(self, k) is not None}
        return dataclasses.replace(self._own, **own)

    def resolved(self) -> dict[str, Any]:
        """The fields as JSON-ready data, with every default of size, encoder and decoder filled in."""
        data = fields(self, skip=("stages", "nmf_rank", "drop_path"))
        return {**data, "stages": list(self.decoder_stages), **fields(self.widths)}
