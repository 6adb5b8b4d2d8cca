"""The grammar of studies: panels, recipes, ids that stand, and what a protocol trains of a table."""

from __future__ import annotations

import dataclasses
import json

import pytest
from conftest import FIXTURES
from records import run_record

from segnext.config import Model, Run
from studies.declare.protocols import PROTOCOLS, Recipe
from studies.declare.study import DATASETS, Claim, Panel, Reported, Row, Study, claims
from studies.plan.runs import Selection, plan
from studies.records.schema import Metrics
from studies.records.store import Store
from studies.tables import studies, study

RUN_IDS = json.loads((FIXTURES / "run_ids.json").read_text())
ADE = Panel("ade20k", ("params_m", "miou_ss"))
CITYSCAPES = Panel("cityscapes", ("gflops", "miou_ss"), (1024, 2048))
IMAGENET = Panel("imagenet1k", ("top1",), (224, 224))
T = Row("T", "t", Model("T"), ADE(4.3, 41.1) | CITYSCAPES(None, 79.8), also={"Table 8": ADE(None, 41.0)})
S = Row("S", "s", Model("S"), ADE(13.9, None))
PEER = Reported("Peer (Swin-T)", ADE(42, 46.7))
EXAMPLE = Study("example", "Table 0", "", (IMAGENET, ADE, CITYSCAPES), (T, S, PEER))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_declared_runs_keep_their_ids(name: str):
    """A changed default or recipe shows here; where results exist, it needs a new version of the protocol.

    Written by `PYTHONPATH=.:tests python tests/studies/test_study.py` after a change that was meant.
    """
    assert run_ids(name) == RUN_IDS[name]


def run_ids(name: str) -> dict[str, str]:
    """Every run of seed 0 that a protocol declares, by row and dataset."""
    return {
        f"{declared.slug}/{row.slug} {panel.key}": PROTOCOLS[name].run(panel, row, 0).id
        for declared in studies().values()
        for panel in PROTOCOLS[name].panels(declared)
        for row in filter(panel.trains, declared.trained)
    }


def test_a_panel_keeps_printed_numbers_in_their_places_and_blanks_out():
    assert T.printed == {("ade20k", "params_m"): 4.3, ("ade20k", "miou_ss"): 41.1, ("cityscapes", "miou_ss"): 79.8}
    assert T.prints(CITYSCAPES, "gflops") is None
    with pytest.raises(ValueError, match="shorter"):
        ADE(4.3)


def test_the_papers_own_values_show_side_by_side_and_widen_the_tolerance():
    assert T.elsewhere(ADE, "miou_ss") == {"Table 8": 41.0}
    assert T.spread(ADE, "miou_ss") == pytest.approx(0.1)
    assert T.elsewhere(CITYSCAPES, "miou_ss") == {}
    assert T.spread(CITYSCAPES, "miou_ss") == 0.0
    assert S.spread(ADE, "miou_ss") == 0.0


def test_claims_on_several_columns_take_their_differences_as_rows_take_numbers():
    found = claims("x", "t", "s", "T above S", ADE(None, 1.5) | CITYSCAPES(-2.0, None), kind="equivalent")
    assert found == [
        Claim("x-miou_ss", "t", "s", "miou_ss", 1.5, "T above S", "equivalent", "ade20k"),
        Claim("x-gflops", "t", "s", "gflops", -2.0, "T above S", "equivalent", "cityscapes"),
    ]


def test_a_quoted_rows_slug_is_its_name():
    assert PEER.slug == "peer-swin-t"


@pytest.mark.parametrize(
    "change",
    [
        {"claims": (Claim("c", "t", "nobody", "miou_ss", 1.0, "", dataset="ade20k"),)},
        {"claims": (Claim("c", "t", "s", "miou_ms", 1.0, "", dataset="ade20k"),)},
        {"rows": (T, dataclasses.replace(S, slug="t"))},
        {"panels": (IMAGENET, ADE)},
    ],
)
def test_a_slip_in_a_declaration_is_found_at_once(change: dict):
    with pytest.raises(AssertionError, match="example"):
        dataclasses.replace(EXAMPLE, **change)


def test_the_papers_protocol_trains_every_panel_that_it_has_a_recipe_for():
    paper = PROTOCOLS["paper"]
    assert paper.panels(EXAMPLE) == [IMAGENET, ADE, CITYSCAPES]
    released = PROTOCOLS["paper-pretrained"]
    assert released.panels(EXAMPLE) == [ADE, CITYSCAPES]
    assert released.left_out(EXAMPLE) == ["example on imagenet1k: protocol paper-pretrained has no recipe for it"]
    costs_alone = dataclasses.replace(EXAMPLE, panels=(Panel("ade20k", ("params_m",)),), rows=())
    assert paper.panels(costs_alone) == []
    assert "costs alone" in paper.left_out(costs_alone)[0]


