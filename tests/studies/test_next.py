"""What to run next: the power is what is said, the plan is optimal, its commands start just its runs."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from records import add_run
from terminal import seen

from segnext.config import Run
from studies import next as to_run_next
from studies import run as studies_run
from studies.declare.protocols import protocol
from studies.judge import asked, looks, power, spread, verdicts
from studies.judge.looks import Followed, conditional_power, judged
from studies.plan import cheapest
from studies.plan.hours import Clock
from studies.plan.looking import keep, path_of, planned
from studies.plan.programme import Programme, deciding, first_lines, programme, ranges
from studies.plan.runs import plan, select
from studies.records.store import Store
from studies.tables import studies, study

PRETRAINED = protocol("paper-pretrained")
EVERYTHING = list(studies().values())


# --- statistics


def simulated(kind: str, difference: float, sd: float, seeds: int, alpha: float, rows: int, trials: int) -> float:
    """How often the verdict on a claim is the right one, by the very code that judges claims."""
    draw = np.random.default_rng([seeds, rows, round(100 * difference)])
    right = 0
    for _ in range(trials):
        first = draw.normal(difference, sd, seeds).tolist()
        second = draw.normal(0.0, sd, seeds).tolist() if rows == 2 else 0.0
        judge = verdicts.equivalence if kind == "equivalent" else verdicts.ordering
        found = judge(first, second, 1 - alpha)
        contradicted = kind == "equivalent" and abs(difference) > verdicts.MARGIN
        right += found.verdict == ("contradicted" if contradicted else "supported")
    return right / trials


@pytest.mark.parametrize(
    ("kind", "difference", "seeds", "alpha", "rows"),
    [
        ("greater", 1.5, 3, 0.005, 2),  # where the noncentral t of 4 degrees would promise 0.24 for 0.13
        ("greater", 1.5, 6, 0.005, 2),
        ("greater", 0.8, 12, 0.05 / 6, 2),
        ("greater", 3.7, 4, 0.05 / 15, 1),
        pytest.param("equivalent", 0.0, 30, 0.005, 2, marks=pytest.mark.long),
        pytest.param("equivalent", 0.1, 20, 0.05, 2, marks=pytest.mark.long),
        ("equivalent", 1.4, 8, 0.05, 2),  # beyond the margin: it is contradicted
        ("equivalent", 0.2, 9, 0.05, 1),
    ],
)
def test_the_power_is_how_often_a_claim_is_decided_rightly(kind, difference, seeds, alpha, rows):
    trials = 1500
    said = power.claim_power(kind, difference, verdicts.MARGIN, 0.5, seeds, alpha, rows)
    found = simulated(kind, difference, 0.5, seeds, alpha, rows, trials)
    assert abs(found - said) <= 3.5 * math.sqrt(said * (1 - said) / trials) + 0.004


def test_the_power_of_a_level_is_how_often_it_is_called_reproduced():
    draw, trials = np.random.default_rng(3), 2000
    words = [verdicts.level(draw.normal(41.1, 0.5, 5).tolist(), 41.1, 1.0).verdict for _ in range(trials)]
    said = power.level_power(0.5, 1.0, 5)
    assert abs(words.count("reproduced") / trials - said) <= 3.5 * math.sqrt(said * (1 - said) / trials)


@pytest.mark.parametrize("kind", ["greater", "equivalent"])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("difference", [0.1, 0.3, 1.2])
def test_seeds_are_the_fewest_with_80_percent_power(kind: str, rows: int, difference: float):
    seeds = power.claim_seeds(kind, difference, verdicts.MARGIN, 0.5, 0.005, rows)
    chances = [power.claim_power(kind, difference, verdicts.MARGIN, 0.5, n, 0.005, rows) for n in (seeds - 1, seeds)]
    assert chances[0] < power.POWER <= chances[1]


def test_a_level_needs_the_fewest_seeds_whose_interval_is_within_the_tolerance():
    assert power.half_width(0.5, 3) == pytest.approx(1.242, abs=1e-3)
    assert power.level_seeds(0.5, 1.0) == 4
    values = [41.1 - 0.5, 41.1, 41.1 + 0.5]  # a spread of just 0.5
    assert verdicts.mean_interval(values).half_width == pytest.approx(power.half_width(0.5, 3))
    assert verdicts.level(values, 41.1, 1.0).verdict == "inconclusive"


def test_a_difference_at_the_margin_is_never_decided():
    assert power.claim_seeds("equivalent", verdicts.MARGIN, verdicts.MARGIN, 0.5, 0.05, 2) is None


def test_the_spread_of_few_seeds_is_below_the_true_one_in_one_case_of_five():
    draw, trials = np.random.default_rng(5), 3000
    samples = draw.normal(0.0, 0.5, (trials, 2, 3))
    limits = [spread.spread_of("miou_ss", rows.tolist()) for rows in samples]
    assert {limit.source for limit in limits} == {"records"}
    share = sum(limit.sd >= 0.5 for limit in limits) / trials
    assert abs(share - spread.CONFIDENCE) <= 3.5 * math.sqrt(0.8 * 0.2 / trials)
    many = spread.spread_of("miou_ss", draw.normal(0.0, 0.5, (100, 10)).tolist())
    assert many.sd == pytest.approx(0.5, abs=0.03)


def test_without_seeds_of_ours_the_spread_is_others_then_stated_then_none():
    for too_few in ([], [[41.0]], [[41.0, 41.5]], [[41.0] * 5]):
        assert spread.spread_of("miou_ss", too_few).source == "others"
    assert spread.spread_of("top1", []).source == "stated"
    assert spread.spread_of("gradcam_inside", []) is None


# --- the plan is optimal


def cost(names: tuple[str, ...], needs: cheapest.Needs, hours: dict[str, float]) -> float:
    return sum(hours[run] for run in frozenset().union(*(needs[name] for name in names)))


def subsets(needs: cheapest.Needs) -> list[tuple[str, ...]]:
    return [chosen for size in range(len(needs) + 1) for chosen in itertools.combinations(needs, size)]


def case(number: int) -> tuple[cheapest.Needs, dict[str, float], float]:
    """Up to seven targets over up to seven runs, one of them a dear one that most share: a pretraining."""
    draw = random.Random(number)
    runs = [f"run{place}" for place in range(draw.randint(2, 7))]
    hours = {run: draw.choice([0.0, 0.5, 1.0, 2.0, 3.3]) for run in runs} | {"pretraining": draw.choice([0.0, 10.0])}
    needs = {}
    for place in range(draw.randint(1, 7)):
        own = draw.sample(runs, draw.randint(0, min(4, len(runs))))
        needs[f"target{place}"] = frozenset([*own, *["pretraining"] * (draw.random() < 0.6)])
    return needs, hours, draw.choice([0.0, 1.0, 3.0, 7.0, 13.0, 30.0])


@pytest.mark.parametrize("number", range(40))
def test_no_choice_within_the_budget_decides_more_nor_as_many_in_fewer_hours(number: int):
    needs, hours, budget = case(number)
    chosen = tuple(cheapest.within(needs, hours, budget))
    fitting = [names for names in subsets(needs) if cost(names, needs, hours) <= budget]
    most = max(map(len, fitting))
    assert len(chosen) == most
    fewest = min(cost(names, needs, hours) for names in fitting if len(names) == most)
    assert cost(chosen, needs, hours) == pytest.approx(fewest)


@pytest.mark.parametrize("number", range(40))
def test_each_step_decides_the_most_per_hour_and_no_way_to_as_many_is_shorter(number: int):
    needs, hours, _ = case(number)
    left, ran, before, spent, decided = dict(needs), frozenset(), math.inf, 0.0, 0
    for step in cheapest.steps(needs, hours):
        missing = {name: runs - ran for name, runs in left.items()}
        rates = [
            len(names) / price if (price := cost(names, missing, hours)) else math.inf for names in subsets(missing)[1:]
        ]
        own = len(step.targets) / step.hours if step.hours else math.inf
        assert own == pytest.approx(max(rates))
        assert own <= before + 1e-9
        assert frozenset(step.runs) == frozenset().union(*(missing[name] for name in step.targets))
        ran, before, spent, decided = ran | frozenset(step.runs), own, spent + step.hours, decided + len(step.targets)
        left = {name: runs for name, runs in left.items() if name not in step.targets}
        assert spent <= min(cost(names, needs, hours) for names in subsets(needs) if len(names) >= decided) + 1e-9
    assert not left


def test_a_pretraining_that_many_share_is_worth_what_it_is_to_none_alone():
    """Four claims behind a pretraining of 20 hours against two at 8: one at a time, the two would be taken first."""
    needs = {f"shared{n}": frozenset({"pretraining", f"own{n}"}) for n in range(4)}
    needs |= {f"alone{n}": frozenset({f"single{n}"}) for n in range(2)}
    hours = {"pretraining": 20.0, **{f"own{n}": 1.0 for n in range(4)}, **{f"single{n}": 8.0 for n in range(2)}}
    assert cheapest.within(needs, hours, 25.0) == [f"shared{n}" for n in range(4)]
    assert [step.hours for step in cheapest.steps(needs, hours)] == [24.0, 8.0, 8.0]
    assert cheapest.within(needs, hours, 16.0) == ["alone0", "alone1"]


# --- the programme of the declared studies


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SEGNEXT_RUNS", str(tmp_path / "runs"))
    return Store()


def started(command: str, store: Store) -> set[str]:
    """The runs that a command of the plan would start, read as `studies.run` reads it."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "studies.run"]
    options = studies_run.parser().parse_args(words[3:])
    if options.only == "cost":
        return set()
    chosen = protocol(options.protocol)
    selections = select(options.selectors, chosen, options.rows, options.seeds)
    selections = [dataclasses.replace(selection, datasets=options.datasets) for selection in selections]
    return {planned_run.id for planned_run in plan(selections, chosen, options.limit_iterations, store)}


