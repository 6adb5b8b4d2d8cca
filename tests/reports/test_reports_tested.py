"""Finished weights that were tested again, and weights of elsewhere: shown, linked, and counted nowhere."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest
from records import add_evaluation, add_run, fabricate, run_record, server_record
from reporting import Page, lines_of, render, whole

from reports.sections.ham import ham_table
from segnext.config import Evaluation, Weights
from studies.declare.protocols import PROTOCOLS
from studies.facts.gather import gather
from studies.judge import verdicts
from studies.records.schema import Metrics
from studies.records.store import Store
from studies.tables import study

TABLE7, TABLE9 = study("table7"), study("table9")
FILE = "segnext_tiny_512x512_ade_160k.pth"


def import_weights(
    store: Store, protocol: str, single: float, multi: float | None = 42.0, name: str = FILE, ham_seed: int = 0
) -> str:
    """A test of a file that holds Table 9's SegNeXt-T."""
    run = PROTOCOLS[protocol].run(TABLE9.panel(), TABLE9.row("t"), 0)
    evaluation = Evaluation(Weights(name, "a" * 64), run.model, run.data, ham_seed)
    return add_evaluation(store, evaluation, single, multi, stands_for=run.id)


def retest(store: Store, row: str, seed: int, ham_seed: int, single: float, protocol: str = "quick") -> str:
    run = PROTOCOLS[protocol].run(TABLE7.panel(), TABLE7.row(row), seed)
    return add_evaluation(store, Evaluation(run, run.model, run.data, ham_seed), single, single + 1.1)


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> tuple[Path, str, dict[str, bytes], dict[str, bytes]]:
    """Table 9 with three runs of SegNeXt-T, without and with a released file of it; and a file under `camvid` alone."""
    folder = tmp_path_factory.mktemp("imported")
    store = Store(folder / "results")
    for seed in range(3):
        add_run(store, TABLE9, TABLE9.row("t"), "paper", seed, 41.0 + 0.1 * seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGNEXT_RESULTS", str(store.folder))
        before = render(folder / "before", "table9", "table12")
        record = import_weights(store, "paper", 41.56)
        import_weights(store, "camvid", 61.0, None, name="mine.pth")
        return folder / "out", record, before, render(folder / "out", "table9", "table12")


def test_imported_weights_have_a_line_below_their_row(imported):
    _, record, _, files = imported
    rows = [line for line in lines_of(files, "table9.csv") if (line["protocol"], line["row"]) == ("paper", "t")]
    ours, file = (line for line in rows if line["dataset"] == "ade20k")
    assert file["name"] == f"SegNeXt-T, released weights: {FILE}"
    assert (file["imported"], file["imported_record"]) == (FILE, record)
    assert (file["miou_ss_printed"], file["miou_ss_imported"], file["miou_ss_verdict"]) == ("41.1", "41.56", "imported")
    assert float(file["miou_ss_difference"]) == pytest.approx(0.46)
    assert file["miou_ss_mean"] == file["miou_ss_n"] == ""
    assert (ours["miou_ss_n"], ours["miou_ss_verdict"], ours["miou_ss_imported"]) == ("3", "reproduced", "")
    assert float(ours["miou_ss_mean"]) == pytest.approx(41.1)
    assert f"SegNeXt-T, released weights: {FILE}".replace("_", "\\_") in files["summary/table9.md"].decode()
    assert "◇ imported" in files["summary/table9.md"].decode()
    assert r"segnext\_\allowbreak{}tiny" in files["table9.tex"].decode()


def test_imported_weights_link_to_their_record_and_to_the_rule(imported):
    out, record, _, files = imported
    text = whole(files)
    links = [link for link in Page(text).links if record in link]
    assert len(links) == 4  # in the main table and in detail  # single- and multi-scale
    assert all((out / link).exists() for link in links)
    assert verdicts.RULES["imported"] in text.split('id="rules"')[1]


def test_imported_weights_are_counted_nowhere(imported):
    *_, before, files = imported
    assert files["table9-claims.csv"] == before["table9-claims.csv"]
    assert files["table9-paper-ade20k-seeds.csv"] == before["table9-paper-ade20k-seeds.csv"]
    for name in ("index.html", "claims.html", "overview.html"):
        assert before[name] == files[name]
    kept = [line for line in lines_of(files, "table9.csv") if not line.pop("imported") and line["protocol"] == "paper"]
    for line in kept:
        for column in ("imported_record", "miou_ss_imported", "miou_ms_imported"):
            line.pop(column)
    assert kept == lines_of(before, "table9.csv")


def test_a_protocol_with_imported_weights_alone_claims_nothing(imported):
    *_, files = imported
    lines = [line for line in lines_of(files, "table9.csv") if line["protocol"] == "camvid"]
    (file,) = (line for line in lines if line["imported"])
    assert [file[column] for column in ("row", "imported", "miou_ss_imported")] == ["t", "mine.pth", "61.0"]
    assert file["miou_ms_imported"] == ""
    assert file["miou_ss_difference"] == file["miou_ss_verdict"] == ""  # CamVid is held against no print
    assert {line["miou_ss_n"] for line in lines if line is not file} == {"0"}
    page = whole(files)
    assert "<h3>Protocol camvid: 0 of 12 runs finished, 1 imported</h3>" in page
    assert "table9-camvid-claims" not in Page(page).ids
    assert "camvid" not in {line["protocol"] for line in lines_of(files, "table9-claims.csv")}


def test_the_terminal_shows_the_files_whole_name(tmp_path, capsys):
    import_weights(Store(), "paper", 41.56)
    render(tmp_path / "out", "table9")
    text = capsys.readouterr().out
    assert "◇ imported" in text
    assert "0 of 12 runs finished, 1 imported" in text
    assert FILE in text


def test_several_files_of_one_row_are_several_lines(tmp_path):
    store = Store()
    import_weights(store, "paper", 41.5)
    import_weights(store, "paper", 41.6, name="t_ade20k.pth")
    files = render(tmp_path / "out", "table9")
    found = {line["imported"] for line in lines_of(files, "table9.csv")} - {""}
    assert found == {FILE, "t_ade20k.pth"}


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, Store, dict[str, bytes], dict[str, bytes]]:
    """Table 7 under `quick`: row c, seed 0, with Ham seeds 1 and 2; row b, seed 1, with 0 (which differs) and 1."""
    folder = tmp_path_factory.mktemp("swept")
    store = fabricate(folder / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGNEXT_RESULTS", str(store.folder))
        before = render(folder / "before", "table7")
        for ham_seed, single in ((1, 41.0), (2, 40.5)):
            retest(store, "c", 0, ham_seed, single)
        for ham_seed, single in ((0, 36.0), (1, 37.0)):
            retest(store, "b", 1, ham_seed, single)
        retest(store, "a", 0, 0, 40.0)
        return folder / "out", store, before, render(folder / "out", "table7")


def test_the_spread_by_hams_seed_counts_the_runs_own_evaluation_as_seed_0(swept):
    _, store, _, files = swept
    lines = {(line["row"], line["weights"], line["metric"]): line for line in lines_of(files, "table7-ham.csv")}
    assert {key[:2] for key in lines} == {("c", "seed 0"), ("b", "seed 1")}  # row a has one Ham seed
    variant = next(v for v in gather(TABLE7, store).variants if v.protocol.name == "quick")
    own = variant.values("c", "miou_ss")
    values = [own[0], 41.0, 40.5]
    line = lines["c", "seed 0", "miou_ss"]
    assert (line["ham_seeds"], line["own"]) == ("0, 1, 2", "")
    assert float(line["mean"]) == pytest.approx(statistics.fmean(values))
    assert float(line["deviation"]) == pytest.approx(statistics.stdev(values))
    assert (float(line["minimum"]), float(line["maximum"])) == (min(values), max(values))
    assert float(line["training_deviation"]) == pytest.approx(statistics.stdev(own))
    assert float(lines["c", "seed 0", "miou_ms"]["maximum"]) == variant.values("c", "miou_ms")[0]


def test_a_repeated_evaluation_that_differs_from_the_runs_own_says_so(swept):
    _, store, _, files = swept
    lines = {(line["row"], line["metric"]): line for line in lines_of(files, "table7-ham.csv")}
    run = PROTOCOLS["quick"].run(TABLE7.panel(), TABLE7.row("b"), 1)
    own = store.records[run.id]["metrics"]["miou_ss"]
    assert (float(lines["b", "miou_ss"]["own"]), lines["b", "miou_ss"]["minimum"]) == (own, "36.0")
    said = f"Ham seed 0, tested again, differs from the run's own evaluation by {36.0 - own:+.2g}.".replace("-", "−")
    text = whole(files)
    assert said in text.replace("&#39;", "'")
    assert said in files["summary/table7.md"].decode()
    assert text.count("differs from the run&#39;s own</em>") == 2  # single- and multi-scale, of row b alone


def test_a_repeated_evaluation_that_agrees_needs_no_words():
    store = fabricate(Store().folder, seeds=1)
    run = PROTOCOLS["quick"].run(TABLE7.panel(), TABLE7.row("c"), 0)
    for ham_seed, change in ((0, 0.0), (1, 0.2)):
        retest(store, "c", 0, ham_seed, store.records[run.id]["metrics"]["miou_ss"] + change)
    variant = next(v for v in gather(TABLE7, store).variants if v.protocol.name == "quick")
    table = ham_table(variant)
    assert len(table.lines) == 2
    assert table.notes == ()
    assert table.lines[0].cells[-1].text == "–"  # one training seed has no spread


def test_every_number_of_the_spread_links_to_its_record(swept):
    out, _, _, files = swept
    page = whole(files)
    block = page.split('<table id="table7-quick-ham"')[1].split("</table>")[0]
    links = set(re.findall(r'href="([^"]+)"', block))
    found = {link for link in links if link.startswith("runs/")}
    assert all((out / link).exists() for link in found)
    assert len(found) == 5  # row c: its run and two tests; row b: two tests
    assert {link for link in links if link.startswith("#table7-quick-")} >= {"#table7-quick-b", "#table7-quick-c"}


def test_other_seeds_of_ham_change_no_accuracy_and_no_claim(swept):
    *_, before, files = swept
    for name in ("table7.csv", "table7-claims.csv", "table7-quick-seeds.csv"):
        assert files[name] == before[name]
    assert "table7-ham.csv" not in before
    assert "Spread by Ham" not in whole(before)


def test_imported_weights_under_several_seeds_of_ham_are_one_line_and_a_spread(tmp_path):
    store = Store()
    for ham_seed in range(3):
        import_weights(store, "paper", 41.0 + ham_seed, ham_seed=ham_seed)
    files = render(tmp_path / "out", "table9")
    (line,) = (line for line in lines_of(files, "table9.csv") if line["imported"])
    assert line["miou_ss_imported"] == "41.0"
    spread = {line["metric"]: line for line in lines_of(files, "table9-ham.csv")}
    assert (spread["miou_ss"]["weights"], spread["miou_ss"]["ham_seeds"]) == (FILE, "0, 1, 2")
    assert (spread["miou_ss"]["deviation"], spread["miou_ss"]["training_deviation"]) == ("1.0", "")


def test_a_test_servers_score_links_to_what_the_server_said(tmp_path):
    table10 = study("table10")
    run = PROTOCOLS["paper"].run(table10.panel(), table10.row("t"), 0)
    store = Store()
    store.add(run_record(run, Metrics()))
    said = server_record(run, "miou_ms", 82.1, "http://example.org/1")
    store.add(said)
    text = whole(render(tmp_path / "out", "table10"))
    assert f'"runs/{said["id"]}.html" title="seed 0"' in text
    assert '<em class="mark">test server</em>' in text
