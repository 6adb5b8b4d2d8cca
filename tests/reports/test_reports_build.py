"""The report as a whole: from fabricated records to every file it writes."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from records import add_cost, add_curve, add_run, cost_record, fabricate
from reporting import ALWAYS, OF_CLAIMS, Page, lines_of, render, undrawn, whole

from reports import build
from reports.blocks.table import number
from studies import tables
from studies.declare.protocols import PROTOCOLS
from studies.declare.study import Claim, Reported
from studies.facts import gather
from studies.records.store import REPOSITORY, Store, row_cost
from studies.tables.table7 import STUDY


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """A report on three seeds under `quick`, two under `paper`, drawn once for every test that only reads."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGNEXT_RESULTS", str(folder / "results"))
        fabricate(folder / "results", curves=True)
        fabricate(folder / "results", protocol="paper", seeds=2)
        return folder / "out", render(folder / "out", drawn=True)


def test_imports_neither_torch_nor_matplotlib():
    program = "import reports.build, reports.compose, sys; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=REPOSITORY)


def test_a_step_time_that_is_damaged_is_named_and_the_report_is_whole(results, out, capsys):
    """What to run next is found in a process of its own, which reads it."""
    fabricate(results)
    (results / "probes").mkdir()
    (results / "probes" / "torn.json").write_text('{"key"')
    with undrawn():
        assert build.main(["table7", "--out", str(out)]) == 1
    assert f"damaged: {results / 'probes' / 'torn.json'}" in capsys.readouterr().err
    assert (out / "index.html").exists()


def test_unknown_study_exits_2_with_the_nearest_name(results, out, capsys):
    with pytest.raises(SystemExit) as left:
        build.main(["tabel7", "--out", str(out)])
    assert left.value.code == 2
    assert "did you mean table7?" in capsys.readouterr().err
    assert not out.exists()


def test_nothing_measured_renders_pending(results, out):
    files = render(out, "table7")
    shown = ("table7", "claims", "wrong-prints", "costs-not-reproduced", "appendix_table1")
    tables = {f"{name}.{ending}" for name in shown for ending in ("tex", "csv")}
    pages = {f"summary/{name}.md" for name in ("README", "photographs", "others", *shown)}
    assert set(files) == {*ALWAYS, *OF_CLAIMS, "table7.html", "table7-claims.csv", *tables, *pages}
    assert "0 of 12 runs finished" in whole(files)
    assert {line["protocol"] for line in lines_of(files, "table7.csv")} == {"paper"}
    assert {line["miou_ss_verdict"] for line in lines_of(files, "table7.csv")} == {"pending"}
    assert {line["verdict"] for line in lines_of(files, "table7-claims.csv")} == {"pending"}
    assert (results / "table7.csv").exists()


def test_paper_protocol_is_held_against_printed_values(results, out):
    fabricate(results, protocol="paper")
    rows = {line["row"]: line for line in lines_of(render(out, "table7"), "table7.csv")}
    assert rows["c"]["miou_ss_verdict"] == "reproduced"
    assert rows["b"]["miou_ss_verdict"] == "above"  # 37.1 against the misprinted 30.9
    assert float(rows["c"]["miou_ss_difference"]) == pytest.approx(0.0)
    assert rows["c"]["miou_ss_n"] == "3"
    assert rows["c"]["params_m_agrees"] == "agrees"
    assert rows["a"]["params_m_agrees"] == "differs"


def test_other_protocols_are_never_held_against_printed_values(rendered):
    _, files = rendered
    quick = [line for line in lines_of(files, "table7.csv") if line["protocol"] == "quick"]
    assert len(quick) == 4
    assert all(line["miou_ss_difference"] == line["miou_ss_verdict"] == "" for line in quick)
    assert "cannot be compared with the printed accuracies" in files["summary/table7.md"].decode()
    claims = {(line["claim"], line["protocol"]): line for line in lines_of(files, "table7-claims.csv")}
    assert claims["t7-c-b-miou_ss", "quick"]["verdict"] == "supported"
    assert claims["t7-c-b-miou_ss", "paper"]["verdict"] == "few seeds"
    assert claims["t7-stage1-gflops", ""]["verdict"] == "supported"
    assert claims["t7-stage1-miou_ss", "quick"]["verdict"] == "not resolved"
    assert int(claims["t7-stage1-miou_ss", "quick"]["seeds_that_would_resolve_it"]) > 3


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_make_no_claim(results, out, seeds):
    fabricate(results, protocol="paper", seeds=seeds)
    files = render(out, "table7")
    assert {line["miou_ss_verdict"] for line in lines_of(files, "table7.csv")} == {"few seeds"}
    accuracies = [line for line in lines_of(files, "table7-claims.csv") if line["metric"] != "gflops"]
    assert {line["verdict"] for line in accuracies} == {"few seeds"}
    assert all(line["difference"] and not line["low"] for line in accuracies)


