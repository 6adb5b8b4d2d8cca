"""The committed summary: what the records give, readable on a Git host, and no build of anything else touches it."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY
from records import add_run, fabricate
from reporting import render, undrawn

from reports import build
from reports.blocks.figure import Drawing
from reports.write import summary
from studies.records.store import Store
from studies.tables.table7 import STUDY

LINK = re.compile(r"(?<!\\)\]\(([^)]+)\)")


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Iterator[Path]:
    """The commands as in a repository of their own, with fabricated results and nothing built."""
    monkeypatch.delenv("SEGNEXT_RESULTS")
    for module in (build, summary):
        monkeypatch.setattr(module, "REPOSITORY", tmp_path / "clone")
    monkeypatch.setattr("studies.records.store.REPOSITORY", tmp_path / "clone")
    monkeypatch.setattr(build, "OUT", tmp_path / "clone" / "reports" / "out")
    monkeypatch.setattr(summary, "COMMITTED", tmp_path / "clone" / "reports" / "summary")
    fabricate(tmp_path / "clone" / "results", seeds=2)
    with undrawn():
        yield tmp_path / "clone"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_committed_summary_is_what_the_records_give(monkeypatch, capsys):
    monkeypatch.delenv("SEGNEXT_RESULTS")
    before = contents(summary.COMMITTED)
    done = build.main(["--check"])
    assert done == 0, capsys.readouterr().err
    assert contents(summary.COMMITTED) == before


def test_every_link_of_the_committed_summary_leads_to_a_committed_file():
    pages = list(summary.COMMITTED.glob("*.md"))
    found = {(page, link) for page in pages for link in LINK.findall(page.read_text()) if "://" not in link}
    assert len({link for _, link in found if "/records/" in link}) > 500
    for page, link in found:
        target = (page.parent / link).resolve()
        assert target.is_file(), f"{page.name}: {link}"
        assert target.is_relative_to(REPOSITORY), link
        assert not target.is_relative_to(build.OUT), link


def test_a_number_of_the_summary_leads_to_its_record_and_a_verdict_to_its_table(results, tmp_path):
    store = fabricate(results)
    files = {name: content.decode() for name, content in render(tmp_path / "out").items() if name.endswith(".md")}
    identifier = next(key for key in store.records if "-" not in key)
    assert f"](../../results/records/{identifier}.json)" in files["summary/table7.md"]
    assert "| ✓ [supported](table7.md) |" in files["summary/claims.md"]
    assert "| [Table 7](table7.md) |" in files["summary/README.md"]
    assert "](table7.md)" not in files["summary/table7.md"]
    for name, text in files.items():
        for link in (link for link in LINK.findall(text) if "://" not in link):
            assert (tmp_path / "out" / name).parent.joinpath(link).resolve().is_file(), f"{name}: {link}"


def test_check_writes_nothing_and_names_what_is_out_of_date(results, tmp_path, capsys):
    store = fabricate(results, seeds=1)
    out = tmp_path / "out"
    render(out)
    assert build.main(["--out", str(out), "--check"]) == 0
    (out / "summary" / "left-over.md").write_text("x")
    (out / "summary" / "table8.md").write_text("x")
    (results / "table7.csv").write_text("x")
    add_run(store, STUDY, STUDY.row("c"), "quick", 1, 40.0)
    capsys.readouterr()
    before = contents(tmp_path)
    assert build.main(["--out", str(out), "--check"]) == 1
    told = capsys.readouterr().err
    for name in ("table7.md: out of date", "table8.md: out", "left-over.md: no part", "results/table7.csv: out"):
        assert name in told, told
    assert "table3.md" not in told
    assert contents(tmp_path) == before
    assert build.main(["--out", str(tmp_path / "nowhere"), "--check"]) == 1
    assert not (tmp_path / "nowhere").exists()


def test_check_needs_nothing_that_is_not_committed(clone, capsys):
    assert build.main([]) == 0
    assert contents(clone / "reports" / "summary")
    shutil.rmtree(clone / "reports" / "out")
    assert build.main(["--check"]) == 0
    assert not (clone / "reports" / "out").exists()


def test_a_report_elsewhere_leaves_the_repository_as_it_is(clone, tmp_path):
    assert build.main([]) == 0
    (clone / "results" / "table7.csv").unlink()
    add_run(Store(clone / "results"), STUDY, STUDY.row("c"), "quick", 3, 40.0)
    before = contents(clone)
    assert build.main(["--out", str(tmp_path / "out")]) == 0
    assert contents(clone) == before
    assert "summary/claims.md" in contents(tmp_path / "out")


def test_other_results_and_what_runs_now_do_not_reach_the_committed_summary(clone, tmp_path, monkeypatch):
    assert build.main([]) == 0
    before = contents(clone / "reports" / "summary")
    add_run(Store(clone / "results"), STUDY, STUDY.row("c"), "quick", 3, 40.0)
    assert build.main(["--logs"]) == 0
    assert contents(clone / "reports" / "summary") == before
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "other"))
    assert build.main([]) == 0
    assert contents(clone / "reports" / "summary") == before


def test_one_study_writes_its_own_pages_and_leaves_the_claims_of_all(clone):
    assert build.main([]) == 0
    before = contents(clone / "reports" / "summary")
    add_run(Store(clone / "results"), STUDY, STUDY.row("c"), "quick", 3, 40.0)
    assert build.main(["table7"]) == 0
    after = contents(clone / "reports" / "summary")
    assert {name for name in before if after[name] != before[name]} == {"table7.md"}
    assert set(after) == set(before)
    assert build.main(["table7", "--check"]) == 0
    assert build.main(["--check"]) == 1  # the overview counts one run more


def figure(csv: str, png: bytes) -> Drawing:
    drawing = Drawing("figure", "A caption.", "words", csv, lambda: pytest.fail("drawn"))
    drawing.drawn = {"png": png}
    return drawing


def test_a_committed_picture_is_held_by_what_it_shows_and_kept_where_another_machine_draws_other_bytes(tmp_path):
    def write(drawing: Drawing) -> None:
        for name, content in summary.pictures([drawing], tmp_path).items():
            (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)

    write(figure("1,2\n", b"here"))
    assert summary.out_of_date([figure("1,2\n", b"there")], tmp_path) == []
    write(figure("1,2\n", b"there"))
    assert (tmp_path / "figure.png").read_bytes() == b"here"
    assert summary.out_of_date([figure("1,3\n", b"there")], tmp_path) == ["figure.png"]
    write(figure("1,3\n", b"there"))
    assert (tmp_path / "figure.png").read_bytes() == b"there"
    for damage in (b"painted over", None):
        (tmp_path / "figure.png").unlink() if damage is None else (tmp_path / "figure.png").write_bytes(damage)
        assert summary.out_of_date([figure("1,3\n", b"there")], tmp_path) == ["figure.png"]
        write(figure("1,3\n", b"there"))
        assert (tmp_path / "figure.png").read_bytes() == b"there"
    (tmp_path / summary.LIST).write_text("{")
    assert summary.out_of_date([figure("1,3\n", b"there")], tmp_path) == ["figure.png"]
    assert set(json.loads(summary.pictures([figure("1,3\n", b"x")], tmp_path)[summary.LIST])) == {"figure.png"}
