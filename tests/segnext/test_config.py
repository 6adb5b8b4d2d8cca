"""A run's id says exactly what the run is: no more, no less."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segnext import config
from segnext.config import (
    SIZES,
    ClassificationData,
    ClassificationTrain,
    Cost,
    Data,
    Evaluation,
    Execution,
    Model,
    Platform,
    Run,
    Speed,
    Train,
    Weights,
    canonical,
)
from studies.declare.protocols import protocol
from studies.tables import table7

RUN = Run(
    "test",
    1,
    Model("T"),
    Data("camvid", 11, (480, 360), (352, 480), window=(352, 480), stride=(176, 240)),
    Train(iterations=100),
)
PRETRAINING = Run("test", 1, Model("T"), ClassificationData(), ClassificationTrain())


def changed(name: str, value: object) -> object:
    """Another valid value for a field."""
    special = {
        "T": "S",
        "c": "a",
        (7, 11, 21): (7,),
        None: (1, 4) if name == "stages" else 0.7 if name == "drop_path" else 8,
        **{choices[0]: choices[1] for choices in config.CHOICES.values()},
    }
    if isinstance(value, bool):
        return not value
    if value in special:
        return special[value]
    if isinstance(value, tuple):
        return tuple(changed(name, item) for item in value)
    if name in ("batch", "mixing", "accumulate"):  # each is a multiple of the next
        return 4 * value
    return f"{value}x" if isinstance(value, str) else value + 1


@pytest.mark.parametrize(
    ("run", "part", "name"),
    [
        (run, part, f.name)
        for run in (RUN, PRETRAINING)
        for part in ("model", "data", "train")
        for f in dataclasses.fields(getattr(run, part))
    ],
)
def test_every_field_of_model_data_and_train_changes_the_id(run: Run, part: str, name: str):
    value = getattr(run, part)
    other = dataclasses.replace(value, **{name: changed(name, getattr(value, name))})
    assert dataclasses.replace(run, **{part: other}).id != run.id


# Ids of runs and costs that were recorded before Model and Cost got more fields.
RECORDED = {
    ("camvid-half", "a"): "7f8a0bd176d9",
    ("camvid-half", "b"): "aeb742c3a3a5",
    ("camvid-half", "c"): "b5a38a6d0362",
    ("camvid-half", "c-stage1"): "2974937e21f7",
    ("quick", "a"): "b59f8989c2ba",
    ("quick", "b"): "7ddf8a57eb5a",
    ("quick", "c"): "9df38535f936",
    ("quick", "c-stage1"): "87a1688b4fb5",
}
RECORDED_COSTS = {
    "a": "cost-a1313186251a",
    "b": "cost-9e41d6bc708d",
    "c": "cost-e0082323732a",
    "c-stage1": "cost-2dd3dc5a7466",
}


def test_fields_that_came_later_leave_recorded_ids_alone():
    rows = {row.slug: row for row in table7.STUDY.rows}
    found = {(name, slug): protocol(name).run(table7.STUDY.panel(), rows[slug], seed=0).id for name, slug in RECORDED}
    assert found == RECORDED
    assert {slug: Cost(rows[slug].model, 150, 512, 512).id for slug in RECORDED_COSTS} == RECORDED_COSTS
    assert Cost(Model("T"), 1000, 224, 224).id != Cost(Model("T"), 1000, 224, 224, task="classification").id


@pytest.mark.parametrize("name", config.CHOICES)
def test_every_choice_is_another_id_and_the_default_is_the_frozen_one(name: str):
    (field,) = (f for f in dataclasses.fields(Model) if f.name == name)
    assert field.default == field.metadata["frozen"] == config.CHOICES[name][0]
    models = [Model(**{name: choice}) for choice in config.CHOICES[name]]
    assert len({config.digest(canonical(model)) for model in models}) == len(models)
    with pytest.raises(ValueError, match=rf"Model\.{name}: 'x' is not one of"):
        Model(**{name: "x"})


@pytest.mark.parametrize("change", [{"seed": 1}, {"protocol": "x"}, {"protocol_version": 2}, {"init": "file"}])
def test_seed_protocol_and_beginning_change_the_id(change: dict):
    assert dataclasses.replace(RUN, **change).id != RUN.id


def test_an_upstream_run_enters_by_its_id():
    upstream = dataclasses.replace(RUN, seed=9)
    assert canonical(dataclasses.replace(RUN, init=upstream))["init"] == upstream.id


def test_the_widths_behind_a_size_are_part_of_the_id(monkeypatch: pytest.MonkeyPatch):
    before = RUN.id
    monkeypatch.setitem(SIZES, "T", dataclasses.replace(SIZES["T"], nmf_rank=17))
    anew = dataclasses.replace(RUN, model=dataclasses.replace(RUN.model))  # a value keeps what it once resolved to
    assert anew.id != before


def test_how_a_run_is_carried_out_is_in_no_id():
    names = {f.name for f in dataclasses.fields(Execution)}
    used = set()

    def collect(value: object) -> None:
        if isinstance(value, dict):
            used.update(value)
            for item in value.values():
                collect(item)

    collect(canonical(RUN))
    assert not names & used
    in_a_run = {Run, Model, Data, Train, ClassificationData, ClassificationTrain, config.Size}
    in_an_id = in_a_run | {Cost, Speed, Platform, Evaluation, Weights}
    declared = {c for c in vars(config).values() if isinstance(c, type) and dataclasses.is_dataclass(c)}
    assert declared == in_an_id | {Execution}, "a new dataclass must be in the id or in Execution"


SPEED = Speed(Model("T"), 150, 512, 512, Platform("Example CPU", 16, "2.11.0"))


@pytest.mark.parametrize("field", [f.name for kind in (Speed, Platform) for f in dataclasses.fields(kind)])
def test_every_field_of_a_speed_and_of_its_platform_changes_the_id(field: str):
    """Another machine's measurement is another fact, never a replacement."""
    others = {"model": Model("S"), "platform": Platform("Other CPU", 16, "2.11.0"), "device": "cuda"}
    others |= {"precision": "bfloat16"}
    part = SPEED if field in vars(SPEED) else SPEED.platform
    other = dataclasses.replace(part, **{field: others.get(field) or changed(field, getattr(part, field))})
    assert (other if part is SPEED else dataclasses.replace(SPEED, platform=other)).id != SPEED.id