@pytest.mark.parametrize("name", ["paper", "paper-pretrained"])
def test_the_commands_of_a_plan_start_its_runs_and_no_others(name: str, empty: Store):
    found = programme(EVERYTHING, deciding(name), 300.0, empty)
    assert found.hours <= 300.0
    assert len(found.lines) > 5
    ran: set[str] = set()
    for line in found.lines:
        starting = (
            set().union(*(started(command, empty) for command in line.commands)) - ran if line.commands else set()
        )
        assert starting == set(line.runs), line.commands
        ran |= starting


def test_what_is_shared_is_paid_once(empty: Store):
    found = programme([study("table6"), study("table7"), study("table9")], deciding("paper"), 400.0, empty)
    runs = [run for line in found.lines for run in line.runs]
    assert len(runs) == len(set(runs))
    pretraining = protocol("paper").run(study("table7").panel(), study("table7").row("c"), 0).init
    assert isinstance(pretraining, Run)
    assert runs.count(pretraining.id) == 1
    alone = sum(question.hours for line in found.lines for question in line.questions)
    users = sum(pretraining.id in {run.id for run in q.runs} for line in found.lines for q in line.questions)
    assert users > 3
    assert found.hours <= alone - (users - 1) * Clock(empty, "bfloat16", "graphs").of(pretraining).value


