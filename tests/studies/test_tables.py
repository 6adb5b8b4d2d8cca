"""Every table is the paper's: each printed number and each claim is declared once, as printed; nothing is added."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from costs import EXPECTED, VARIANTS

from segnext.measure.cost import measure
from studies.declare.study import Claim, Panel, Reported, Row, Study
from studies.judge.verdicts import agrees
from studies.records.store import row_cost
from studies.tables import studies

READINGS = {"lka"}  # a row that the paper prints once is declared in two readings: claims of the second end so
IN_WORDS = {  # asserted in words or drawn, of no two rows of a table: declared of (better, worse, dataset, metric)
    "text-bn-ln": ("SegNeXt-T", "SegNeXt-T, LN in blocks", "ade20k", "miou_ss"),
    "text-linear-cost": ("SegNeXt-T", "SegFormer-B0", "ade20k", "gflops"),
    "text-strip": ("SegNeXt-B", "SegFormer-B2", "cityscapes", "thin_boundary_iou"),
    "text-gradcam": ("SegNeXt-T", "ConvNeXt-T with SegNeXt's decoder", "ade20k", "gradcam_inside"),
}
IN_THE_TEXT = {  # compared in the abstract, Sec. 1, Sec. 4.3 or a caption, and not among the lines of claims.csv
    "t4-T-pointflow": ("SegNeXt-T", "PointFlow", "isaid", "miou_ss", "greater"),
    "t9-S-b2-cityscapes": ("SegNeXt-S", "SegFormer-B2", "cityscapes", "miou_ss", "greater"),
    "t9-S-b2-params": ("SegFormer-B2", "SegNeXt-S", "ade20k", "params_m", "greater"),
    "t9-S-b2-city-gflops": ("SegFormer-B2", "SegNeXt-S", "cityscapes", "gflops", "greater"),
    "t10-L-nas-fpn": ("SegNeXt-L*", "NAS-FPN (300M unlabeled)", "voc2012_test", "miou_ms", "greater"),
    "t11-T-sfnet": ("SegNeXt-T", "SFNet", "cityscapes_test", "miou_ss", "greater"),
    "t12-L-hrnet": ("SegNeXt-L", "HRNet(OCR) (HRNetW48)", "pascal_context", "miou_ms", "greater"),
}
_TABLE6 = {"7×7 Br": "7", "11×11 Br": "11", "21×21 Br": "21", "1×1 Conv": "conv1x1", "Attention": "attention"}


def name(study: Study, row: Row | Reported) -> str:
    """The row as reported.csv and claims.csv call it."""
    return ",".join(_TABLE6[part] for part in row.name.split(", ")) if study.slug == "table6" else row.name


def lines(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_printed_number_is_declared_and_no_other(shared: Path):
    reported = {
        (line["table"], line["row"], line["dataset"], line["metric"]): float(line["value"])
        for line in lines(shared / "paper" / "reported.csv")
    }
    declared: dict[tuple[str, str, str, str], set[float]] = {}
    for study in studies().values():
        for row in study.rows:
            for (dataset, metric), value in row.printed.items():
                declared.setdefault((study.slug, name(study, row), dataset, metric), set()).add(value)
    assert declared == {key: {value} for key, value in reported.items()}


def test_rows_stand_in_the_papers_order(shared: Path):
    for study in studies().values():
        printed = [line["row"] for line in lines(shared / "paper" / "reported.csv") if line["table"] == study.slug]
        rows = [name(study, row) for row in study.rows if row.printed]
        assert list(dict.fromkeys(rows)) == list(dict.fromkeys(printed)), study.slug


def test_every_claim_is_declared_as_printed(shared: Path):
    declared: dict[str, tuple[str, ...]] = {}
    for study in studies().values():
        names = {row.slug: name(study, row) for row in study.rows}
        for claim in study.claims:
            dataset = study.panel(claim.dataset).dataset
            declared[claim.slug] = (names[claim.better], names[claim.worse], dataset, claim.metric, claim.kind)
    expected = {}
    for line in lines(shared / "paper" / "claims.csv"):
        better, worse = line["better"], line["worse"]
        dataset, metric = line["dataset"], line["metric"]
        better, worse, dataset, metric = IN_WORDS.get(line["id"], (better, worse, dataset, metric))
        if line["kind"] == "at least":
            worse = better  # its own printed value
        expected[line["id"]] = (better, worse, dataset, metric, line["kind"])
    linear = expected["text-linear-cost"]
    expected["text-linear-cost-nl"] = (linear[0], "SegNeXt-T w/ NL", *linear[2:])  # self-attention in the same network
    for reading in READINGS:
        both = {slug: declared[slug] for slug in declared if slug.endswith(f"-{reading}")}
        assert both == {slug: declared[slug.removesuffix(f"-{reading}")] for slug in both}
        declared = {slug: claim for slug, claim in declared.items() if slug not in both}
    assert declared == expected | IN_THE_TEXT


def test_every_printed_difference_is_the_claims(shared: Path):
    printed = {line["id"]: line["printed_difference"] for line in lines(shared / "paper" / "claims.csv")}
    for study, claim in all_claims():
        if claim.slug not in IN_THE_TEXT:
            expected = printed[re.sub(r"-(lka|nl)$", "", claim.slug)]
            assert claim.printed == (float(expected) if expected else None), claim.slug
        rows = {row.slug: row for row in study.rows}
        panel = study.panel(claim.dataset)
        values = [rows[slug].prints(panel, claim.metric) for slug in (claim.better, claim.worse)]
        if claim.printed is not None:
            assert claim.printed == pytest.approx(values[0] - values[1]), claim.slug


def all_claims() -> list[tuple[Study, Claim]]:
    return [(study, claim) for study in studies().values() for claim in study.claims]


def test_claims_have_names_of_their_own_and_one_measured_side():
    slugs = [claim.slug for _, claim in all_claims()]
    assert len(set(slugs)) == len(slugs)
    for study, claim in all_claims():
        assert {claim.better, claim.worse} & {row.slug for row in study.trained}, claim.slug


@pytest.mark.parametrize("slug", [slug for slug in studies() if "table" in slug])
def test_captions_are_the_papers(slug: str, shared: Path):
    def plain(text: str) -> str:
        text = re.sub(r"\[(?!24\])[^\]]*\]|\$\^?\{?|\}|\\times|[^\w\s]", lambda m: "×" if "times" in m[0] else "", text)
        return re.sub(r"[\s×]+", "", text)

    paper = plain((shared / "paper" / "segnext.txt").read_text())
    sentences = re.split(r"(?<=[a-z\])0-9])\. ", studies()[slug].caption)
    assert [sentence for sentence in sentences if plain(sentence) not in paper] == []


def size(slug: str) -> str:
    return slug[0].upper()


# Which line of costs.csv the declared row is, by study/row and dataset: what architectures.md says.
COSTS = {
    **{(f"{table}/{s}", "ade20k"): f"seg/{size(s)}/ade150" for table in ("table2", "table9") for s in "tsbl"},
    **{(f"table3/{s}", "imagenet1k"): f"cls/MSCAN-{size(s)}/1000@224" for s in "tsbl"},
    ("table5/cc", "ade20k"): "t5/B/cc_r2",
    ("table5/ema", "ade20k"): "t5/B/ema_k64_s3",
    ("table5/nl", "ade20k"): "t5/B/nl_red2",
    ("table5/ham", "ade20k"): "seg/B/ade150",
    **{
        (f"table6/{row}", dataset): variant
        for row, name in {
            "7x7": "7",
            "11x11": "11",
            "21x21": "21",
            "no-1x1": "no1x1",
            "no-attention": "noatt",
            "full": "full",
        }.items()
        for dataset, variant in (("imagenet1k", f"t6/cls-T/{name}@224"), ("ade20k", f"t6/seg-T/{name}"))
    },
    ("table7/a", "ade20k"): "t7/T/a_mmseg_SegformerHead256",
    ("table7/b", "ade20k"): "t7/T/b_ham_stage4",
    ("table7/c", "ade20k"): "seg/T/ade150",
    ("table7/c-stage1", "ade20k"): "t7/T/c+stage1",
    **{(f"table8/{s}-lka", "ade20k"): f"t8/{size(s)}/MSCAN_with_LKA" for s in "ts"},
    ("table8/t-van", "ade20k"): "t8/T/VAN+LightHam",
    ("table8/s-van", "ade20k"): "t8/S/VAN+LightHam_R32",
    **{(f"table8/{s}", "ade20k"): f"seg/{size(s)}/ade150" for s in "ts"},
    **{(f"table9/{s}", "cityscapes"): f"seg/{size(s)}/city19@1024x2048" for s in "tsbl"},
    **{(f"table9/{s}", "coco_stuff164k"): f"seg/{size(s)}/coco171" for s in "tsbl"},
    **{(f"table12/{s}", "pascal_context"): f"seg/{size(s)}/ctx59" for s in ("t", "s", "b", "l", "l-ade20k")},
    **{(f"appendix_table2/{s}-msca", "coco_stuff164k"): f"a2/{size(s)}/msca_head_nc171" for s in "tsbl"},
    **{(f"appendix_table2/{s}-ham", "coco_stuff164k"): f"seg/{size(s)}/coco171" for s in "tsbl"},
    ("normalisation/t", "ade20k"): "seg/T/ade150",
}
# Peers that are costed and are not in costs.csv, measured here: (parameters, G). SegFormer by transformers 5.23.
PEERS = {
    ("table3/van-tiny", "imagenet1k"): (4_105_800, 0.8678),
    ("table3/van-small", "imagenet1k"): (13_861_800, 2.5006),
    ("table3/van-base", "imagenet1k"): (26_578_472, 5.0022),
    ("table3/van-large", "imagenet1k"): (44_765_608, 8.9404),
    ("table9/segformer-b0", "ade20k"): (3_752_694, 8.6389),
    ("table9/segformer-b1", "ade20k"): (13_715_798, 16.1354),
    ("table9/segformer-b2", "ade20k"): (27_461_974, 62.7594),
    ("table9/segformer-b3", "ade20k"): (47_337_814, 79.4091),
    ("table9/segformer-b0", "cityscapes"): (3_719_027, 122.7772),
    ("table9/segformer-b1", "cityscapes"): (13_682_131, 240.9995),
    ("table9/segformer-b2", "cityscapes"): (27_361_235, 707.4618),
    ("table9/segformer-b3", "cityscapes"): (47_237_075, 954.2835),
    ("table9/segformer-b0", "coco_stuff164k"): (3_758_091, 8.7490),
    ("table9/segformer-b1", "coco_stuff164k"): (13_721_195, 16.2455),
    ("table9/segformer-b2", "coco_stuff164k"): (27_478_123, 63.0456),
    ("table9/segformer-b3", "coco_stuff164k"): (47_353_963, 79.6954),
}
UNPRINTED = {"isaid", "voc2012_test", "cityscapes_test"}  # no cost is printed on these, and costs.csv has none


def costed() -> dict[tuple[str, str], tuple[Panel, Row | Reported]]:
    """Every declared cost that is measured."""
    return {
        (f"{study.slug}/{row.slug}", panel.dataset): (panel, row)
        for study in studies().values()
        for panel in study.panels
        for row in study.rows
        if row.model is not None
    }


def test_every_row_that_is_costed_has_an_expected_cost():
    expected = COSTS.keys() | PEERS.keys()
    assert {key for key, (panel, row) in costed().items() if row.printed and panel.dataset not in UNPRINTED} <= expected
    assert expected <= costed().keys()


@pytest.mark.parametrize(("key", "variant"), COSTS.items(), ids=str)
def test_every_row_is_costed_as_the_architecture_that_reproduces_it(key: tuple[str, str], variant: str):
    """tests/segnext/test_cost.py measures the variants: integer parameters and G of the paper's convention."""
    assert row_cost(*costed()[key]) == VARIANTS[variant]


