"""Pretraining learns, stops anywhere and hands its weights on; its schedule, groups and loss are timm's, as VAN's."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from segnext import Execution, Model, Run, SegNeXt
from segnext.config import ClassificationData, ClassificationTrain
from segnext.data.imagenet import ClassFolderSource
from segnext.data.stream import Loading, Share
from segnext.distributed import distributed
from segnext.model import MSCANClassifier
from segnext.released_weights import load_encoder, to_released
from segnext.training.classification import (
    Classification,
    Top1,
    evaluate_classification,
    learning_rate,
    parameter_groups,
)
from segnext.training.train import Stopped, build, task, train

DATA = ClassificationData(dataset="shapes", classes=3, crop=(32, 32), area=(0.5, 1.0), test_resize=36)
TRAIN = ClassificationTrain(
    iterations=60,
    batch=24,
    learning_rate=4e-3,
    epoch_iterations=6,
    warmup_iterations=6,
    cooldown_iterations=6,
    mixing=12,
)
RUN = Run("test", 1, Model("micro", drop_path=0.1), DATA, TRAIN, seed=2)
SHORT = dataclasses.replace(RUN, train=dataclasses.replace(TRAIN.limited(5), batch=4, mixing=2))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes, discs and crosses in any colours, 64x64: what sets a class apart is its shape."""
    folder = tmp_path_factory.mktemp("shapes")
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 11)):
        for name in ("cross", "disc", "stripes"):
            (folder / split / name).mkdir(parents=True)
            for k in range(count):
                shape(name, random).save(folder / split / name / f"{k:02}.jpeg", "JPEG", quality=95)
    return folder


def shape(name: str, random: np.random.Generator) -> Image.Image:
    ground, colour = (tuple(int(c) for c in random.integers(low, low + 90, 3)) for low in (0, 165))
    image = Image.new("RGB", (64, 64), ground)
    draw = ImageDraw.Draw(image)
    x, y, size = random.integers(26, 38), random.integers(26, 38), random.integers(16, 22)
    match name:
        case "disc":
            draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)
        case "cross":
            draw.rectangle((x - 5, y - size, x + 5, y + size), fill=colour)
            draw.rectangle((x - size, y - 5, x + size, y + 5), fill=colour)
        case "stripes":
            for top in range(int(random.integers(8)), 64, 10):
                draw.rectangle((0, top, 64, top + 4), fill=colour)
    return image


@pytest.fixture(scope="module")
def source(root: Path) -> ClassFolderSource:
    return ClassFolderSource(DATA, "train", root)


@pytest.fixture(scope="module")
def trained(root: Path, source: ClassFolderSource, tmp_path_factory: pytest.TempPathFactory) -> MSCANClassifier:
    model, _ = train(RUN, source, tmp_path_factory.mktemp("states"), Execution(checkpoint_interval=1000))
    assert isinstance(model, MSCANClassifier)
    return model


def test_a_short_training_tells_shapes_apart(root: Path, trained: MSCANClassifier):
    testing = ClassFolderSource(DATA, "val", root)
    untrained = evaluate_classification(build(RUN), testing, DATA, batch=11)
    found = evaluate_classification(trained, testing, DATA, batch=11)
    assert untrained.images == found.images == 33
    assert found.percent is not None
    assert found.percent > 80  # chance: 33
    assert found.correct > untrained.correct


def test_top1_counts_each_image_once_whatever_the_batch_and_the_share(root: Path, trained: MSCANClassifier):
    testing = ClassFolderSource(DATA, "val", root)
    progress: list[tuple[int, int]] = []
    whole = evaluate_classification(
        trained, testing, DATA, batch=10, progress=lambda done, total: progress.append((done, total))
    )
    assert progress == [(10, 33), (20, 33), (30, 33), (33, 33)]
    for size in (2, 4, 50):
        parts = [evaluate_classification(trained, testing, DATA, share=Share(k, size), batch=5) for k in range(size)]
        assert sum(parts, Top1(0, 0)) == whole
    assert evaluate_classification(trained, testing, DATA, batch=7, workers=2) == whole
    assert whole.percent == 100 * whole.correct / 33
    assert Top1(0, 0).percent is None


def test_the_encoder_starts_a_segmentation_run(trained: MSCANClassifier):
    content = to_released(trained)
    model = SegNeXt(RUN.model, classes=7)
    load_encoder(model, content)  # raises for every key that is left over on either side
    theirs = trained.encoder.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in model.encoder.state_dict().items())
    pretrained = dataclasses.replace(SHORT, init=RUN)
    assert torch.equal(
        next(iter(build(pretrained, content).encoder.state_dict().values())), next(iter(theirs.values()))
    )


def final_state(source: ClassFolderSource, folder: Path, *stops: int) -> dict[str, torch.Tensor]:
    for steps in stops:
        answers = iter([False] * (steps - 1) + [True])
        with pytest.raises(Stopped):
            train(SHORT, source, folder, Execution(checkpoint_interval=2), stop=answers.__next__)
    return train(SHORT, source, folder, Execution(checkpoint_interval=2))[0].state_dict()