def test_every_claim_of_the_paper_is_somewhere(empty: Store):
    for name in ("paper", "paper-pretrained"):
        found = programme(EVERYTHING, deciding(name), 200.0, empty)
        planned = [question.name for line in found.lines for question in line.questions if question.kind != "level"]
        left = [question.name for question in (*found.beyond, *found.never) if question.kind != "level"]
        names = [*planned, *left, *found.elsewhere]
        assert sorted(names) == sorted(claim.slug for one in EVERYTHING for claim in one.claims)
        assert found.decided == 0


def of(found: Programme) -> dict[str, object]:
    lines = [question for line in found.lines for question in line.questions]
    return {question.name: question for question in (*lines, *found.beyond, *found.never)}


def test_a_difference_that_needs_more_seeds_than_anyone_trains_is_said_with_the_number(empty: Store):
    found = of(programme([study("appendix_table2")], PRETRAINED, 1e6, empty))
    small = found["a2-ham-S-miou_ss"]
    assert small.seeds == power.claim_seeds("greater", 0.1, 0.5, 0.5, 0.05 / 8, 2)
    assert small.seeds > 500
    assert small.reason == f"a printed difference of 0.1 needs {small.seeds:,} seeds a row"
    assert not small.runs


def test_a_claim_is_planned_at_holms_first_step_over_its_table(empty: Store):
    found = of(programme([study("table7")], PRETRAINED, 1e6, empty))
    claim = found["t7-c-a-miou_ss"]
    assert claim.alpha == pytest.approx(0.05 / 6)
    assert claim.seeds == power.claim_seeds("greater", 0.8, 0.5, 0.5, 0.05 / 6, 2)
    assert claim.power >= power.POWER > claim.half
    assert {(run.row, run.seed) for run in claim.runs} == {(row, n) for row in "ca" for n in range(claim.seeds)}


