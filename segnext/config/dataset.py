"""`Data` and `ClassificationData`: a dataset, and how its images reach the model."""

from __future__ import annotations

from dataclasses import dataclass

from segnext.config.fields import later, require


@dataclass(frozen=True)
class Data:
    """A dataset and how its images reach the model. Sizes are (height, width) in pixels, but for `scale`."""

    dataset: str
    classes: int
    scale: tuple[int, int]  # (long edge, short edge) that an image is fitted into, keeping its ratio, before `ratio`
    crop: tuple[int, int]
    train_split: str = "train"
    test_split: str = "val"
    ratio: tuple[float, float] = (0.5, 2.0)  # Paper: Sec. 4, "random scaling (from 0.5 to 2)"
    cat_max_ratio: float = 0.75  # Official code: RandomCrop(cat_max_ratio=0.75)
    flip: float = 0.5  # Paper: Sec. 4, random horizontal flipping
    photometric: bool = True  # Official code: PhotoMetricDistortion in every pipeline; not in the paper
    test_scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # Official code: MS, each also flipped
    test_multiple: int = 32  # Official code: ResizeToMultiple(32) in the test pipeline
    generator: str = ""  # version of the generator, for generated datasets
    window: tuple[int, int] | None = later(None, frozen=None)  # tested in windows of this size; None: whole images
    stride: tuple[int, int] | None = later(None, frozen=None)  # from one window to the next

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
    """A dataset of images with one class each, and how they reach the model: ImageNet-1K as VAN's code has it.

    The authors pretrained as VAN (issue 33), the paper says "same as DeiT"; where the two differ (datasets.md, 3.1) the
    defaults are VAN's. Sizes are in pixels.
    """

    dataset: str = "imagenet1k"
    classes: int = 1000
    crop: tuple[int, int] = (224, 224)
    train_split: str = "train"
    test_split: str = "val"
    area: tuple[float, float] = (0.08, 1.0)  # VAN: RandomResizedCrop, part of the image's area
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    interpolations: tuple[str, ...] = ("bilinear", "bicubic")  # VAN: one at random; DeiT: bicubic
    flip: float = 0.5
    rand_augment: tuple[float, float] = (9.0, 0.5)  # VAN and DeiT: rand-m9-mstd0.5-inc1: magnitude and its deviation
    erasing: float = 0.25  # VAN and DeiT: probability of random erasing, filled with normal noise
    test_resize: int = 248  # VAN: the short edge, bicubic, before the centre crop; DeiT: 256
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # VAN: timm's default of its ViT; DeiT: ImageNet's
    deviation: tuple[float, float, float] = (0.5, 0.5, 0.5)
