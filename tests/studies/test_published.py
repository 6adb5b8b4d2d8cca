"""What others measured: the file beside the declarations, its rules, its traps, and the command that adds to it."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import REPOSITORY, does

from reports.blocks.style import GLYPHS, OTHERS_GLYPHS
from reports.sections import others as section
from studies.declare import published
from studies.declare.published import Published
from studies.judge import others, referee, verdicts
from studies.tables import studies, study

LINES = others.published()
TABLE9 = study("table9")
MARGIN = next(claim for claim in TABLE9.claims if claim.slug == "t9-T-b0-ade20k")
ADE = TABLE9.panel("ade20k")
T, B0 = (next(row for row in TABLE9.rows if row.slug == slug) for slug in ("t", "segformer-b0"))


def line(row: str = "t", value: float = 41.5, **changes: object) -> Published:
    """A retraining that counts, of one project, unless told otherwise."""
    usual = next(known for known in LINES if known.id == "p001")
    given = {"source": "A", "weights_id": f"{changes.get('source', 'A')}/{row}", "model": row, "superseded": ""}
    return dataclasses.replace(usual, id=f"{row}{value}", row=row, value=value, **(given | changes))


def said(*lines: Published) -> str:
    return others.claim(lines, TABLE9, MARGIN).word


def pair(difference: float, **changes: object) -> tuple[Published, Published]:
    """Both rows of a claim, so far apart, of one source."""
    return line("t", 38 + difference, **changes), line("segformer-b0", 38, **changes)


def test_every_line_is_read_checked_and_traced_to_a_source():
    assert len(LINES) >= 514
    assert len({known.id for known in LINES}) == len(LINES)
    assert all(known.where and known.who and known.words for known in LINES)
    assert not any(others.counts(known) for known in LINES if known.kind in ("copied", "checkpoint", "authors"))
    assert {known.source for known in LINES} >= set(published.trust())
    assert all(known.address.startswith("https://") for known in LINES if known.address)


def test_an_installed_package_has_the_files():
    with open(REPOSITORY / "pyproject.toml", "rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["studies"]
    listed = {path for pattern in patterns for path in (REPOSITORY / "studies").glob(pattern)}
    assert {published.PATH, published.SOURCES} <= listed


def test_a_line_is_written_as_it_was_read():
    with open(published.PATH, newline="") as file:
        rows = list(csv.DictReader(file))
    assert "".join(map(published.written, rows)) == published.PATH.read_text().split("\n", 1)[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"study": "tabel9"}, "unknown study 'tabel9' (did you mean table9?)"),
        ({"row": "segformer"}, "unknown row of table9 'segformer'"),
        ({"dataset": "ade20"}, "unknown dataset of table9 'ade20' (did you mean ade20k?)"),
        ({"metric": "miou"}, "unknown metric of table9 on ade20k 'miou'"),
        ({"kind": "copied"}, "a copied number is no evidence"),
        ({"quality": "secondhand"}, "told by another"),
        ({"statistic": "highest"}, "the highest of a range"),
        ({"value": 415.0}, "in percent"),
        ({"superseded": "nothing"}, "superseded by nothing"),
    ],
)
def test_evidence_is_about_what_is_declared(changes: dict[str, object], words: str):
    with pytest.raises(ValueError, match=r"^t41.5: ") as found:
        published.check([dataclasses.replace(line(), **changes)], studies())
    assert words in str(found.value)
    if "superseded" not in changes:
        published.check([dataclasses.replace(line(), **(changes | {"role": "background"}))], studies())


def test_a_number_that_stands_twice_is_named_by_both_ids():
    first = line()
    with pytest.raises(ValueError, match=r"q2 repeats t41\.5"):
        published.check([first, dataclasses.replace(first, id="q2")], studies())
    published.check([first, dataclasses.replace(first, id="q2", weights_id="A/t/2")], studies())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("n", "several", "n is 'several': a whole number"),
        ("n", "1.5", "n is '1.5': a whole number"),
        ("n", "0", "n is 1 or more"),
        ("sd", "0.4", "n 1 and sd 0.4"),
        ("value", "nan", "a finite number"),
        ("value", "", "value is ''"),
        ("kind", "trained", "did you mean retrained?"),
        ("independent", "maybe", "yes or no"),
        ("date", "14.2.2023", "date is '14.2.2023'"),
        ("tested", "wohle", "did you mean whole?"),
        ("where", " ", "where is empty"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(name: str, value: str, words: str, tmp_path: Path):
    with open(published.PATH, newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = rows[0] | {name: value}
    path = tmp_path / "published.csv"
    path.write_text(",".join(published.COLUMNS) + "\n" + published.written(rows[1]) + published.written(wrong))
    with pytest.raises(ValueError, match="line 3") as found:
        published.read(path)
    assert str(path) in str(found.value)
    assert words in str(found.value)


@pytest.mark.parametrize("content", [b"", b"id,role\n", b"\xff\xfe", b"only words\n"])
def test_a_damaged_file_says_so_and_what_to_do(content: bytes, tmp_path: Path):
    path = tmp_path / "published.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged: .*published\.csv"):
        published.read(path)


@pytest.mark.parametrize(
    ("difference", "word"),
    [
        (3.7, "same"),
        (3.7 - others.UNCERTAIN + 0.01, "same"),
        (3.7 + others.UNCERTAIN - 0.01, "same"),
        (3.7 - others.UNCERTAIN - 0.01, "smaller"),
        (3.7 + others.UNCERTAIN + 0.01, "larger"),
        (0.01, "smaller"),
        (-0.01, "unclear"),
        (-others.UNCERTAIN + 0.01, "unclear"),
        (-others.UNCERTAIN - 0.01, "opposite"),
    ],
)
def test_a_word_is_decided_by_the_two_bounds(difference: float, word: str):
    assert others.word_of(difference, 3.7) == word
    assert said(*pair(difference)) == word


def test_sources_that_disagree_are_mixed_and_none_is_nobody():
    assert said(*pair(3.0), *pair(3.2, source="B")) == "same"
    assert others.claim([*pair(3.0), *pair(3.2, source="B")], TABLE9, MARGIN).words == "same (2 sources)"
    assert said(*pair(3.0), *pair(0.5, source="B")) == "mixed"
    assert said() == "nobody"


def test_two_rows_of_two_sources_are_never_compared():
    ours, peer = pair(3.0)
    assert said(ours, dataclasses.replace(peer, source="B")) == "nobody"


@pytest.mark.parametrize(("name", "other"), [("tested", "not aligned"), ("framework", "mmsegmentation 1.x")])
def test_rows_that_were_tested_otherwise_are_not_paired_and_it_says_why(name: str, other: str):
    ours, peer = pair(3.0)
    found = others.claim([ours, dataclasses.replace(peer, **{name: other})], TABLE9, MARGIN)
    assert found.word == "nobody"
    (apart,) = found.apart
    assert " against " in apart.why_not
    assert apart.word == ""


def test_segformer_without_aligned_images_is_not_paired_with_segnext_with_them():
    """The trap in the data: the same weights are there twice, and lie 0.5 to 1.1 apart."""
    found = others.claim(LINES, TABLE9, MARGIN)
    (one,) = found.differences
    assert (one.better.id, one.worse.id) == ("p001", "p177")
    without = next(known for known in LINES if known.id == "p167")
    assert without.weights_id == one.worse.weights_id
    assert without.value < one.worse.value
    assert said(one.better, without) == "nobody"


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "checkpoint"},
        {"kind": "authors"},
        {"independent": False},
        {"quality": "excerpt"},
        {"superseded": "newer"},
        {"role": "background"},
        {"dataset": "cityscapes"},
    ],
)
def test_what_is_no_independent_training_on_these_data_decides_nothing(changes: dict[str, object]):
    ours, peer = pair(3.0)
    changed = dataclasses.replace(ours, **changes)
    assert said(changed, peer) == "nobody"
    level = others.level([changed], TABLE9, T, ADE, "miou_ss")
    assert level.counted == ()
    assert level.within == 0
    told_apart = not changes.keys() & {"superseded", "role", "dataset"}
    assert level.apart == ((changed,) if told_apart else ())


def test_the_newest_training_of_a_source_speaks_for_it():
    older, newer = line(value=39.0, date="2022", weights_id="A/1"), line(value=41.0, date="2023-01", weights_id="A/2")
    level = others.level([older, newer], TABLE9, T, ADE, "miou_ss")
    assert level.sources == (newer,)
    assert level.counted == (older, newer)
    assert level.within == 1
    again = dataclasses.replace(older, id="again", value=39.1, date="2022-05")
    assert others.level([older, again], TABLE9, T, ADE, "miou_ss").counted == (again,)


def test_of_one_set_of_weights_the_test_that_is_the_papers_counts():
    plain = line("segformer-b0", 37.85, tested="not aligned", date="2024")
    aligned = line("segformer-b0", 38.55, tested="aligned", date="2022")
    assert others.level([plain, aligned], TABLE9, B0, ADE, "miou_ss").counted == (aligned,)


def test_a_level_counts_sources_within_the_tolerance_of_the_table():
    values = (40.1, 42.1, 42.11)
    lines = [line(value=value, source=f"S{place}") for place, value in enumerate(values)]
    level = others.level(lines, TABLE9, T, ADE, "miou_ss")
    assert level.tolerance == verdicts.EPSILON["miou_ss"]
    assert (level.within, len(level.sources)) == (2, 3)


def test_seed_spreads_are_read_and_what_claims_are_judged_with_is_their_pooled_value():
    found = others.spreads(LINES)
    ours = [spread for spread in found if spread.n == 3 and spread.lines[0].source == "Enjoy-Hamburger"]
    assert [round(spread.sd or 0, 2) for spread in ours] == [0.35]
    assert any((spread.low, spread.high) == (49.6, 51.0) for spread in found)
    pooled = others.pooled_sd(found)
    assert pooled is not None
    assert round(pooled, 1) == others.SEED_SD
    assert others.planning_sd("miou_ss") is not None
    assert others.planning_sd("top1") is None


def test_findings_follow_the_lines():
    found = {finding.slug: finding for finding in referee.findings(LINES)}
    margins = [round(figure.value, 2) for figure in found["margins"].figures]
    assert margins == [2.95, 0.90, 0.57, 1.72]
    assert "2 of 4" in found["margins"].says
    assert "1.7 to 2.0 lower" in found["own-code"].says
    assert {figure.value for figure in found["mask2former"].figures} == {48.66, 49.20}
    raised = [dataclasses.replace(known, value=known.value + 1) if known.id == "p001" else known for known in LINES]
    assert round(referee.findings(raised)[0].figures[0].value, 2) == 3.95
    assert referee.findings([]) == []


def test_words_about_others_are_not_ours_and_neither_are_their_signs():
    assert set(OTHERS_GLYPHS) == set(others.RULES)
    assert not set(others.RULES) & set(verdicts.RULES)
    assert not set(OTHERS_GLYPHS.values()) & set(GLYPHS.values())
    style = (REPOSITORY / "reports" / "write" / "templates" / "page.css").read_text()
    rule = next(text for text in style.splitlines() if text.startswith(".same,"))
    assert "var(--others)" in rule
    assert all(f".{word}" in rule for word in others.RULES)
    assert style.count(" color: var(--others)") == 1


def test_every_number_of_a_cell_leads_to_its_line_on_the_page():
    ids = {f"{table.slug}-{row.key}" for table in section.tables() for row in table.lines}
    cells = [section.others_cell(TABLE9, ADE, row, metric) for row in TABLE9.rows for metric in ADE.columns]
    cells += [section.said_cell(table, claim) for table in studies().values() for claim in table.claims]
    targets = {source.target for cell in cells for source in cell.sources}
    assert len(targets) > 20
    assert {target.partition("#")[2] for target in targets} <= ids


ADDED = ("table9/t", "--metric", "miou_ss", "--value", "41.5", "--kind", "retrained", "--source", 'a, "b"')
FROM = ("--where", "README at 1", "--date", "2026-01-31", "--framework", "own", "--n", "3", "--sd", "0.4")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    shutil.copy(published.PATH, tmp_path)
    return tmp_path / published.PATH.name


def test_a_number_is_added_checked_and_listed(file: Path):
    before = file.read_text()
    assert "it counts" in does("studies.published", "add", *ADDED, *FROM, "--file", str(file))
    after = file.read_text()
    assert after.startswith(before)
    (added,) = published.read(file)[len(LINES) :]
    assert (added.value, added.n, added.sd, added.source, added.independent) == (41.5, 3, 0.4, 'a, "b"', True)
    assert added.id in does("studies.published", "table9/t", "--file", str(file))
    assert "repeats" in does("studies.published", "add", *ADDED, *FROM, "--file", str(file), code=2)
    assert file.read_text() == after


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("table9",), "name a row"),
        (("table9/q",), "unknown row"),
        (("table99/t",), "unknown study"),
        (("table9/t@0",), "no seed"),
        (("table9/t", "--value", "forty"), "value is 'forty'"),
        (("table9/t", "--metric", "dice"), "unknown metric"),
        (("table9/t", "--dataset", "kitti"), "unknown dataset"),
        (("table9/t", "--date", "yesterday"), "date is 'yesterday'"),
    ],
)
def test_a_wrong_number_is_refused_and_nothing_is_written(words: tuple[str, ...], said: str, file: Path):
    before = file.read_bytes()
    told = (
        does("studies.published", "add", *ADDED, *FROM, *words[1:], "--file", str(file), code=2)
        if words[1:]
        else (does("studies.published", "add", words[0], *ADDED[1:], *FROM, "--file", str(file), code=2))
    )
    assert said in told
    assert file.read_bytes() == before


def test_two_who_add_at_once_lose_nothing(file: Path):
    def add(value: int) -> str:
        words = ("--value", str(value), "--weights", f"w{value}", "--file", str(file))
        return does("studies.published", "add", *ADDED, *FROM, *words)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, (40, 41)))
    assert sorted(added.value for added in published.read(file)[len(LINES) :]) == [40.0, 41.0]


def test_a_copy_and_a_related_group_are_kept_and_count_for_nothing(file: Path):
    given = (*ADDED[:6], "copied", "--source", "C", *FROM[:6], "--file", str(file))
    assert "counts towards no level" in does("studies.published", "add", *given[:5], "--kind", *given[6:])
    related = ("--source", "Enjoy-Hamburger", "--file", str(file))
    assert "counts towards no level" in does("studies.published", "add", *ADDED[:-2], *FROM, *related)
    copied, akin = published.read(file)[len(LINES) :]
    assert (copied.role, akin.independent) == ("background", False)


def test_show_tells_what_others_measured_for_a_row_and_for_a_quoted_one():
    told = does("studies.show", "table9/t")
    assert "what others measured" in told
    assert "mmsegmentation" in told
    quoted = json.loads(does("studies.show", "table9/segformer-b0", "--json"))
    assert {known["row"] for known in quoted["others"]} == {"segformer-b0"}
    assert "quoted and never trained here" in does("studies.show", "table9/segformer-b0")