def fill(store: Store, rows: dict[str, float], seeds: int, sd: float = 0.2) -> None:
    """Records of Table 7 from released weights, with a spread of just `sd` in every row."""
    base = np.random.default_rng(1).normal(size=seeds)
    for row, level in rows.items():
        values = level + sd * (base - base.mean()) / base.std(ddof=1)
        for seed, value in enumerate(values.tolist()):
            add_run(store, study("table7"), study("table7").row(row), "paper-pretrained", seed, value)


def test_records_give_the_spread_and_what_they_have_is_not_run_again(empty: Store):
    fill(empty, {"c": 41.1, "a": 40.95}, 3)
    store = Store()
    claim = of(programme([study("table7")], PRETRAINED, 1e6, store))["t7-c-a-miou_ss"]
    assert claim.spread.source == "records"
    assert claim.spread.sd == pytest.approx(0.2 * math.sqrt(4 / 1.6488), rel=1e-3)  # chi-squared, 4 degrees, 20 %
    assert claim.verdict == "not resolved"
    assert claim.have == 3
    assert {(run.row, run.seed) for run in claim.runs} == {(row, n) for row in "ca" for n in range(3, claim.seeds)}


def test_a_decided_claim_is_done_and_one_that_its_seeds_left_open_is_planned_by_what_they_showed(empty: Store):
    fill(empty, {"c": 41.1, "a": 38.0, "b": 30.9, "c-stage1": 41.05}, 20)
    store = Store()
    found = programme([study("table7")], PRETRAINED, 1e6, store)
    assert "t7-c-a-miou_ss" not in of(found)
    assert "table7/c ade20k miou_ss" not in of(found)
    judged = {one.name: one for one in asked.claims(study("table7"), PRETRAINED, store)}
    assert judged["t7-c-a-miou_ss"].decided
    stage1 = of(found)["t7-stage1-miou_ss"]
    assert stage1.verdict == "not resolved"
    assert stage1.seeds == judged["t7-stage1-miou_ss"].judgement.seeds
    assert stage1.seeds > 20


def test_a_claims_verdict_is_the_one_that_the_report_prints(empty: Store):
    from studies.facts.gather import gather

    fill(empty, {"c": 41.1, "a": 40.4, "b": 30.9, "c-stage1": 41.05}, 5)
    store = Store()
    evidence = gather(study("table7"), store)
    (variant,) = [one for one in evidence.variants if one.protocol.name == "paper-pretrained"]
    for one in asked.claims(study("table7"), PRETRAINED, store):
        judgement = evidence.judge(variant, one.claim)
        assert (one.judgement.verdict, one.judgement.adjusted) == (judgement.verdict, judgement.adjusted)