def test_lengths_are_never_pooled_and_a_cut_paper_run_is_not_compared(results, out):
    store = fabricate(results, protocol="paper", seeds=1)
    add_run(store, STUDY, STUDY.row("c"), "paper", 0, 3.0, length=50)
    files = render(out, "table7")
    rows = {(line["row"], line["iterations"]): line for line in lines_of(files, "table7.csv")}
    assert rows["c", "50"]["miou_ss_mean"] == "3.0"
    assert rows["c", "50"]["miou_ss_verdict"] == ""
    assert rows["c", "160000"]["miou_ss_n"] == "1"
    page = whole(files)
    assert "Protocol paper, 50 iterations" in page
    assert "a run that was cut short" in page


def test_partial_rows_render(results, out):
    store = fabricate(results, seeds=1)
    add_run(store, STUDY, STUDY.row("c"), "quick", 1, 40.0)
    files = render(out, "table7")
    assert "5 of 12 runs finished" in files["summary/table7.md"].decode()


def test_same_inputs_same_bytes(rendered, monkeypatch):
    out, first = rendered
    monkeypatch.setenv("SEGNEXT_RESULTS", str(out.parent / "results"))
    assert render(out.parent / "again", drawn=True) == first
    assert not any(str(out.parent).encode() in content for content in first.values())


def test_every_page_is_whole_and_its_links_resolve(rendered):
    out, files = rendered
    texts = {name: files[name].decode() for name in files if name.endswith(".html") and "/" not in name}
    pages, records = {name: Page(text) for name, text in texts.items()}, set()
    for name, page in pages.items():
        assert len(set(page.ids)) == len(page.ids), name
        for link in page.links:
            file, _, place = link.partition("#")
            if file.startswith("https://"):  # a source of what others published
                assert name == "others.html" or "table" in name, link
                continue
            assert not file or (out / file).exists(), f"{name}: {link}"
            assert not place or place in pages[file or name].ids, f"{name}: {link}"
            records |= {file} if file.startswith("runs/") else set()
        references = re.findall(r'(?:url\(#|aria-labelledby=")([^")]+)', texts[name])
        assert set(references) <= set(page.ids), name
    assert len(records) == 4 + 4 * 3 + 4 * 2


def test_the_page_is_self_contained_and_accessible(rendered):
    text = whole(rendered[1])
    page = Page(text)
    loaded = r'src="https?:|<link[^>]*href="https?:|@import|url\((?!#)'
    assert not re.search(loaded, re.sub(r'xmlns[:a-z]*="[^"]*"', "", text))
    tables = [tag for tag, _ in page.attributes if tag == "table"]
    assert len(tables) == len([tag for tag, _ in page.attributes if tag == "caption"]) > 0
    assert all(found.get("scope") for tag, found in page.attributes if tag == "th")
    assert all(found.get("aria-label") or found.get("aria-hidden") for tag, found in page.attributes if tag == "svg")
    style = rendered[1]["page.css"].decode()
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_declared_words_are_escaped_everywhere(results, out, monkeypatch):
    evil = "SegNeXt-T <b>&|_$%#{}~^\\ *bold* [x](y) " + "very long name " * 8
    rows = (
        Reported("Peer & <Sons>", {("ade20k", "miou_ss"): 42.2}),
        *(dataclasses.replace(row, name=evil if row.slug == "c" else row.name) for row in STUDY.trained),
    )
    monkeypatch.setattr(build, "studies", lambda: {"table7": dataclasses.replace(STUDY, rows=rows)})
    fabricate(results)
    files = render(out)
    page = Page(whole(files))
    assert "b" not in {tag for tag, _ in page.attributes}
    assert r"\textbackslash{} *bold*" in files["table7.tex"].decode()
    for line in files["summary/table7.md"].decode().splitlines():
        if line.startswith("| SegNeXt-T"):
            assert "\\|" in line or "<b>" not in line
    assert "peer-sons" in {line["row"] for line in lines_of(files, "table7.csv")}


def test_a_damaged_record_exits_1_and_the_report_has_all_others(results, out, tmp_path, capsys):
    store = fabricate(results)
    path = next(path for path in sorted((store.folder / "records").glob("*.json")) if "-" not in path.stem)
    content = path.read_text()
    path.unlink()
    without = render(out, "table7")
    path.write_text(json.dumps({**json.loads(content), "config": {}}))
    capsys.readouterr()
    assert build.main(["table7", "--out", str(tmp_path / "again")]) == 1
    assert f"damaged: {path}" in capsys.readouterr().err
    for name in (name for name in without if name.endswith((".md", ".csv", ".tex"))):
        assert (tmp_path / "again" / name).read_bytes() == without[name], name


