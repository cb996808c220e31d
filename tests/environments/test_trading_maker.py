from __future__ import annotations

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.trading.maker import Maker, Side

makers = st.builds(Maker, yes=st.integers(0, 3000), no=st.integers(0, 3000), depth=st.integers(150, 1000))
sides: st.SearchStrategy[Side] = st.sampled_from(("yes", "no"))
counts = st.integers(1, 3000)


def test_prices_by_hand() -> None:
    assert Maker(0, 0, 200).price("yes") == 0.5
    assert Maker(round(200 * log(3)), 0, 200).price("yes") == pytest.approx(0.75, abs=1e-3)
    assert Maker(0, round(200 * log(3)), 200).price("yes") == pytest.approx(0.25, abs=1e-3)


def test_costs_by_hand() -> None:
    maker = Maker(0, 0, 100)
    # 100 ln((e + 1) / 2) = 62.0115 dollars
    assert maker.cost("yes", 100) == 6202
    assert maker.cost("no", 100) == 6202
    assert maker.cost("yes", 0) == maker.proceeds("yes", 0) == 0
    maker.trade("yes", 100)
    assert maker.proceeds("yes", 100) == 6201
    assert maker.price("yes") == pytest.approx(0.7311, abs=1e-4)


def test_what_money_buys_by_hand() -> None:
    maker = Maker(0, 0, 100)
    assert maker.affordable("yes", 6202) == 100
    assert maker.affordable("yes", 6201) == 99
    assert maker.affordable("yes", 50) == 0
    assert maker.affordable("yes", 51) == 1


@given(maker=makers)
def test_prices_are_inside_0_and_1_and_add_up(maker: Maker) -> None:
    assert 0 < maker.price("yes") < 1
    assert 0 < maker.price("no") < 1
    assert maker.price("yes") + maker.price("no") == pytest.approx(1)


@given(maker=makers, side=sides, count=counts)
def test_there_and_back_costs_at_most_the_rounding(maker: Maker, side: Side, count: int) -> None:
    before = (maker.yes, maker.no)
    cost = maker.cost(side, count)
    maker.trade(side, count)
    assert 0 <= cost - maker.proceeds(side, count) <= 1
    maker.trade(side, -count)
    assert (maker.yes, maker.no) == before


@given(maker=makers, side=sides, count=counts, other=counts)
def test_a_purchase_in_two_parts_is_never_cheaper(maker: Maker, side: Side, count: int, other: int) -> None:
    whole = maker.cost(side, count + other)
    first = maker.cost(side, count)
    maker.trade(side, count)
    assert 0 <= first + maker.cost(side, other) - whole <= 1


@given(maker=makers, side=sides, count=counts)
def test_both_sides_cost_at_least_what_they_pay(maker: Maker, side: Side, count: int) -> None:
    first = maker.cost(side, count)
    maker.trade(side, count)
    second = maker.cost("no" if side == "yes" else "yes", count)
    assert 100 * count <= first + second <= 100 * count + 1


@given(maker=makers, side=sides, count=counts)
def test_buying_raises_the_price_and_costs_between_its_ends(maker: Maker, side: Side, count: int) -> None:
    before, cost = maker.price(side), maker.cost(side, count)
    maker.trade(side, count)
    assert before <= maker.price(side)
    assert 100 * count * before - 1e-3 <= cost <= 100 * count * maker.price(side) + 1


@given(maker=makers, side=sides, cents=st.integers(0, 200_000))
def test_affordable_is_the_most_that_can_be_paid(maker: Maker, side: Side, cents: int) -> None:
    most = maker.affordable(side, cents)
    assert maker.cost(side, most) <= cents < maker.cost(side, most + 1)


@given(trades=st.lists(st.tuples(sides, st.integers(0, 500)), max_size=20))
def test_the_maker_never_loses_more_than_b_ln_2(trades: list[tuple[Side, int]]) -> None:
    maker, taken = Maker(0, 0, 200), 0
    for side, count in trades:
        taken += maker.cost(side, count)
        maker.trade(side, count)
    assert 100 * max(maker.yes, maker.no) - taken <= 100 * 200 * log(2)
