"""Promises of `segnext.data.stream`: batches are a function of (seed, iteration), and of nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segnext.config import Data
from segnext.data import DataError
from segnext.data.stream import Loading, Share, stream

DATA = Data("diagnostic/scene", 2, scale=(24, 16), crop=(16, 24))


untimed = settings(deadline=None, max_examples=12)  # timings are no promise: the machine may be busy


class Numbered:
    """A source whose image k is written all over with k."""

    classes = ("even", "odd")

    def __init__(self, count, damaged=None):
        self._count, self._damaged = count, damaged

    def __len__(self):
        return self._count

    def name(self, index):
        return f"number {index}"

    def load(self, index):
        if index == self._damaged:
            raise DataError(f"{self.name(index)}: damaged")
        return np.full((16, 24, 3), index, np.uint8), np.full((16, 24), index % 2, np.uint8)

    def fingerprint(self):
        return f"{self._count:012x}"


PLAIN = Data("diagnostic/scene", 2, scale=(24, 16), crop=(16, 24), ratio=(1.0, 1.0), flip=0.0, photometric=False)


def shown(batch):
    """The numbers of the images in a batch of plain samples."""
    return [round(level) for level in (batch.images[:, 0, 0, 0] * 58.395 + 123.675).tolist()]


def assert_equal(one, other):
    assert one.iteration == other.iteration
    assert torch.equal(one.samples, other.samples)
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)


def test_batches_have_the_shapes_that_are_promised():
    batches = list(stream(DATA, Numbered(10), seed=0, batch=4, start=2, iterations=5))
    assert [batch.iteration for batch in batches] == [2, 3, 4]
    for batch in batches:
        assert batch.samples.tolist() == [4 * batch.iteration + j for j in range(4)]
        assert batch.samples.dtype == torch.int64
        assert (batch.images.shape, batch.images.dtype) == ((4, 3, 16, 24), torch.float32)
        assert (batch.labels.shape, batch.labels.dtype) == ((4, 16, 24), torch.uint8)


def test_a_finished_stream_is_empty():
    assert list(stream(DATA, Numbered(10), seed=0, batch=4, start=5, iterations=5)) == []


@untimed
@given(st.integers(0, 2**40), st.integers(1, 9), st.integers(1, 5), st.integers(0, 8))
def test_a_restart_continues_the_same_stream(seed, count, batch, start):
    whole = list(stream(DATA, Numbered(count), seed, batch, 0, 9))
    for before, after in zip(whole[start:], stream(DATA, Numbered(count), seed, batch, start, 9), strict=True):
        assert_equal(before, after)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    alone = list(stream(DATA, Numbered(7), 3, 4, 5, 12))
    for before, after in zip(alone, stream(DATA, Numbered(7), 3, 4, 5, 12, loading=Loading(workers)), strict=True):
        assert_equal(before, after)


@untimed
@given(st.integers(0, 2**40), st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.integers(0, 4))
def test_the_shares_of_any_number_of_processes_are_the_batch_of_one(seed, count, each, size, start):
    batch = each * size
    whole = list(stream(DATA, Numbered(count), seed, batch, start, 6))
    shares = [stream(DATA, Numbered(count), seed, batch, start, 6, share=Share(rank, size)) for rank in range(size)]
    for one, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert {(part.iteration, len(part.samples)) for part in parts} == {(one.iteration, each)}
        for name in ("samples", "images", "labels"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(one, name))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_change_no_share():
    alone = list(stream(DATA, Numbered(7), 3, 4, 5, 9, share=Share(1, 2)))
    for before, after in zip(alone, stream(DATA, Numbered(7), 3, 4, 5, 9, Loading(2), Share(1, 2)), strict=True):
        assert_equal(before, after)


@given(st.integers(1, 30), st.integers(1, 9))
def test_shares_are_equal_or_refused(samples, size):
    if samples % size:
        with pytest.raises(ValueError, match=f"{samples} samples .* no {size} equal shares"):
            Share(0, size).of(range(samples))
    else:
        assert [n for rank in range(size) for n in Share(rank, size).of(range(samples))] == list(range(samples))


@untimed
@given(st.integers(0, 2**40), st.integers(1, 30), st.integers(1, 7))
def test_every_epoch_shows_every_image_once(seed, count, batch):
    iterations = -(-3 * count // batch)
    order = [image for item in stream(PLAIN, Numbered(count), seed, batch, 0, iterations) for image in shown(item)]
    for epoch in range(3):
        assert sorted(order[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed):
        return [image for item in stream(PLAIN, Numbered(30), seed, 10, 0, 6) for image in shown(item)]

    assert order(0) == order(0)
    assert order(0)[:30] != order(0)[30:]
    assert order(0) != order(1)


def test_the_same_image_is_augmented_differently_each_time():
    first, second = stream(DATA, Numbered(1), 0, 1, 0, 2)
    assert not torch.equal(first.images, second.images)


def test_the_batch_size_does_not_change_a_sample():
    small = list(stream(DATA, Numbered(7), 1, 2, 0, 6))
    large = list(stream(DATA, Numbered(7), 1, 6, 0, 2))
    assert torch.equal(torch.cat([batch.images for batch in small]), torch.cat([batch.images for batch in large]))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1])
def test_random_state_outside_is_left_alone(workers):
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(stream(DATA, Numbered(5), 0, 2, 0, 3, loading=Loading(workers)))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_data_end_the_stream_with_their_own_error(workers):
    with pytest.raises(DataError, match="number 3: damaged"):
        list(stream(DATA, Numbered(5, damaged=3), 0, 2, 0, 3, loading=Loading(workers)))
