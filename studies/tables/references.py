"""Controls on the generated strips: other networks than SegNeXt, and numbers of parameters. No table of the paper."""

from segnext.config import Model
from studies.declare.study import Row, Study
from studies.declare.subtasks import at_rates, below, controls, equal, micro, subtask

_SEEN = "with pixels alone it cannot tell its own strip's mark from another's"
_WIDTH = "width does not replace reach"


def _one_block(size: str, branches: tuple[int, ...], context: str) -> Model:
    return Model(size, branches=branches, context=context, stages=(1,), head_norm="bn")


STUDY = Study(
    slug="references",
    number="References (generated data)",
    caption=(
        "Controls of the diagnostic data set: a task that MSCA alone could solve would say little, and a row with "
        "fewer branches also has fewer parameters."
    ),
    panels=(),
    rows=(
        Row("All branches", "full", _one_block("microscope", (7, 11, 21), "none"), {}, "the full row of Table 6"),
        Row("7×7 branch alone", "7x7-wide", _one_block("microscope-wide", (7,), "none"), {}, "as many parameters"),
        Row("11×11 branch alone", "11x11-wide", _one_block("microscope-wide", (11,), "none"), {}, "as many parameters"),
        Row("Self-attention", "self-attention", _one_block("microscope", (), "nl"), {}, "non-local, without positions"),
        Row(
            "Plain pyramid",
            "pyramid",
            Model("micro", branches=(), attention=False, decoder="a"),
            {},
            "MSCAN without strips and product, every stage to the decoder, as U-Net has it",
        ),
    ),
    notes=("The rows are micro models: 15 to 16 thousand parameters, the pyramid 202 thousand.",),
    subtasks=micro(
        {},
        quick=(
            subtask(
                "strips",
                below("7x7-wide", "full", _WIDTH, (32, 60)),
                equal("7x7-wide", "full", "the mark is near", (1, 16)),
                below("11x11-wide", "full", _WIDTH, (40, 60)),
                equal("11x11-wide", "full", "the mark is near", (1, 32)),
                below("self-attention", "full", _SEEN, (24, 60)),
                equal("pyramid", "full", "its last stages see the whole image", (1, 60)),
            ),
        ),
        quick_full=(
            # Table 6 trains the full row without the cue.
            *controls("strips", ("7x7-wide", "11x11-wide", "self-attention", "pyramid"), "full"),
            *at_rates(
                "strips",
                below("7x7-wide", "full", distances=(32, 60)),
                below("11x11-wide", "full", distances=(40, 60)),
                below("self-attention", "full", distances=(24, 60)),
                equal("pyramid", "full", distances=(1, 60)),
            ),
        ),
    ),
)