@pytest.mark.parametrize("key", [("table3/van-tiny", "imagenet1k"), ("table9/segformer-b0", "ade20k")], ids=str)
def test_peers_are_costed_as_expected(key: tuple[str, str]):
    if "segformer" in key[0]:
        pytest.importorskip("transformers", reason="SegFormer is an extra: pip install 'segnext-study[segformer]'")
    measured = measure(row_cost(*costed()[key]))
    assert (measured.params, measured.gmacs) == (PEERS[key][0], pytest.approx(PEERS[key][1], abs=5e-5))


def test_every_cost_that_differs_has_a_reason_and_every_reason_a_difference():
    measured = {
        key: {
            "params_m": int(EXPECTED[variant]["trainable_params"]) / 1e6,
            "gflops": float(EXPECTED[variant]["gmacs_paper_convention"]),
        }
        for key, variant in COSTS.items()
    }
    measured |= {key: {"params_m": params / 1e6, "gflops": gmacs} for key, (params, gmacs) in PEERS.items()}
    differing, reasons = set(), set()
    for key, (panel, row) in costed().items():
        reasons |= {(key, metric) for dataset, metric in row.why if dataset == panel.dataset}
        for metric, value in measured.get(key, {}).items():
            printed = row.prints(panel, metric)
            if printed is not None and not agrees(value, printed):
                differing.add((key, metric))
    assert differing == reasons
