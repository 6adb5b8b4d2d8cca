"""Fig. 1 and the qualitative comparisons: ConvNeXt instead of MSCAN, with the same decoder. No table of the paper."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Row, Study

ADE = Panel("ade20k")

STUDY = Study(
    slug="convnext",
    number="ConvNeXt as encoder",
    caption="MSCAN against ConvNeXt under SegNeXt's decoder: one decoder (256 channels, rank 16), three encoders.",
    panels=(ADE,),
    rows=(
        Row("SegNeXt-T", "t", Model("T"), {}, "MSCAN-T"),
        Row("SegNeXt-S", "s", Model("S"), {}, "MSCAN-S"),
        Row("ConvNeXt-T with SegNeXt's decoder", "convnext-t", Model("T", encoder="convnext_tiny"), {}),
    ),
    claims=(
        Claim(
            "text-gradcam",
            "t",
            "convnext-t",
            "gradcam_inside",
            None,
            "MSCAN finds large and several objects better than ConvNeXt (appendix Fig. 2; no number printed)",
        ),
    ),
    notes=(
        "The paper holds its Grad-CAM maps (appendix Fig. 2) and its classification (Table 3) against ConvNeXt's; it "
        "prints no segmentation accuracy of it. The encoder is torchvision's ConvNeXt-T, untrained, with a LayerNorm "
        "on each output as in ConvNeXt's own segmentation code.",
    ),
)
