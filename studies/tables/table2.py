"""Table 2: the four sizes. Nothing is trained: `python -m studies.run table2 --only cost`."""

from segnext.config import Model
from studies.declare.study import Panel, Row, Study

ADE = Panel("ade20k", ("params_m",))

STUDY = Study(
    slug="table2",
    number="Table 2",
    caption=(
        "Detailed settings of different sizes of the proposed SegNeXt. In this table, 'e.r.' represents the expansion "
        "ratio in the feed-forward network. 'C' and 'L' are the numbers of channels and building blocks, respectively. "
        "'Decoder dimension' denotes the MLP dimension in the decoder. 'Parameters' are calculated on the ADE20K "
        "dataset. Due to the different numbers of the categories in different datasets, the number of parameters may "
        "change slightly."
    ),
    panels=(ADE,),
    rows=(
        Row("SegNeXt-T", "t", Model("T"), ADE(4.3)),
        Row("SegNeXt-S", "s", Model("S"), ADE(13.9)),
        Row("SegNeXt-B", "b", Model("B"), ADE(27.6)),
        Row("SegNeXt-L", "l", Model("L"), ADE(48.9)),
    ),
    notes=("The settings themselves: SIZES in segnext/config/architecture.py.",),
)