@pytest.mark.parametrize("content", ["iteration\n1\n", "iteration,loss,learning_rate,images_per_second\n1,x,1,1\n"])
def test_a_damaged_curve_is_named(results, out, capsys, content):
    store = fabricate(results, seeds=1, curves=True)
    path = next((store.folder / "curves").glob("*.csv"))
    path.write_text(content)
    assert build.main(["table7", "--out", str(out)]) == 1
    assert f"damaged: {path}" in capsys.readouterr().err
    assert (out / "table7.tex").exists()


def test_a_curve_that_is_a_pipe_is_named_and_nobody_waits_for_its_writer(results, out):
    path = next((fabricate(results, seeds=1, curves=True).folder / "curves").glob("*.csv"))
    path.unlink()
    os.mkfifo(path)
    words = [sys.executable, "-m", "reports.build", "table7", "--out", str(out)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr.split(": ")[:2]) == (1, ["damaged", str(path)])


def test_long_curves_are_thinned_and_empty_ones_left_out(results, out):
    store = fabricate(results, seeds=2, curves=True)
    first, second, *_ = sorted((store.folder / "curves").glob("*.csv"))
    add_curve(store, first.stem, lines=5000)
    second.write_text(first.read_text().splitlines()[0] + "\n")
    curves = lines_of(render(out, "table7"), "table7-quick-loss.csv")
    assert len(curves) <= 6 * 40 + 300
    assert len({(line["row"], line["seed"]) for line in curves}) == 7


def test_a_mark_is_shown_beside_its_number(results, out, monkeypatch):
    fabricate(results, seeds=1)
    monkeypatch.setattr(gather, "marks", lambda record: ("stale code",))
    assert '<em class="mark">stale code</em>' in whole(render(out, "table7"))


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (1.25, 1, True, "+1.2"),
        (-0.04, 1, True, "0.0"),
        (-0.06, 1, False, "−0.1"),
        (0.0, 2, True, "0.00"),
        (3, 0, False, "3"),
    ],
)
def test_numbers(value, digits, signed, text):
    assert number(value, digits, signed) == text


def test_terminal_says_what_was_written_relative_to_here(results, out, capsys, monkeypatch):
    monkeypatch.chdir(out.parent)
    for row in STUDY.trained:
        add_cost(Store(results), STUDY, row)
    render(Path("out"), "table7")
    text = capsys.readouterr().out
    assert re.search(r"wrote \d+ files in out/\n", text)
    assert "wrote 8 files in out/summary/" in text
    assert re.search(r"wrote \d+ files in results/\n", text)
    assert text.rstrip().endswith("open out/index.html")
    assert "printed values agree" in text
    assert "✓ supported" in text
    render(Path("out"))
    assert re.search(r"^Table 7\t.*1 supported", capsys.readouterr().out, re.MULTILINE)  # several studies: a line each


def test_every_declared_claim_is_in_the_summary(rendered):
    ids = Page(whole(rendered[1])).ids
    for study in tables.studies().values():
        for claim in study.claims:
            assert isinstance(claim, Claim)
            assert ids.count(f"claims-{claim.slug}") == 1
    lines = {line["claim"]: line for line in lines_of(rendered[1], "claims.csv")}
    assert lines["t7-c-a-miou_ss"]["verdict"] == "few seeds"
    assert lines["t7-c-a-miou_ss"]["missing"] == "runs: c 2 of 3, a 2 of 3"
    assert lines["t7-c-b-miou_ss"]["verdict_quick"] == "supported"
    assert lines["t3-van-T"]["verdict"] == "pending"
    assert lines["t3-van-T"]["missing"].startswith("runs: ")
    assert lines["t7-stage1-gflops"]["verdict"] == "supported"
    assert lines["t7-stage1-gflops"]["missing"] == ""


def measured_as_released(store: Store) -> None:
    """The costs that tests/fixtures/costs.csv holds for rows of Tables 9 and 6."""
    for study, row, dataset, parameters, gmacs in (
        ("table9", "t", "cityscapes", 4_229_747, 50.5382),
        ("table9", "l", "cityscapes", 48_792_275, 553.7042),
        ("table9", "s", "cityscapes", 13_899_219, 150.0),  # no such measurement: nothing explains it
        ("table6", "full", "imagenet1k", 4_160_584, 0.8915),
    ):
        declared = tables.study(study)
        cost = row_cost(declared.panel(dataset), declared.row(row))
        store.add(cost_record(cost, parameters, gmacs))