def test_hours_follow_a_measured_step_and_say_so(empty: Store):
    from studies.plan.estimate import keep

    run = PRETRAINED.run(study("table7").panel(), study("table7").row("c"), 0)
    clock = Clock(empty, "bfloat16", "graphs")
    assert clock.of(run).on == ""
    assert clock.of(run).value == pytest.approx(160_000 * 16 * 6 * 6.6e9 / 20e12 / 3600)  # printed: 6.6 G
    keep(run, {"images_per_second": 400.0, "device": "a GPU", "precision": "bfloat16", "compiled": "graphs"})
    timed = Clock(empty, "bfloat16", "graphs").of(run)
    assert timed.value == pytest.approx(160_000 * 16 / 400 / 3600)
    assert timed.on == "a GPU (bfloat16, graphs)"
    assert Clock(empty, "float32", "").of(run).on == "", "another precision has other hours"


def test_the_first_lines_for_the_report_are_the_first_of_the_plan(empty: Store):
    lines = first_lines(list(studies().values()), empty, 3)
    assert len(lines) == 3
    whole = programme(EVERYTHING, PRETRAINED, 200.0, empty)
    assert lines == list(whole.lines[:3])
    assert re.fullmatch(r"\d+ claims about costs of .*: no GPU-hours", lines[0].words)
    assert re.fullmatch(r"\d claims? of table\d.*: [\d.]+ GPU-hours", lines[1].words)


def test_seeds_are_written_as_the_command_reads_them():
    assert ranges([0, 1, 2, 4, 7, 8]) == "0-2,4,7-8"


# --- the command


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert to_run_next.main(list(words)) == 0
    return capsys.readouterr().out


def test_the_plan_fits_80_columns_and_its_commands_can_be_pasted(empty: Store, capsys: pytest.CaptureFixture[str]):
    words = "--gpu-hours", "1000", "--protocol", "paper"
    text = seen([sys.executable, "-m", "studies.next", *words], REPOSITORY, os.environ).shown
    assert [line for line in text.splitlines() if len(line) > 80] == []
    found = json.loads(said(capsys, *words, "--json"))
    joined = text.replace("\\\n", " ")
    pasted = [shlex.split(line) for line in joined.splitlines() if line.startswith("    python -m")]
    assert pasted == [shlex.split(command) for line in found["lines"] for command in line["commands"]]
    assert found["hours"] <= 1000
    assert "by arithmetic" in text


