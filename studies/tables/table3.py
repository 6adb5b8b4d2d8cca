"""Table 3: MSCAN on ImageNet. Run: `python -m studies.run table3`."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Reported, Row, Study

IMAGENET = Panel("imagenet1k", ("params_m", "top1"), (224, 224))


def _close(slug: str, ours: str, van: str, difference: float) -> Claim:
    text = "the two encoders' ImageNet accuracy is close (Sec. 4.2)"
    return Claim(slug, ours, van, "top1", difference, text, kind="equivalent")


STUDY = Study(
    slug="table3",
    number="Table 3",
    caption=("Comparison with state-of-the-art methods on ImageNet validation set. 'Acc.' denotes Top-1 accuracy."),
    panels=(IMAGENET,),
    rows=(
        Reported("MiT-B0", IMAGENET(3.7, 70.5)),
        Reported("VAN-Tiny", IMAGENET(4.1, 75.4), model=Model("T", encoder="van")),
        Row("MSCAN-T", "t", Model("T"), IMAGENET(4.2, 75.9)),
        Reported("MiT-B1", IMAGENET(14.0, 78.7)),
        Reported("VAN-Small", IMAGENET(13.9, 81.1), model=Model("S", encoder="van")),
        Row("MSCAN-S", "s", Model("S"), IMAGENET(14.0, 81.2)),
        Reported("MiT-B2", IMAGENET(25.4, 81.6)),
        Reported("Swin-T", IMAGENET(28.3, 81.3)),
        Reported("ConvNeXt-T", IMAGENET(28.6, 82.1)),
        Reported("VAN-Base", IMAGENET(26.6, 82.8), model=Model("B", encoder="van")),
        Row("MSCAN-B", "b", Model("B"), IMAGENET(26.8, 83.0)),
        Reported("MiT-B3", IMAGENET(45.2, 83.1)),
        Reported("Swin-S", IMAGENET(49.6, 83.0)),
        Reported("ConvNeXt-S", IMAGENET(50.1, 83.1)),
        Reported("VAN-Large", IMAGENET(44.8, 83.9), model=Model("L", encoder="van")),
        Row(
            "MSCAN-L",
            "l",
            Model("L"),
            IMAGENET(45.2, 83.9),
            note="45.14986 M: printed as 45.2 by rounding twice (45.15, 45.2).",
        ),
    ),
    claims=(
        _close("t3-van-T", "t", "van-tiny", 0.5),
        _close("t3-van-S", "s", "van-small", 0.1),
        _close("t3-van-B", "b", "van-base", 0.2),
        _close("t3-van-L", "l", "van-large", 0.0),
        Claim("t3-convnext-T", "b", "convnext-t", "top1", 0.9, "better than ConvNeXt (Sec. 4.1)"),
        Claim("t3-convnext-S", "l", "convnext-s", "top1", 0.8, "better than ConvNeXt (Sec. 4.1)"),
        Claim("t3-swin-T", "b", "swin-t", "top1", 1.7, "outperforms Swin (Sec. 4.1)"),
        Claim("t3-mit-B2", "b", "mit-b2", "top1", 1.4, "outperforms MiT (Sec. 4.1)"),
    ),
)