def test_costs_that_do_not_reproduce_are_listed_with_the_rows_reason(results, out):
    measured_as_released(Store(results))
    files = render(out, "table9")
    lines = {line["row"]: line for line in lines_of(files, "costs-not-reproduced.csv")}
    assert set(lines) == {"l", "s"}
    assert lines["l"]["dataset"] == "cityscapes"
    assert float(lines["l"]["difference"]) == pytest.approx(-23.7958)
    assert "8.25 times" in lines["l"]["reason"]
    assert lines["s"]["reason"] == "unexplained"
    page = whole(files)
    assert 'class="verdict unexplained"' in page
    assert "2 of the 3 printed costs" in page
    for name in ("summary/costs-not-reproduced.md", "costs-not-reproduced.tex", "summary/table9.md"):
        assert "8.25 times" in files[name].decode()


def test_a_table_about_several_datasets_has_a_block_for_each(results, out):
    store = Store(results)
    measured_as_released(store)
    study = tables.study("table9")
    run = PROTOCOLS["paper"].run(study.panel("cityscapes"), study.row("t"), 0)
    add_run(store, study, study.row("t"), "paper", 0, 40.0)  # on the first: ADE20K
    files = render(out, "table9", "table6")
    rows = [line for line in lines_of(files, "table9.csv") if line["row"] == "t"]
    assert [(line["dataset"], line["miou_ss_n"]) for line in rows] == [
        ("ade20k", "1"),
        ("cityscapes", "0"),
        ("coco_stuff164k", "0"),
    ]
    assert rows[1]["gflops_agrees"] == "agrees"
    assert rows[1]["params_m"] == "4.229747"  # not printed in that panel, and shown all the same
    assert "params_m_agrees" not in rows[1] or rows[1]["params_m_agrees"] == ""
    assert run.id not in whole(files)
    page = Page(whole(files))
    assert {"table9-ade20k-costs", "table9-cityscapes-costs", "table9-paper-cityscapes"} <= set(page.ids)
    assert {"table6-imagenet1k-costs", "table6-paper-imagenet1k", "table6-paper-ade20k"} <= set(page.ids)
    assert "<summary>Protocol paper on ImageNet-1K: 0 of 18 runs finished</summary>" in whole(files)


def test_what_the_paper_prints_elsewhere_stands_beside_the_printed_value(results, out):
    fabricate(results, protocol="paper")
    files = render(out, "table7")
    row = next(line for line in lines_of(files, "table7.csv") if line["row"] == "c")
    assert (row["miou_ss_printed"], row["miou_ss_printed_elsewhere"]) == ("41.1", "Table 8: 41.0")
    assert "41.1 (Table 8: 41.0)" in files["summary/table7.md"].decode()


def test_a_claim_about_a_peer_is_judged_on_comparable_runs_alone(results, out):
    store, study = Store(results), tables.study("table9")
    for seed in range(3):
        add_run(store, study, study.row("t"), "paper", seed, 41.0 + 0.1 * seed)
        add_run(store, study, study.row("t"), "camvid", seed, 41.0 + 0.1 * seed)
    claims = {(line["claim"], line["protocol"]): line for line in lines_of(render(out, "table9"), "table9-claims.csv")}
    assert claims["t9-T-b0-ade20k", "paper"]["verdict"] == "supported"  # against the printed 37.4
    assert float(claims["t9-T-b0-ade20k", "paper"]["difference"]) == pytest.approx(3.7)
    assert claims["t9-T-b0-cityscapes", "paper"]["verdict"] == "pending"
    assert ("t9-T-b0-ade20k", "camvid") not in claims


def test_a_run_that_other_tables_share_does_not_open_them(results, out):
    """The full row of Tables 6 and 7 is one run under `camvid-half`: alone it compares nothing; its block is folded."""
    fabricate(results, protocol="camvid-half")
    files = render(out)
    assert "<summary>Other runs (3 of 18 runs finished)</summary>" in files["table6.html"].decode()
    assert "<h2>Protocol camvid-half" in files["table7.html"].decode()


def test_every_finished_run_stands_once_on_a_page_of_its_own_list(results, out):
    fabricate(results, protocol="camvid-half")  # the full row of Tables 6 and 7 is one run
    page = render(out)["every-run.html"].decode()
    lines = re.findall(r"<tr[^>]*>.*?</tr>", page, re.DOTALL)
    for identifier, record in Store(results).records.items():
        own = [line for line in lines if f"runs/{identifier}.html" in line]
        assert len(own) == (record.kind == "run")
    (shared,) = (line for line in lines if "table6/full" in line and "table7/c" in line and ">1</td>" in line)
    assert "camvid-half" in shared
