"""What is known of a token stays with it, through bins and across sequences."""

import threading
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
import torch

from gpu.ahead import ahead
from gpu.episodes import Episode, Known, bins_of, in_turn_order, least_budget
from rl.sequences import merge
from tests.gpu.trainings import INTERLEAVED, call

WAIT = 30.0
"""Seconds after which what should have happened in a thread did not."""


def test_tokens_are_put_in_the_order_they_were_spoken() -> None:
    episode = Episode(merge(INTERLEAVED, 0))
    assert [one.ids for one in episode.sequences] == [[1, 2, 3, 4, 5], [8, 9]]
    assert [one.turns for one in episode.sequences] == [[0, 0, 2], [1]]
    assert in_turn_order(episode).tolist() == [0, 1, 3, 2]


def test_sequences_that_do_not_say_stand_in_order() -> None:
    sequences = [one.model_copy(update={"turns": []}) for one in merge(INTERLEAVED, 0)]
    assert in_turn_order(Episode(sequences)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("layout", ["tree", "packed", "padded"])
@pytest.mark.parametrize("budget", [5, 8, 100])
def test_a_column_comes_back_at_the_terms_of_each_bin(layout: str, budget: int) -> None:
    second = [call(0, [1], [2, 3, 7]), call(1, [8, 8], [9, 9])]
    batch = [
        Episode(merge(calls, place), group=group, known=Known(value=values))
        for place, (calls, group, values) in enumerate(
            [
                (INTERLEAVED, "a", np.array([0, 1, 2, 3], np.float32)),
                (second, "b", np.array([10, 11, 12, 13, 14], np.float32)),
                (INTERLEAVED, "a", np.array([20, 21, 22, 23], np.float32)),
            ]
        )
    ]
    met = []
    for one in bins_of(batch, budget, layout):  # type: ignore[arg-type]
        found = one.gather("value", torch.device("cpu"))
        assert found is not None
        assert one.gather("returns", torch.device("cpu")) is None
        ids = one.trie.ids[one.trie.terms.token]
        met += list(zip(one.episode().tolist(), ids.tolist(), found.tolist(), strict=True))
    spoken = [[2, 3, 5, 9], [2, 3, 7, 9, 9], [2, 3, 5, 9]]
    starts = [0, 10, 20]
    expected = [(place, ids, starts[place] + k) for place in range(3) for k, ids in enumerate(spoken[place])]
    assert sorted(met) == sorted(expected)


def test_the_least_budget_is_of_what_must_stay_together() -> None:
    batch = [Episode(merge(INTERLEAVED, 0), group="a"), Episode(merge(INTERLEAVED[1:2], 1), group="a")]
    assert least_budget(batch, "packed", None) == 5
    assert least_budget(batch, "packed", "episode") == 7
    assert least_budget(batch, "packed", "group") == 9


def test_the_next_item_is_made_while_one_is_used() -> None:
    begun = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    with closing(ahead(items())) as coming:
        assert next(coming) == 0
        assert begun[1].wait(WAIT), "the second item is not made before it is asked for"
        assert not begun[2].is_set(), "one ahead, not two"
        assert list(coming) == [1, 2]


def test_leaving_early_ends_the_thread_that_makes_items() -> None:
    made: list[int] = []
    makers: set[threading.Thread] = set()
    second = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            makers.add(threading.current_thread())
            made.append(number)
            if number == 1:
                second.set()
            yield number

    with closing(ahead(items())) as coming:
        assert next(coming) == 0
        assert second.wait(WAIT)
        (maker,) = makers
        assert maker is not threading.current_thread()
        assert maker.is_alive()
    maker.join(WAIT)
    assert not maker.is_alive()
    assert made == [0, 1]


def test_an_item_that_cannot_be_made_fails_where_it_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="the second"):
        next(coming)
