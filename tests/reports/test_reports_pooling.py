"""Runs of different precision, torch or data are never pooled without a mark, in whatever is made of them."""

from __future__ import annotations

import re

import pytest
from PIL import Image
from records import DATA, add_evaluation, add_run
from reporting import lines_of, render, whole

from segnext.config import Evaluation
from segnext.data import open_split
from studies import tables
from studies.declare.protocols import PROTOCOLS
from studies.judge import pooling
from studies.launch import work
from studies.records.store import Store
from studies.tables.table7 import STUDY

TORCH = {"packages": {"torch": "2.12.0"}}
IMAGES = {"data": {**DATA, "test_fingerprint": "d00d"}}
BYTES = [{"data": {**DATA, "test_contents": contents}} for contents in ("abcd", "dcba")]
MIXTURES = [
    ({"precision": "bfloat16"}, "float32 and bfloat16 together"),
    (TORCH, "torch 2.11.0 and 2.12.0 together"),
    (IMAGES, "diagnostic/scene val images of fingerprints beef and d00d together"),
    ({"precision": "tf32", **TORCH}, "float32 and tf32 together; torch 2.11.0 and 2.12.0 together"),
]


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    return Store(tmp_path / "results")


def run(store: Store, row: str, seed: int, protocol: str = "quick", **provenance: object) -> str:
    return add_run(store, STUDY, STUDY.row(row), protocol, seed, 40.0 + seed + 9 * (row == "c"), **provenance)


@pytest.mark.parametrize(("apart", "words"), MIXTURES)
def test_a_mean_over_a_mixture_and_every_claim_on_it_carry_its_mark(store, tmp_path, apart, words):
    for seed in range(3):
        run(store, "b", seed)
        run(store, "c", seed, **(apart if seed == 2 else {}))
    files = render(tmp_path / "out", "table7")
    cells = {(line["row"], line["protocol"]): line for line in lines_of(files, "table7.csv")}
    assert cells["c", "quick"]["miou_ss_mixed"] == words
    assert cells["b", "quick"]["miou_ss_mixed"] == ""
    claims = {(line["claim"], line["protocol"]): line["mixed"] for line in lines_of(files, "table7-claims.csv")}
    assert claims["t7-c-b-miou_ss", "quick"] == words
    for name in ("summary/table7.md", "table7.tex", "table7.html", "claims.html", "summary/claims.md", "claims.tex"):
        assert words.replace("_", r"\_") in files[name].decode(), name
    rows = files["summary/table7.md"].decode().splitlines()
    (mean,) = (line for line in rows if line.startswith("| SegNeXt-T (c) |") and "50.00 ± " in line)
    assert "(3) †1 " in mean
    (claim,) = (line for line in rows if "decoder (c) above (b)" in line and "(SS) |" in line and "here too" in line)
    assert claim.endswith("+ here too †1 |")
    assert "quick-note-1" in whole(files)
    assert r"\textsuperscript{1}" in files["table7.tex"].decode()


def test_seeds_on_camvid_at_two_sizes_carry_the_mark(store, tmp_path):
    """480x360 and 960x720, as they lie on disk: real folders, and what a worker writes of them."""
    data = PROTOCOLS["camvid"].run(STUDY.panel(), STUDY.row("c"), 0).data
    for seed, size in enumerate(((480, 360), (960, 720))):
        root = tmp_path / str(seed)
        for split in ("train", "val", "test"):
            for folder, mode in ((split, "RGB"), (f"{split}annot", "L")):
                (root / folder).mkdir(parents=True)
                Image.new(mode, size).save(root / folder / "frame.png")
            (root / f"{split}.txt").write_text("frame.png\n")
        facts = (work._data_facts(use, open_split(data, use, root)) for use in ("train", "test"))
        run(store, "c", seed, "camvid", data={key: value for each in facts for key, value in each.items()})
    lines = lines_of(render(tmp_path / "out", "table7"), "table7.csv")
    (mixed,) = (line["miou_ss_mixed"] for line in lines if (line["row"], line["protocol"]) == ("c", "camvid"))
    assert re.fullmatch(
        "camvid train images of fingerprints .{12} and .{12} together; "
        "camvid test images of fingerprints .{12} and .{12} together",
        mixed,
    )


def test_rows_that_differ_leave_their_means_alone_and_mark_the_claim_between_them(store, tmp_path):
    for seed in range(3):
        run(store, "b", seed, precision="bfloat16")
        run(store, "c", seed, precision="float32")
    files = render(tmp_path / "out", "table7")
    cells = {line["row"]: line for line in lines_of(files, "table7.csv") if line["protocol"] == "quick"}
    assert {row: line["precision"] for row, line in cells.items()} == {
        "a": "",
        "b": "bfloat16",
        "c": "float32",
        "c-stage1": "",
    }
    assert {line["miou_ss_mixed"] for line in cells.values()} == {""}
    claims = {(line["claim"], line["protocol"]): line["mixed"] for line in lines_of(files, "table7-claims.csv")}
    assert claims["t7-c-b-miou_ss", "quick"] == "float32 and bfloat16 together"
    assert claims["t7-c-a-miou_ss", "quick"] == ""