def test_a_larger_budget_decides_no_fewer_claims(empty: Store):
    counts = []
    for budget in (1.0, 30.0, 100.0, 400.0):
        found = programme([study("table7"), study("table9")], PRETRAINED, budget, empty)
        assert found.hours <= budget + 1e-6
        counts.append(sum(question.kind == "claim" for line in found.lines for question in line.questions))
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--gpu-hours", "0"], "'0' is not a positive number of hours"),
        (["--gpu-hours", "-3"], "'-3' is not a positive number of hours"),
        (["--gpu-hours", "nan"], "'nan' is not a positive number of hours"),
        (["tabel7"], "unknown study 'tabel7' (did you mean table7?)"),
        (["--protocol", "papr"], "unknown protocol 'papr' (did you mean paper?)"),
        (["--protocol", "camvid"], "--protocol camvid decides no claim of the paper"),
        (["--with", "'"], "is not a list of words"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(words, why, empty: Store, tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as left:
        to_run_next.main(words)
    assert left.value.code == 2
    assert why in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_is_named_and_the_rest_is_planned(empty: Store, capsys: pytest.CaptureFixture[str]):
    fill(empty, {"c": 41.1}, 3)
    path = next((empty.folder / "records").glob("*.json"))
    path.write_text("{")
    assert to_run_next.main(["table7"]) == 1
    told = capsys.readouterr()
    assert path.name in told.err
    assert "t7-c-a-miou_ss" in told.out


def test_planning_imports_no_torch(tmp_path: Path):
    code = "import sys, studies.next\nstudies.next.main(['table7'])\nassert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "python -m studies.run table7" in done.stdout


# --- looks


def followed(draw: np.random.Generator, differences: list[float], kind: str = "greater") -> list[Followed]:
    """Claims of a table whose rows are all held against one, ten seeds each."""
    reference = draw.normal(0.0, 0.5, 10).tolist()
    rows = [draw.normal(difference, 0.5, 10).tolist() for difference in differences]
    return [Followed(f"claim{place}", kind, row, reference, 1.0) for place, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("kind", "truth"), [("greater", 0.0), ("equivalent", verdicts.MARGIN)], ids=["no difference", "at the margin"]
)
@pytest.mark.parametrize(
    ("claims", "trials"), [(1, 100), *(pytest.param(claims, 500, marks=pytest.mark.long) for claims in (1, 6))]
)
def test_a_wrong_word_in_a_table_over_all_looks_is_as_rare_as_5_percent(
    kind: str, truth: float, claims: int, trials: int, monkeypatch: pytest.MonkeyPatch
):
    """Where nothing is given up, which can only make wrong words rarer."""
    monkeypatch.setattr(looks, "GIVEN_UP", 0.0)
    monkeypatch.setattr(looks, "DRAWS", 2)
    wrong = 0
    for trial in range(trials):
        found = judged(followed(np.random.default_rng([trial, claims]), [truth] * claims, kind), (5, 10), claims)
        wrong += any(stand.verdict in ("supported", "contradicted") for stand in found.values())
    assert wrong / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_a_decided_claim_keeps_its_looks_verdict_and_later_seeds_do_not_enter_it():
    reference = [0.0, 0.1, -0.1, 0.05, -0.05]
    early = [value + 3.0 for value in reference]
    first = Followed("claim", "greater", early, reference)
    later = Followed("claim", "greater", [*early, *[-9.0] * 5], [*reference, *[9.0] * 5])
    assert judged([later], (5, 10), 4) == judged([first], (5, 10), 4)
    assert judged([later], (5, 10), 4)["claim"].look == 1
    assert judged([Followed("claim", "greater", early[:4], reference)], (5, 10), 4)["claim"].verdict == "pending"


def test_claims_that_were_not_run_count_at_every_look():
    """What is shown at 1 % alone is not shown as one of many."""
    draw = np.random.default_rng(1)
    reference, row = draw.normal(0.0, 0.5, 5).tolist(), draw.normal(1.6, 0.5, 5).tolist()
    one = Followed("claim", "greater", row, reference)
    p = verdicts.ordering(row, reference).p
    assert judged([one], (5, 10), math.floor(0.01 / p))["claim"].verdict == "supported"
    assert judged([one], (5, 10), math.floor(0.01 / p) + 1)["claim"].verdict == "not resolved"


@pytest.mark.parametrize(
    ("kind", "difference"), [("greater", 0.4), pytest.param("equivalent", 0.05, marks=pytest.mark.long)]
)
def test_the_conditional_power_is_how_often_the_last_look_decides(kind: str, difference: float):
    draw = np.random.default_rng(7)
    second = np.array([0.0, 0.5, -0.5, 0.25, -0.25])
    first = second[::-1] + difference
    said = conditional_power(Followed("claim", kind, first.tolist(), second.tolist()), 5, 10, 0.02)
    sd, trials, decided = math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2), 1500, 0
    for _ in range(trials):
        sides = [[*side.tolist(), *draw.normal(side.mean(), sd, 5).tolist()] for side in (first, second)]
        judge = verdicts.ordering if kind == "greater" else verdicts.equivalence
        decided += judge(*sides, 0.98).verdict != "not resolved"
    assert abs(decided / trials - said) <= 0.05
    assert 0.02 < said < 0.98


def test_a_claim_that_would_hardly_be_decided_is_given_up_and_one_that_might_be_is_not():
    reference = [0.0, 0.6, -0.6, 0.3, -0.3]
    nothing = Followed("nothing", "greater", [value + 0.02 for value in reversed(reference)], reference, 0.1)
    printed = Followed("printed", "greater", [value + 0.02 for value in reversed(reference)], reference, 2.5)
    found = judged([nothing, printed], (5, 10), 2)
    assert found["nothing"].verdict == "given up"
    assert found["printed"].verdict == "not resolved", "were the printed difference true, the last look would decide"


@pytest.mark.long
def test_looks_add_seeds_by_a_plan_that_is_written_first_until_all_is_over(
    empty: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """All but one of the runs are fabricated; that one is trained."""
    smoke, table = protocol("smoke"), study("table7")
    words = ["table7", "--rows", "b,c", "--protocol", "smoke", "--until-decided", "--looks", "3"]
    assert studies_run.main([*words, "--dry-run"]) == 0
    assert "t7-c-b-miou_ss: pending" in capsys.readouterr().out
    assert not (tmp_path / "results" / "looks").exists()

    assert keep(planned(table, smoke, ["b", "c"], (), (3,), empty), empty)
    for row, seeds in (("c", 3), ("b", 2)):
        for seed in range(seeds):
            add_run(Store(), table, table.row(row), "smoke", seed, 50.0 + seed / 10)
    for path in (REPOSITORY / "results" / "records").glob("cost-*.json"):
        (tmp_path / "results" / "records" / path.name).write_bytes(path.read_bytes())
    assert studies_run.main(words) == 0
    told = capsys.readouterr().out
    assert "look 1: seeds 0 to 2" in told
    assert told.rstrip().endswith("all looks are over")
    trained = [record for record in Store().kind("run") if record["provenance"]["finished"] != "2026-01-01T00:01:30Z"]
    assert {record["config"]["seed"] for record in trained if record["config"]["init"]} == {2}
    assert studies_run.main(words) == 0
    assert "train" not in capsys.readouterr().out, "what is over starts nothing"


def test_a_plan_is_not_changed_after_it_was_written(empty: Store, capsys: pytest.CaptureFixture[str]):
    table, smoke = study("table7"), protocol("smoke")
    keep(planned(table, smoke, ["b", "c"], (), (5, 10), empty), empty)
    before = path_of(empty, "table7", "smoke").read_bytes()
    for words in (["--rows", "b,c", "--looks", "3,4"], ["--rows", "a,c"]):
        with pytest.raises(SystemExit) as left:
            studies_run.main(["table7", "--protocol", "smoke", "--until-decided", *words])
        assert left.value.code == 2
        assert "was written for other" in capsys.readouterr().err
    assert path_of(empty, "table7", "smoke").read_bytes() == before


def test_seeds_that_were_there_before_the_plan_do_not_enter(empty: Store):
    fill(empty, {"c": 41.1, "a": 38.0}, 3)
    plan_ = planned(study("table7"), PRETRAINED, ["a", "c"], (), (5, 10), Store())
    assert (plan_.first, plan_.until(1), len(plan_.until(2))) == (3, (3, 4, 5, 6, 7), 10)
    assert plan_.shares == pytest.approx((0.01, 0.04))


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["--looks", "5,10"], 2, "--looks goes with --until-decided"),
        (["--until-decided", "--looks", "10,5"], 2, "numbers of seeds that grow"),
        (["--until-decided", "--looks", "2,5"], 2, "numbers of seeds that grow, 3 or more"),
        (["--until-decided", "--seeds", "0-4"], 2, "--seeds does not go with --until-decided"),
        (["--until-decided", "--limit-iterations", "2"], 2, "--limit-iterations does not go with --until-decided"),
        (["--until-decided", "--rows", "c"], 2, "no claim of table7 is only about these rows"),
        (["--until-decided", "--data-root", "/nowhere"], 3, "/nowhere"),
    ],
)
def test_words_that_make_no_plan_are_named_and_nothing_is_written(words, code, why, empty: Store, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        studies_run.main(["table7", "--protocol", "camvid-half", *words])
    assert left.value.code == code
    assert why in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
