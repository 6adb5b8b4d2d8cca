"""Table 1: O(n) against O(n²). Run: `python -m studies.run table1 --threads 2`; `--only cost` skips the timing."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Row, Study

ADE = Panel("ade20k", ("params_m", "gflops"))

_LINEAR = "cost is O(n) for SegNeXt, O(n²) for self-attention (Table 1, Sec. 4.3)"

STUDY = Study(
    slug="table1",
    number="Table 1",
    caption=(
        "Properties we observe from the successful semantic segmentation methods that are beneficial to the boost of "
        "model performance. Here, n refers to the number of pixels or tokens. Strong encoder denotes strong backbones, "
        "like ViT [17] and VAN [24]."
    ),
    panels=(ADE,),
    rows=(
        Row("SegNeXt-T", "t", Model("T"), {}),
        Row(
            "SegNeXt-T w/ NL",
            "nl",
            Model("T", context="nl"),
            {},
            note="Table 5's non-local block in Ham's place, on T: the same network but for its head's n × n matrix.",
        ),
        Row("SegFormer-B0", "segformer-b0", Model(encoder="segformer_b0"), {}),
    ),
    claims=(
        Claim("text-linear-cost", "t", "segformer-b0", "gflops", None, _LINEAR, kind="slope"),
        Claim("text-linear-cost-nl", "t", "nl", "gflops", None, _LINEAR, kind="slope"),
    ),
    notes=(
        "The paper prints the row “Computational complexity” and no number. How cost grows does not depend on the size "
        "of the network, so the smallest of each family stand here, neighbours in Table 9 (4.3 M and 3.8 M): their "
        "largest images still fit an ordinary machine.",
    ),
    squares=(256, 384, 512, 768, 1024, 1536, 2048),
)
