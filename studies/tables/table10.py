"""Table 10: Pascal VOC. Run: `python -m studies.run table10`."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Reported, Row, Study

VOC = Panel("voc2012_test", ("miou_ms",))

STUDY = Study(
    slug="table10",
    number="Table 10",
    caption=(
        "Comparison with state-of-the-art methods on Pascal VOC dataset. * means COCO pretraining. † denotes JFT-300M "
        "pretraining. $ utilizes additional 300M unlabeled images for pretraining."
    ),
    panels=(VOC,),
    rows=(
        Reported("DANet", VOC(82.6), "ResNet101"),
        Reported("OCRNet", VOC(84.5), "HRNetV2-W48"),
        Reported("HamNet", VOC(85.9), "ResNet101"),
        Reported("EncNet*", VOC(85.9), "ResNet101"),
        Reported("EMANet*", VOC(87.7), "ResNet101"),
        Reported("DeepLabV3+*", VOC(87.8), "Xception-71"),
        Reported("DeepLabV3+ (JFT)", VOC(89.0), "Xception-JFT"),
        Reported("NAS-FPN (300M unlabeled)", VOC(90.5), "EfficientNet-L2"),
        Row("SegNeXt-T", "t", Model("T"), VOC(82.7), "MSCAN-T"),
        Row("SegNeXt-S", "s", Model("S"), VOC(85.3), "MSCAN-S"),
        Row("SegNeXt-B", "b", Model("B"), VOC(87.5), "MSCAN-B"),
        Row(
            "SegNeXt-L*",
            "l",
            Model("L"),
            VOC(90.6),
            "MSCAN-L",
            note='Sec. 4.3 says "only 48.7M parameters"; with VOC\'s 21 classes there are 48.794 M.',
            pretraining="coco_voc",
        ),
    ),
    claims=(
        Claim(
            "t10-L-nas-fpn",
            "l",
            "nas-fpn-300m-unlabeled",
            "miou_ms",
            0.1,
            "above EfficientNet-L2 w/ NAS-FPN, which has ten times its parameters (abstract)",
        ),
    ),
    notes=(
        "The mIoU is the test server's; its labels are not public. The paper does not say whether it is single- or "
        "multi-scale (taken as multi-scale), and prints no cost.",
    ),
)