def test_runs_of_one_kind_carry_no_mark(store, tmp_path):
    """Builds of one release of torch are one release; a record that does not say is float32."""
    kinds = ({}, {"precision": "float32"}, {"packages": {"torch": "2.11.0+cu130"}})
    for row in ("b", "c"):
        for seed, kind in enumerate(kinds):
            run(store, row, seed, **kind)
    files = render(tmp_path / "out", "table7")
    pages = [content for name, content in files.items() if name.endswith((".md", ".tex", ".html"))]
    assert not any(b"32 together" in page or b".0 together" in page for page in pages)
    assert {line["miou_ss_mixed"] for line in lines_of(files, "table7.csv")} == {""}


def test_a_level_of_the_papers_protocol_carries_the_mark_beside_its_verdict(store, tmp_path):
    for seed in range(3):
        run(store, "c", seed, "paper", precision="float16" if seed else "float32")
    files = render(tmp_path / "out", "table7")
    _, line = (  # in the main table, and in detail
        line
        for line in files["summary/table7.md"].decode().splitlines()
        if line.startswith("| SegNeXt-T (c) |") and "50.00 ± " in line
    )
    assert line.count("†1") == 4  # mean and verdict, single- and multi-scale


def test_figures_say_it_and_list_the_precision_of_every_seed(store, tmp_path):
    for row in ("b", "c"):
        for seed in range(3):
            run(store, row, seed, **({"precision": "bfloat16"} if (row, seed) == ("c", 2) else {}))
    files = render(tmp_path / "out", "table7")
    seeds = lines_of(files, "table7-quick-seeds.csv")
    assert {line["precision"] for line in seeds if (line["row"], line["seed"]) == ("c", "2")} == {"bfloat16"}
    assert {line["precision"] for line in seeds if line["row"] == "b"} == {"float32"}
    assert "† SegNeXt-T (c): float32 and bfloat16 together." in whole(files)


def test_fig_1_says_it(store, tmp_path):
    table9 = tables.study("table9")
    for seed in range(3):
        add_run(store, table9, table9.row("t"), "paper", seed, 41.0, precision="bfloat16" if seed else "float32")
    lines = {
        (line["dataset"], line["row"]): line for line in lines_of(render(tmp_path / "out", "table9"), "figure1.csv")
    }
    assert lines["ade20k", "t"]["miou_ss_mixed"] == "float32 and bfloat16 together"
    assert lines["cityscapes", "t"]["miou_ss_mixed"] == ""


def test_tests_of_one_runs_weights_in_another_precision_are_marked(store, tmp_path):
    run(store, "c", 0)
    trained = PROTOCOLS["quick"].run(STUDY.panel(), STUDY.row("c"), 0)
    add_evaluation(store, Evaluation(trained, trained.model, trained.data, 1), 49.5, 50.5)
    assert [line["mixed"] for line in lines_of(render(tmp_path / "one", "table7"), "table7-ham.csv")] == [""] * 2
    again = Evaluation(trained, trained.model, trained.data, 2)
    add_evaluation(store, again, 49.0, 50.0, precision="float16")
    files = render(tmp_path / "two", "table7")
    assert {line["mixed"] for line in lines_of(files, "table7-ham.csv")} == {"float32 and float16 together"}
    assert {line["precision"] for line in lines_of(files, "table7-ham.csv")} == {"float32, float16"}


def test_run_pages_and_the_reproducibility_page_name_the_precision_and_never_add_up_two(store, tmp_path):
    identifier = run(store, "c", 0, precision="bfloat16")
    run(store, "c", 1)
    files = render(tmp_path / "out", "table7")
    page = files[f"runs/{identifier}.html"].decode()
    assert '<th scope="row">Precision</th><td class="text">bfloat16</td>' in page
    spent = lines_of(files, "reproducibility-compute.csv")
    assert [(line["precision"], line["runs"]) for line in spent] == [("bfloat16", "1"), ("float32", "1")]
    assert "bfloat16; float32" in files["reproducibility.html"].decode()


def test_the_same_names_and_sizes_with_other_bytes_are_marked_where_the_bytes_are_known(store, tmp_path):
    for seed in range(3):
        run(store, "c", seed, **(BYTES[seed] if seed < 2 else {}))
    (words,) = {line["miou_ss_mixed"] for line in lines_of(render(tmp_path / "out", "table7"), "table7.csv")} - {""}
    assert words == "diagnostic/scene val contents of fingerprints abcd and dcba together"


def test_what_is_not_known_is_no_difference_and_releases_are_in_their_order():
    assert pooling.mixture([{"precision": "float32"}, {"precision": "float32", "torch": "2.11.0"}]) == ""
    assert pooling.mixture([]) == ""
    assert pooling.mixture([{"torch": "2.9.1"}, {"torch": "2.11.0"}]) == "torch 2.9.1 and 2.11.0 together"
    every = [{"precision": name} for name in ("float16", "bfloat16", "tf32", "float32")]
    assert pooling.mixture(every) == "float32, tf32, bfloat16 and float16 together"