def test_one_dataset_stands_in_for_the_first_panel_of_segmentation_alone():
    assert PROTOCOLS["camvid"].panels(EXAMPLE) == [ADE]
    (classification, others) = PROTOCOLS["camvid"].left_out(EXAMPLE)
    assert "segmentation alone" in classification
    assert others.startswith("example on cityscapes")


def test_rows_that_a_protocol_cannot_tell_apart_are_not_trained():
    assert PROTOCOLS["quick"].panels(EXAMPLE) == []  # T and S would both be the micro model
    ablation = dataclasses.replace(EXAMPLE, rows=(T, dataclasses.replace(S, model=Model("T", attention=False))))
    assert PROTOCOLS["quick"].panels(ablation) == [ADE]


def test_an_encoder_that_cannot_be_shrunk_is_left_out_by_name():
    convnext = study("convnext")
    assert PROTOCOLS["quick"].panels(convnext) == []
    assert "no micro encoder is there for ConvNeXt-T" in PROTOCOLS["quick"].left_out(convnext)[0]
    assert [PROTOCOLS[name].panels(convnext) for name in ("paper", "camvid", "camvid-half")] == [[convnext.panel()]] * 3


def test_squares_ascend_and_a_slope_is_claimed_over_them():
    slope = Claim("c", "t", "s", "params_m", None, "", kind="slope", dataset="ade20k")
    assert dataclasses.replace(EXAMPLE, claims=(slope,), squares=(64, 96)).squares == (64, 96)
    for change in ({"claims": (slope,)}, {"squares": (96, 64)}):
        with pytest.raises(AssertionError, match="example"):
            dataclasses.replace(EXAMPLE, **change)


def test_a_row_with_a_pretraining_of_its_own_starts_from_that_run():
    context = Panel("pascal_context", ("miou_ss",))
    row = Row("L", "l", Model("L"), context(59.2), pretraining="ade20k")
    run = PROTOCOLS["paper"].run(context, row, 2)
    assert isinstance(run.init, Run)
    assert run.init == PROTOCOLS["paper"].run(ADE, row.__class__("L", "l", Model("L"), {}), 0)  # Table 9's, seed 0
    assert isinstance(run.init.init, Run)
    assert run.init.init.data.dataset == "imagenet1k"
    assert run.id != PROTOCOLS["paper"].run(context, dataclasses.replace(row, pretraining=""), 2).id


def test_recipes_name_what_exists_and_agree_with_their_panels():
    for protocol in PROTOCOLS.values():
        for recipe in protocol.recipes.values():
            assert isinstance(recipe, Recipe)
            assert recipe.after == "" or recipe.after in protocol.recipes
    for name, recipe in PROTOCOLS["paper"].recipes.items():
        dataset = name.split(" after ")[0]
        assert dataset not in DATASETS or recipe.data.classes == DATASETS[dataset][1]


def test_every_declared_run_can_be_planned_and_equal_ones_are_one():
    for protocol in PROTOCOLS.values():
        selections = [Selection(s, tuple(s.trained), protocol.seeds) for s in studies().values()]
        runs = plan(selections, protocol, None, Store())
        assert len({planned.run.id for planned in runs}) == len(runs)
        assert {planned.run.model.size for planned in runs if protocol.size} <= {
            protocol.size,
            "microscope",
            "microscope-wide",
        }


def test_a_row_that_is_shorter_by_its_own_recipe_is_not_a_cut_run():
    """VOC: SegNeXt-L* trains 40k iterations after COCO, the other rows 80k after trainaug."""
    paper = PROTOCOLS["paper"]
    voc = Panel("voc2012_test", ("miou_ms",))
    star = Row("L*", "l", Model("L"), {}, pretraining="coco_voc")
    example = Study("example", "Table 0", "", (voc,), (Row("T", "t", Model("T"), {}), star))
    store = Store()
    run = paper.run(voc, star, 1)
    store.add(run_record(run, Metrics()))
    assert {(view.protocol.name, view.iterations) for view in store.views(example)} == {("paper", 80_000)}


if __name__ == "__main__":
    text = json.dumps({name: run_ids(name) for name in PROTOCOLS}, indent=1)
    (FIXTURES / "run_ids.json").write_text(text + "\n")
