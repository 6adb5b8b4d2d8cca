"""Results held against results: what is equal, what differs beyond chance, and what is wrong with what was named."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from records import add_run, fabricate, two_rows
from reporting import Page

from reports import compare
from studies.judge import two_results
from studies.judge.significance import ERROR
from studies.records import revisions
from studies.records.store import Store
from studies.tables.table7 import STUDY

ROWS = [row.slug for row in STUDY.trained]


def compared(*words: object, out: Path) -> tuple[int, str, dict[str, dict[str, str]]]:
    """Exit code, page, and the lines of rows.csv by row and metric."""
    code = compare.main([*map(str, words), "--out", str(out)])
    lines = csv.DictReader((out / "rows.csv").read_text().splitlines())
    found = {f"{line['rows'].split()[0]} {line['metric']}": line for line in lines}
    return code, (out / "index.html").read_text(), found


def edited(store: Store, identifier: str, **changes: object) -> None:
    """Change parts of a record on disk that its id does not cover."""
    path = store.path(identifier)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def records(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((path / "records.csv").read_text().splitlines()))


def test_results_against_themselves_are_equal_and_exit_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    two_rows(tmp_path / "a")
    code, page, rows = compared(tmp_path / "a", tmp_path / "a", out=tmp_path / "out")
    assert code == 0
    assert "A and B are the same results: nothing can differ." in capsys.readouterr().out
    assert {line["outcome"] for line in records(tmp_path / "out")} == {"equal"}
    assert {line["outcome"] for line in rows.values()} == {"same runs"}
    assert not (tmp_path / "out" / "difference.svg").exists()
    Page(page)


def test_other_seeds_that_differ_beyond_chance_exit_with_1_and_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    two_rows(tmp_path / "a", seeds=(0, 1, 2, 3, 4))
    two_rows(tmp_path / "b", shift=3.0, seeds=(10, 11, 12, 13, 14), processor="another <card>")
    code, page, rows = compared(tmp_path / "a", tmp_path / "b", out=tmp_path / "out")
    first, second = (f"table7/{slug} miou_ss" for slug in ROWS[:2])
    assert code == 1
    assert rows[first]["outcome"] == "differs"
    assert rows[second]["outcome"] in ("not resolved", "no difference")
    assert 2.5 < float(rows[first]["difference"]) < 3.5
    assert float(rows[first]["low"]) > 0
    assert float(rows[first]["p"]) < float(rows[first]["p_holm"]) < ERROR
    assert rows[first]["made_otherwise"] == "processor Example CPU <2 GHz> → another <card>"
    said = capsys.readouterr().out
    assert "\t✗ differs\n" in said  # on a terminal: tests/test_door.py
    assert {line["outcome"] for line in records(tmp_path / "out")} == {"only A", "only B"}
    assert "another &lt;card&gt;" in page


def test_p_is_adjusted_as_holm_does_over_what_can_be_tested(tmp_path: Path):
    a = two_rows(tmp_path / "a", seeds=(0, 1, 2))
    b = two_rows(tmp_path / "b", shift=1.0, seeds=(3, 4, 5))
    add_run(a, STUDY, STUDY.trained[2], "quick", 0, 50.0)
    add_run(b, STUDY, STUDY.trained[2], "quick", 1, 90.0)  # few seeds: not in the family
    found = two_results.compare(a, b)
    tests = sorted((row.found.differs.p, row.found.differs.adjusted) for row in found.rows if row.found.differs)
    assert len(tests) == found.tested == 4
    highest = 0.0
    for step, (p, adjusted) in enumerate(tests):
        highest = max(highest, min(1.0, (4 - step) * p))
        assert adjusted == pytest.approx(highest)
    assert len(found.of("few seeds")) == 2


def test_a_rerun_is_equal_to_rounding_or_different_and_says_what_was_other(tmp_path: Path):
    a, b = two_rows(tmp_path / "a"), two_rows(tmp_path / "b", packages={"torch": "2.99.0", "numpy": "2.4.0"})
    same, near, far = sorted(a.records)[:3]
    metrics = {key: a.records[key]["metrics"] for key in (near, far)}
    edited(b, near, metrics={**metrics[near], "miou_ss": metrics[near]["miou_ss"] + 0.009})
    edited(b, far, metrics={**metrics[far], "iou": [50.5, None]})
    found = {pair.id: pair for pair in two_results.compare(a, Store(b.folder)).pairs}
    assert [found[key].likeness for key in (same, near, far)] == ["equal", "equal to rounding", "different"]
    assert found[far].largest == ("iou road", 50.0, 50.5)
    assert found[same].made == found[far].made == ("torch 2.11.0 → 2.99.0",)


def test_a_cost_that_was_counted_otherwise_exits_with_1(tmp_path: Path):
    a, b = (fabricate(tmp_path / name, seeds=1) for name in "ab")
    cost = a.kind("cost")[0]
    edited(b, cost["id"], params=cost["params"] + 1)
    code, page, _ = compared(a.folder, b.folder, out=tmp_path / "out")
    assert code == 1
    assert "1 model has another cost, which no chance explains" in page


def test_fewer_seeds_and_rows_of_one_side_are_shown_and_not_tested(tmp_path: Path):
    a, b = two_rows(tmp_path / "a", seeds=(0, 1)), two_rows(tmp_path / "b", shift=9.0, seeds=(5, 6))
    add_run(b, STUDY, STUDY.trained[3], "quick", 0, 50.0)
    code, page, rows = compared(a.folder, b.folder, out=tmp_path / "out")
    assert code == 0
    assert rows[f"table7/{ROWS[0]} miou_ss"]["outcome"] == "few seeds"
    assert float(rows[f"table7/{ROWS[0]} miou_ss"]["difference"]) == pytest.approx(9.0, abs=1.5)
    assert rows[f"table7/{ROWS[3]} miou_ss"]["outcome"] == "only B"
    assert "nothing can be tested" in page.lower()


def test_every_number_links_to_its_record_and_the_page_is_whole(tmp_path: Path):
    two_rows(tmp_path / "a [1]"), two_rows(tmp_path / "b", shift=2.0, seeds=(7, 8, 9))
    _, text, _ = compared(tmp_path / "a [1]", tmp_path / "b", out=tmp_path / "out")
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    records = [link for link in page.links if "records/" in link]
    assert len(records) == 2 * 2 * 2 * 3  # rows, metrics, sides, seeds
    for link in page.links:
        path, _, anchor = link.partition("#")
        if path:
            assert (tmp_path / "out" / path.replace("%5B", "[").replace("%5D", "]").replace("%20", " ")).is_file(), link
        else:
            assert anchor in page.ids
    assert "https://" not in text


def test_a_damaged_record_is_named_and_all_others_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    a, b = two_rows(tmp_path / "a"), two_rows(tmp_path / "b")
    broken = b.path(sorted(b.records)[0])
    broken.write_bytes(broken.read_bytes()[:100])
    code, page, _ = compared(a.folder, b.folder, out=tmp_path / "out")
    assert code == 1
    assert capsys.readouterr().err.startswith(f"damaged: {broken.resolve()}: ")
    assert "Damaged and left out: 1 of B&#39;s records." in page
    assert sum(line["outcome"] == "equal" for line in records(tmp_path / "out")) == 5


def test_older_records_that_know_less_are_compared_in_what_they_know(tmp_path: Path):
    a, b = two_rows(tmp_path / "a"), two_rows(tmp_path / "b")
    for key, record in a.records.items():
        metrics = {name: record["metrics"][name] for name in ("miou_ss", "miou_ms")}
        edited(a, key, metrics=metrics, provenance={"code": record["provenance"]["code"]})
    found = two_results.compare(Store(a.folder), b)
    assert {(pair.likeness, pair.compared, pair.made) for pair in found.pairs} == {("equal", 2, ())}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere", "a"), "nowhere is neither a folder nor a git revision"),
        (("a", "HEAD~100000"), "HEAD~100000 is neither a folder nor a git revision"),
        (("a", "empty"), "there are no records in it"),
        (("a", "none"), "has no folder records/ in it: it is no results folder"),
        (("a", "outer"), "did you mean "),
        (("a", "file"), "is no folder; name a results folder or a git revision"),
        (("a", "broken"), "none of its records can be read"),
        (("--", "a", "-x"), "-x is neither"),
        (("a", "a", "--out", "foreign"), "holds something else than a comparison"),
        (("a", "a", "--out", "a"), "holds something else than a comparison"),
        (("a", "a", "--out", "file"), "is no folder"),
        (("a",), "required"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
):
    two_rows(tmp_path / "a"), two_rows(tmp_path / "outer" / "results")
    for name in ("empty/records", "none", "broken/records", "foreign"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "broken" / "records" / "0123456789ab.json").write_text("{")
    (tmp_path / "foreign" / "rows.csv").write_text("mine\n")
    (tmp_path / "file").write_text("")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    own = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    out = () if "--out" in words else ("--out", "out")
    command = [sys.executable, "-m", "reports.compare", *out, *words]
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout


def test_a_revision_is_read_from_git_and_the_checkout_stays_as_it_is(tmp_path: Path):
    before = git("status", "--porcelain")
    code, page, rows = compared("HEAD", "HEAD", out=tmp_path / "out")
    assert code == 0
    assert {line["outcome"] for line in records(tmp_path / "out")} == {"equal"}
    assert len(records(tmp_path / "out")) == len(git("ls-tree", "--name-only", "HEAD", "results/records/").splitlines())
    assert len(rows) > 20
    assert f"HEAD ({git('rev-parse', 'HEAD')[:7]})" in page
    assert git("status", "--porcelain") == before


def test_a_revisions_damage_is_named_as_git_names_it_and_one_without_results_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    root = tmp_path / "repository"
    root.mkdir()

    def commit(message: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        for words in (("add", "-A"), (*who, "commit", "--quiet", "--allow-empty", "-m", message)):
            subprocess.run(["git", *words], cwd=root, check=True, timeout=60)

    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True, timeout=60)
    commit("nothing")
    store = two_rows(root / "results")
    commit("six runs")
    broken = store.path(sorted(store.records)[0])
    broken.write_text("{")
    commit("one is damaged")
    monkeypatch.setattr(revisions, "REPOSITORY", root)
    monkeypatch.chdir(tmp_path)
    code, page, _ = compared("HEAD~1", "HEAD", out=tmp_path / "out")
    assert code == 1
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout[:7]
    assert capsys.readouterr().err.startswith(f"damaged: {head}:results/records/{broken.name}: ")
    assert "records/" not in "".join(Page(page).links)  # git's are no files
    with pytest.raises(SystemExit) as left:
        compare.main(["HEAD~2", "HEAD", "--out", str(tmp_path / "other")])
    assert left.value.code == 2
    assert "has no results/records/: nothing can be compared" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_new_comparison_replaces_an_earlier_one_whole(tmp_path: Path):
    two_rows(tmp_path / "a"), two_rows(tmp_path / "b", seeds=(5, 6, 7))
    compared(tmp_path / "a", tmp_path / "b", out=tmp_path / "out")
    assert (tmp_path / "out" / "difference.svg").exists()
    compared(tmp_path / "a", tmp_path / "a", out=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html", "rows.csv", "records.csv"}


@pytest.mark.parametrize("shared", [0, 3])
def test_the_error_rate_of_a_comparison_holds_also_where_runs_are_shared(shared: int):
    """Ten rows without any difference, 5 seeds against 5, of which both sides share the first."""
    draw, times, wrong = random.Random(shared), 1500, 0
    for _ in range(times):
        family = []
        for _ in range(10):
            both = [draw.gauss(0, 1) for _ in range(shared)]
            sides = [both + [draw.gauss(0, 1) for _ in range(5 - shared)] for _ in range(2)]
            family.append((sides[0], sides[1]))
        wrong += any(found.differs and found.differs.shows for found in two_results.decided(family))
    assert wrong / times <= ERROR + 3 * (ERROR * (1 - ERROR) / times) ** 0.5