def test_stopping_and_continuing_ends_with_the_same_bits(source: ClassFolderSource, tmp_path: Path):
    whole = final_state(source, tmp_path / "whole")
    stopped = final_state(source, tmp_path / "stopped", 1, 3)
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)


def train_a_share(rank: int, root: Path, folder: Path, port: str) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.set_num_threads(1)
    losses: list[float] = []
    with distributed("cpu", 2) as world:
        source = ClassFolderSource(DATA, "train", root)
        train(SHORT, source, folder, Execution(), world=world, on_step=lambda step: losses.append(step.loss))
        if world.first:
            (folder / "losses.json").write_text(json.dumps(losses))


@pytest.mark.long
def test_two_processes_train_what_one_trains(root: Path, source: ClassFolderSource, tmp_path: Path):
    losses: list[float] = []
    train(SHORT, source, tmp_path, Execution(), on_step=lambda step: losses.append(step.loss))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    torch.multiprocessing.spawn(train_a_share, (root, tmp_path / "two", port), nprocs=2)
    assert json.loads((tmp_path / "two/losses.json").read_text()) == pytest.approx(losses, rel=1e-4)
    assert len(set(losses)) == 5


def test_batches_depend_neither_on_workers_nor_on_where_a_run_restarts(source: ClassFolderSource):
    this = task(SHORT, source)
    assert isinstance(this, Classification)
    before = torch.get_rng_state()
    alone, loaded = (list(this.batches(0, Share(), Loading(workers))) for workers in (0, 2))
    assert torch.equal(before, torch.get_rng_state())
    restarted = list(this.batches(3, Share(), Loading()))
    assert (len(alone), len(restarted)) == (5, 2)
    for one, other in [*zip(alone, loaded, strict=True), *zip(alone[3:], restarted, strict=True)]:
        assert torch.equal(one.samples, other.samples)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_the_parts_of_an_accumulated_batch_are_its_samples(source: ClassFolderSource):
    parted = dataclasses.replace(SHORT, train=dataclasses.replace(SHORT.train, accumulate=2))
    whole = list(task(SHORT, source).batches(0, Share(), Loading()))
    parts = list(task(parted, source).batches(0, Share(), Loading()))
    assert len(parts) == 2 * len(whole)
    for batch, one, two in zip(whole, parts[::2], parts[1::2], strict=True):
        assert torch.equal(batch.images, torch.cat([one.images, two.images]))
        assert torch.equal(batch.labels, torch.cat([one.labels, two.labels]))


def test_blocks_that_do_not_fill_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"ClassificationTrain\.mixing: blocks of 128 .*multiple of 128"):
        ClassificationTrain(batch=64)
    with pytest.raises(ValueError, match=r"in 16 equal parts"):
        ClassificationTrain(accumulate=16)


def test_the_loss_is_the_soft_target_cross_entropy(source: ClassFolderSource):
    this, model = task(SHORT, source), build(SHORT).eval()
    images, targets = torch.randn(4, 3, 32, 32), torch.rand(4, 3).softmax(dim=1)
    expected = -(targets * model(images).log_softmax(dim=1)).sum(dim=1).mean()  # timm's SoftTargetCrossEntropy
    torch.testing.assert_close(this.loss(model, images, targets), expected)


def timms_rate(epoch: int) -> float:
    """CosineLRScheduler as VAN's train.py sets it: t_initial 300, warmup_t 5, both low rates 1e-6, one cycle."""
    if epoch < 5:
        return 1e-6 + epoch * (1e-3 - 1e-6) / 5
    return 1e-6 + 0.5 * (1e-3 - 1e-6) * (1 + math.cos(math.pi * epoch / 300)) if epoch < 300 else 1e-6


def test_the_schedule_is_timms_constant_through_an_epoch():
    settings = ClassificationTrain()
    assert settings.iterations == 310 * 1251
    for epoch in range(310):
        rates = [learning_rate(settings, epoch * 1251 + step) for step in (0, 1, 700, 1250)]
        assert rates == pytest.approx([timms_rate(epoch)] * 4, rel=1e-12)
    assert learning_rate(settings, 0) == 1e-6
    assert learning_rate(settings, 387_809) == 1e-6


@pytest.mark.parametrize("iterations", [1, 7, 100, 5000])
def test_a_limited_recipe_warms_up_and_falls_as_the_whole_one(iterations: int):
    settings = ClassificationTrain().limited(iterations)
    rates = [learning_rate(settings, k) for k in range(iterations)]
    assert all(1e-6 <= rate <= 1e-3 for rate in rates)
    top = rates.index(max(rates))
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[:top] == sorted(rates[:top])


def test_biases_and_other_vectors_are_not_decayed():
    model = MSCANClassifier(Model("micro"), 3)
    decayed, plain = parameter_groups(model, ClassificationTrain())
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert all(parameter.ndim in (2, 4) for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))
    assert torch.optim.AdamW(plain["params"]).defaults["eps"] == 1e-8