def test_an_unknown_device_or_precision_is_refused_by_field():
    with pytest.raises(ValueError, match=r"Platform\.device: 'mps' is not one of cpu, cuda"):
        Platform("Example GPU", 16, "2.11.0", device="mps")
    with pytest.raises(ValueError, match=r"Platform\.precision: 'int8'"):
        Platform("Example CPU", 16, "2.11.0", precision="int8")


def test_one_architecture_is_one_value():
    assert Model("T", nmf_rank=16, drop_path=0.1, stages=[2, 3, 4], branches=[7, 11, 21]) == Model("T")
    assert Model("T", nmf_rank=16) != Model("T", nmf_rank=32)
    assert Model("B", nmf_rank=16).widths.nmf_rank == 16


def test_vans_mixer_is_lka_however_it_is_spelled():
    assert Model("S", encoder="van") == Model("S", encoder="van", mixer="lka")
    assert Model("S", encoder="van") != Model("S", mixer="lka")


def test_an_encoder_with_widths_of_its_own_brings_them():
    convnext, segformer = Model("B", encoder="convnext_tiny"), Model(encoder="segformer_b2")
    assert canonical(convnext)["channels"] == [96, 192, 384, 768]
    assert canonical(convnext)["decoder_channels"] == canonical(Model("B"))["decoder_channels"]
    assert canonical(segformer)["decoder_channels"] == 768
    assert Model("B", encoder="convnext_tiny", drop_path=0.1) == convnext


@pytest.mark.parametrize(
    ("unread", "named"),
    [
        ({"encoder": "van", "branches": (7,)}, "branches"),
        ({"mixer": "lka", "attention": False}, "attention"),
        ({"encoder": "convnext_tiny", "mixer": "lka"}, "mixer"),
        ({"encoder": "convnext_tiny", "encoder_norm": "ln"}, "encoder_norm"),
        ({"decoder": "a", "context": "nl"}, "context"),
        ({"decoder": "a", "head_norm": "bn"}, "head_norm"),
        ({"context": "ema", "nmf_gradient": "one-step"}, "nmf_gradient"),
        ({"context": "none", "nmf_rank": 8}, "nmf_rank"),
        ({"encoder": "segformer_b0", "size": "B"}, "size"),
        ({"encoder": "segformer_b0", "decoder": "b"}, "decoder"),
        ({"encoder": "segformer_b0", "context": "nl"}, "context"),
    ],
)
def test_a_field_that_an_architecture_does_not_read_is_refused(unread: dict, named: str):
    with pytest.raises(ValueError, match=rf"Model\.{named}: .* has no effect.*leave it at"):
        Model(**unread)


