from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
import torch

from resnest_zoo.data.sampling import Draw, TrainingBatches
from resnest_zoo.errors import ConfigError

COUNT = 23
SIZES = torch.randint(1, 5, (COUNT, 2), generator=torch.Generator().manual_seed(0))


def first(count: int, **options) -> list[list[Draw]]:
    settings = {"sizes": SIZES, "batch_size": 4, "seed": 3} | options
    return list(islice(TrainingBatches(**settings), count))


def flat(batches: list[list[Draw]]) -> list[Draw]:
    return [draw for batch in batches for draw in batch]


def naive_groups(pictures: list[int], batch_size: int) -> list[list[int]]:
    """Whenever one of the two groups has enough of the pictures seen so far, it becomes a batch."""
    batches, groups = [], ([], [])
    for picture in pictures:
        height, width = SIZES[picture].tolist()
        group = groups[0 if width > height else 1]
        group.append(picture)
        if len(group) == batch_size:
            batches.append(list(group))
            group.clear()
    return batches


def test_the_order_is_that_of_the_reference():
    """One generator, seeded once, permutes epoch after epoch, and each process takes every n-th picture."""
    generator = torch.Generator().manual_seed(3)
    stream = torch.cat([torch.randperm(COUNT, generator=generator) for _ in range(40)]).tolist()
    for world_size in (1, 3):
        for rank in range(world_size):
            mine = stream[rank::world_size]
            options = {"rank": rank, "world_size": world_size}
            expected = naive_groups(mine, 4)
            got = [[draw.picture for draw in batch] for batch in first(len(expected), **options)]
            assert got == expected
            plain = [draw.picture for draw in flat(first(20, grouped=False, **options))]
            assert plain == mine[:80]


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_the_processes_together_see_each_picture_once_in_an_epoch(world_size):
    turns = Counter()
    for rank in range(world_size):
        # More than three epochs of each process's share.
        options = {"grouped": False, "batch_size": 1, "rank": rank, "world_size": world_size}
        turns.update(flat(first(4 * COUNT, **options)))
    assert max(turns.values()) == 1
    for epoch in range(3):
        assert {draw.picture for draw in turns if draw.epoch == epoch} == set(range(COUNT))


def test_no_batch_mixes_shapes_and_none_is_lost():
    batches = first(60)
    for batch in batches:
        assert len(batch) == 4
        assert len({bool(SIZES[draw.picture][1] > SIZES[draw.picture][0]) for draw in batch}) == 1
    draws = flat(batches)
    assert len(set(draws)) == len(draws)
    complete = [draw for draw in draws if draw.epoch < 8]
    assert len(complete) == 8 * COUNT
    mixed = first(60, grouped=False)
    assert any(len({bool(SIZES[d.picture][1] > SIZES[d.picture][0]) for d in batch}) == 2 for batch in mixed)


@pytest.mark.parametrize("done", [0, 1, 2, 5, 6, 7, 31, 90])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_resumed_run_goes_on_with_the_very_batches(done, grouped, rank):
    options = {"grouped": grouped, "rank": rank, "world_size": 2}
    assert first(10, first=done, **options) == first(done + 10, **options)[done:]


def test_it_can_be_run_through_again():
    batches = TrainingBatches(SIZES, 4, 3, first=2)
    assert list(islice(batches, 5)) == list(islice(batches, 5))


def test_epochs_and_seeds_differ():
    draws = flat(first(COUNT, grouped=False))
    epochs = [[draw.picture for draw in draws if draw.epoch == epoch] for epoch in (0, 1)]
    assert epochs[0] != epochs[1]
    assert first(1) != first(1, seed=4)


def test_a_single_picture_fills_batches():
    assert flat(first(2, sizes=SIZES[:1], batch_size=2)) == [Draw(epoch, 0) for epoch in range(4)]


@pytest.mark.parametrize(
    "options",
    [
        {"sizes": SIZES[:0]},
        {"batch_size": 0},
        {"seed": -1},
        {"rank": 1},
        {"rank": -1},
        {"world_size": 0},
        {"first": -1},
    ],
)
def test_numbers_out_of_range(options):
    with pytest.raises(ConfigError, match="batches need"):
        first(1, **options)
