"""`Data` and `ClassificationData`: a dataset, its preprocessing and how it is tested."""

from __future__ import annotations

from dataclasses import dataclass

from segnext.config.fields import chosen, later, needed, official, ours, paper, require, van


@dataclass(frozen=True)
class Data:
    """A segmentation dataset, its preprocessing and how it is tested (Sec. 4, appendix Table 1).

    Sizes are (height, width) in pixels, except `scale`. Raises `ValueError` if `window` and `stride` do not fit.
    """

    dataset: str = needed(paper("Sec. 4"))
    classes: int = needed(paper("Sec. 4"))
    # (long edge, short edge): the image is resized to fit within it, keeping its aspect ratio, before random scaling
    scale: tuple[int, int] = needed(official())
    crop: tuple[int, int] = needed(paper("appendix Table 1"))
    train_split: str = chosen("train", paper("appendix Table 1 (VOC)"), ours("else the usual one"))
    test_split: str = chosen("val", paper("Tables 4 to 12"), ours("val where they do not say"))
    ratio: tuple[float, float] = chosen((0.5, 2.0), paper('Sec. 4, "random scaling (from 0.5 to 2)"'))
    cat_max_ratio: float = chosen(0.75, official("RandomCrop"))
    flip: float = chosen(0.5, paper("Sec. 4"), official("0.5"))
    photometric: bool = chosen(True, official("PhotoMetricDistortion", "not in the paper"))
    test_scales: tuple[float, ...] = chosen((0.5, 0.75, 1.0, 1.25, 1.5, 1.75), official())
    test_multiple: int = chosen(32, official("ResizeToMultiple"))
    generator: str = chosen("", ours("of data that is generated"))  # version of the generator; "" for photographs
    # Size of the sliding window in testing; None: whole images.
    window: tuple[int, int] | None = later(None, official(), frozen=None)
    stride: tuple[int, int] | None = later(None, official(), frozen=None)  # step between windows

    def __post_init__(self) -> None:
        require(
            (self.window is None) == (self.stride is None),
            f"Data.stride: {self.stride} with Data.window {self.window}; windows need both, whole images neither",
        )
        require(
            all(0 < step <= side for side, step in zip(self.window or (), self.stride or (), strict=True)),
            f"Data.stride: {self.stride} with windows of {self.window}; it must lie between 1 and the window",
        )


@dataclass(frozen=True)
class ClassificationData:
    """A dataset of images with one class each, and its preprocessing: ImageNet-1K as in VAN's code.

    The authors pretrained with VAN's code (issue 33); the paper says "same as DeiT". Where the two differ (datasets.md,
    3.1), the defaults are VAN's. Sizes are in pixels.
    """

    dataset: str = chosen("imagenet1k", paper("Sec. 4"))
    classes: int = chosen(1000, paper("Sec. 4"))
    crop: tuple[int, int] = chosen((224, 224), van(other="DeiT: the same"))
    train_split: str = chosen("train", paper("Sec. 4"))
    test_split: str = chosen("val", paper("Table 3"))
    area: tuple[float, float] = chosen((0.08, 1.0), van(other="DeiT: the same"))
    aspect: tuple[float, float] = chosen((3 / 4, 4 / 3), van(other="DeiT: the same"))
    interpolations: tuple[str, ...] = chosen(("bilinear", "bicubic"), van(other="DeiT: bicubic"))  # drawn per image
    flip: float = chosen(0.5, van(other="DeiT: the same"))
    rand_augment: tuple[float, float] = chosen((9.0, 0.5), van("rand-m9-mstd0.5-inc1", "DeiT: the same"))
    erasing: float = chosen(0.25, van("filled with normal noise", "DeiT: the same"))
    test_resize: int = chosen(248, van("bicubic", "DeiT: 256"))
    mean: tuple[float, float, float] = chosen((0.5, 0.5, 0.5), van("timm's default of its ViT", "DeiT: ImageNet's"))
    deviation: tuple[float, float, float] = chosen((0.5, 0.5, 0.5), van(other="DeiT: ImageNet's"))