@given(st.integers(0, 10**9), st.sampled_from(list(SIZES)))
def test_ids_survive_json_and_repeat(seed: int, size: str):
    run = dataclasses.replace(RUN, seed=seed, model=Model(size))
    assert config.digest(json.loads(json.dumps(canonical(run)))) == run.id == dataclasses.replace(run).id
    assert len(run.id) == 12


def test_a_field_added_later_leaves_old_ids_alone_until_it_differs():
    """The mechanism of DESIGN, "Identity": left out while it equals the literal that was frozen with it."""

    @dataclasses.dataclass(frozen=True)
    class Old:
        a: int = 1

    @dataclasses.dataclass(frozen=True)
    class New:
        a: int = 1
        b: str = dataclasses.field(default="x", metadata={"frozen": "x"})

    @dataclasses.dataclass(frozen=True)
    class NewDefault:
        a: int = 1
        b: str = dataclasses.field(default="y", metadata={"frozen": "x"})

    assert canonical(New()) == canonical(Old())
    assert canonical(New(b="z")) == {"a": 1, "b": "z"}
    assert canonical(NewDefault()) == {"a": 1, "b": "y"}


@pytest.mark.parametrize(
    "bad", [{"iterations": 0}, {"iterations": 5, "batch": -1}, {"iterations": 5, "batch": 16, "accumulate": 3}]
)
def test_impossible_recipes_are_refused_by_field(bad: dict):
    with pytest.raises(ValueError, match=r"Train\.(iterations|batch|accumulate)"):
        Train(**bad)


@pytest.mark.parametrize("stride", [None, (768, 0), (768, 1025)])
def test_windows_that_would_leave_pixels_out_are_refused(stride: tuple[int, int] | None):
    with pytest.raises(ValueError, match=r"Data\.stride"):
        Data("cityscapes", 19, (2048, 1024), (1024, 1024), window=(1024, 1024), stride=stride)


def test_a_tests_id_says_which_weights_and_which_bases():
    weights = Weights("t.pth", "0" * 64)
    tests = [Evaluation(w, RUN.model, RUN.data, seed) for w in (RUN, weights) for seed in (0, 1)]
    assert len({test.id for test in tests}) == 4
    assert canonical(tests[0])["weights"] == RUN.id
    assert canonical(tests[2])["weights"] == {"name": "t.pth", "sha256": "0" * 64}
    other = dataclasses.replace(weights, sha256="1" * 64)
    assert dataclasses.replace(tests[2], weights=other).id != tests[2].id


def test_a_recipe_of_another_task_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"Run\.train: a Train does not go with a ClassificationData"):
        dataclasses.replace(PRETRAINING, train=Train(iterations=1))


@given(st.integers(1, 400_000))
def test_a_limited_pretraining_is_a_whole_one_of_its_own(iterations: int):
    limited = ClassificationTrain().limited(iterations)
    assert limited.iterations == min(iterations, ClassificationTrain().iterations)
    assert limited.warmup_iterations + limited.cooldown_iterations <= limited.iterations


def test_the_frozen_literals_are_those_of_the_day_their_fields_came():
    """Never edited, only added to: with another literal here, old ids would come to mean another model."""
    frozen = {
        f"{kind.__name__}.{f.name}": f.metadata["frozen"]
        for kind in (Model, Data, Train, Run, Cost)
        for f in dataclasses.fields(kind)
        if "frozen" in f.metadata
    }
    assert frozen == {
        "Model.encoder": "mscan",
        "Model.mixer": "msca",
        "Model.context": "ham",
        "Model.encoder_norm": "bn",
        "Model.head_norm": "gn",
        "Model.nmf_gradient": "full",
        "Cost.task": "segmentation",
        "Data.window": None,
        "Data.stride": None,
        "Train.accumulate": 1,
    }
