"""Parameters and FLOPs of Table 7's rows are those of the released code, under both conventions."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from segnext import Cost, Model
from segnext.cost import measure

# Measured on the released code: paper's convention (torchprofile 0.0.4), fvcore's own (shared/paper/costs.csv).
TABLE7 = [
    (Model("T", decoder="a"), "t7/T/a_mmseg_SegformerHead256", 4_337_910, 10.0745, 10.0870),
    (Model("T", decoder="b"), "t7/T/b_ham_stage4", 4_206_070, 4.9107, 4.9142),
    (Model("T"), "seg/T/ade150", 4_263_414, 6.5929, 6.6077),
    (Model("T", stages=(1, 2, 3, 4)), "t7/T/c+stage1", 4_271_606, 12.0646, 12.1153),
]


@pytest.mark.parametrize(("model", "variant", "params", "gmacs", "gmacs_fvcore"), TABLE7, ids=lambda v: str(v)[:20])
def test_costs_equal_the_released_code(model: Model, variant: str, params: int, gmacs: float, gmacs_fvcore: float):
    measured = measure(Cost(model, 150, 512, 512))
    assert measured.params == params
    assert measured.gmacs == pytest.approx(gmacs, abs=5e-5)
    assert measured.gmacs_fvcore == pytest.approx(gmacs_fvcore, abs=5e-5)


def test_the_expected_costs_are_those_measured_on_the_release(shared: Path):
    with open(shared / "paper" / "costs.csv") as file:
        released = {line["variant"]: line for line in csv.DictReader(file)}
    for _, variant, params, gmacs, gmacs_fvcore in TABLE7:
        line = released[variant]
        assert int(line["trainable_params"]) == params
        assert float(line["gmacs_paper_convention"]) == gmacs
        assert float(line["gmacs_fvcore"]) == gmacs_fvcore


def test_the_product_costs_only_under_the_papers_convention():
    """fvcore cannot see "no attention" of Table 6; the paper's tool counts one per output element."""
    full, without = (measure(Cost(Model("micro", attention=a), 150, 64, 64)) for a in (True, False))
    assert full.gmacs_fvcore == without.gmacs_fvcore
    product = sum(depth * c * s * s for depth, c, s in zip((1, 1, 2, 1), (16, 32, 48, 64), (16, 8, 4, 2), strict=True))
    assert full.gmacs - without.gmacs == pytest.approx(product / 1e9)
