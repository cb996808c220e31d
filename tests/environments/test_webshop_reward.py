from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.webshop.products import Product
from environments.webshop.reward import (
    Goal,
    Score,
    choice,
    has_attribute,
    has_option,
    ratio,
    score,
    token_set_ratio,
    type_factor,
)

SHIRT = Product(
    id="B1",
    kind="shirts",
    query="polo shirt",
    path=("Clothing", "Men", "Shirts"),
    title="Fenwick Alpine Polo Shirt, Slim fit",
    brand="Fenwick Alpine",
    bullets=("Slim fit: made for every day", "Wrinkle free: and it stays that way"),
    description="Comes with a spare button in pine green.",
    attributes=("slim fit", "wrinkle free", "machine washable"),
    options={"color": ("navy", "dark red"), "size": ("large", "x-large")},
    cents=2999,
)
GOAL = Goal(SHIRT, ("slim fit", "wrinkle free"), ("navy", "large"), 3000, "buy it", "polo shirt")


def test_everything_right_is_worth_one() -> None:
    bought = score(SHIRT, {"color": "navy", "size": "large"}, GOAL)
    assert bought == Score(type=1.0, attributes=2, options=2, price=True, wanted=5)
    assert bought.total == 1.0


@pytest.mark.parametrize(
    ("change", "chosen", "reward"),
    [
        ({}, {}, 3 / 5),
        ({}, {"color": "navy"}, 4 / 5),
        ({}, {"color": "dark red", "size": "large"}, 4 / 5),
        ({}, {"color": "navy", "size": "x-large"}, 4 / 5),
        ({"cents": 3000}, {"color": "navy", "size": "large"}, 1.0),
        ({"cents": 3001}, {"color": "navy", "size": "large"}, 4 / 5),
        ({"attributes": ("slim fit",), "bullets": ()}, {"color": "navy", "size": "large"}, 4 / 5),
        ({"attributes": (), "bullets": (), "title": "Polo Shirt"}, {}, 1 / 5),
        ({"title": "Fenwick Alpine Belt, Slim fit"}, {"color": "navy", "size": "large"}, 0.0),
    ],
)
def test_a_purchase_by_what_it_got_right(change: dict[str, object], chosen: dict[str, str], reward: float) -> None:
    assert score(replace(SHIRT, **change), chosen, GOAL).total == pytest.approx(reward)


def test_more_options_than_asked_for_earn_nothing_more() -> None:
    goal = GOAL._replace(options=("navy",))
    assert score(SHIRT, {"color": "navy", "size": "large"}, goal).total == 1.0


def test_a_title_is_read_without_brand_attributes_digits_and_plurals() -> None:
    assert SHIRT.type_words == {"polo", "shirt"}
    assert replace(SHIRT, title="The 2 Fenwick Dress Shirts for Slim Men").type_words == {"dress", "shirt", "men"}
    assert replace(SHIRT, title="Slim Fit", attributes=("slim fit",)).type_words == {"slim", "fit"}


ELSEWHERE = {"query": "other", "path": ("Clothing", "Women", "Tops")}


@pytest.mark.parametrize(
    ("title", "words_of_goal", "place", "factor"),
    [
        ("Polo Shirt", "Polo Shirt", ELSEWHERE, 1.0),
        ("Linen Shirt", "Polo Shirt Cotton Collar", ELSEWHERE, 1.0),
        ("Linen Shirt", "Polo Shirt Cotton Collar Cuff", ELSEWHERE, 0.5),
        ("Linen Shirt", "Polo Shirt Cotton Collar Cuff", {"query": "polo shirt", "path": ()}, 1.0),
        ("Linen Shirt", "Polo Shirt Cotton Collar Cuff", {"query": "other", "path": ("Shirts", "Men")}, 1.0),
        ("Linen Shirt", "Shirt aaa bbb ccc ddd eee fff ggg hhh iii", ELSEWHERE, 0.5),
        ("Linen Shirt", "Shirt aaa bbb ccc ddd eee fff ggg hhh iii jjj", ELSEWHERE, 0.1),
        ("Linen Shirt", "Shirt aaa bbb ccc ddd eee fff ggg hhh iii jjj", {"query": "polo shirt"}, 0.1),
        ("Belt", "Polo Shirt", {"query": "polo shirt"}, 0.0),
    ],
)
def test_the_type_factor(title: str, words_of_goal: str, place: dict[str, object], factor: float) -> None:
    product = replace(SHIRT, title=title, **place)
    assert type_factor(product, replace(SHIRT, title=words_of_goal)) == factor


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ("slim fit", True),
        ("fit", True),
        ("wrinkles free", True),
        ("relaxed fit", False),
        ("hand washable", False),
        ("SPARE BUTTON", True),
        ("pare but", True),
        ("spare buttons", False),
    ],
)
def test_an_attribute_matches_one_alike_or_a_part_of_a_text(wanted: str, matches: bool) -> None:
    assert has_attribute(SHIRT, wanted) is matches


@pytest.mark.parametrize(
    ("chosen", "wanted", "matches"),
    [
        ({"color": "navy"}, "navy", True),
        ({"color": "navy"}, "navy blue", True),
        ({"color": "navy"}, "dark red", False),
        ({"size": "large"}, "large", True),
        ({"size": "x-large"}, "large", False),
        ({"color": "x-large"}, "large", True),
        ({}, "navy", False),
        ({}, "pine green", True),
        ({}, "pine", True),
        ({}, "in", True),
        ({}, "gree", False),
    ],
)
def test_an_option_matches_a_choice_or_whole_words_of_a_text(
    chosen: dict[str, str], wanted: str, matches: bool
) -> None:
    assert has_option(SHIRT, chosen, wanted) is matches


def test_the_choice_that_earns_everything() -> None:
    assert choice(SHIRT, GOAL) == {"color": "navy", "size": "large"}
    assert choice(SHIRT, GOAL._replace(options=())) == {}
    assert choice(SHIRT, GOAL._replace(options=("teal",))) is None
    assert choice(replace(SHIRT, cents=3001), GOAL) is None


def test_a_choice_prefers_the_very_value() -> None:
    both = replace(SHIRT, options={"color": ("light navy", "navy")})
    assert choice(both, GOAL._replace(options=("navy",))) == {"color": "navy"}


@pytest.mark.parametrize(
    ("one", "other", "percent"),
    [
        ("navy blue", "blue", 100.0),
        ("Slim-Fit", "fit slim", 100.0),
        # common "washable" (8): against "hand washable" (13) 2 * 8 / 21 beats all other pairs
        ("machine washable", "hand washable", 100 * 16 / 21),
        # "of pack 2" and "of pack 4" share 8 of 9 letters
        ("pack of 2", "pack of 4", 100 * 16 / 18),
        # nothing in common: "ab" and "bc" share one letter
        ("ab", "bc", 50.0),
        ("", "blue", 0.0),
        ("!?", "!?", 0.0),
    ],
)
def test_the_token_set_ratio(one: str, other: str, percent: float) -> None:
    assert token_set_ratio(one, other) == pytest.approx(percent)
    assert token_set_ratio(other, one) == pytest.approx(percent)


def test_the_ratio_of_letters() -> None:
    assert ratio("kitten", "sitting") == pytest.approx(100 * 2 * 4 / 13)
    assert ratio("abc", "xyz") == 0.0
    assert ratio("abc", "abc") == 100.0


def _longest_common(one: str, other: str) -> int:
    row = [0] * (len(other) + 1)
    for a in one:
        before = 0
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], before + 1 if a == b else max(row[j], row[j - 1])
    return row[-1]


letters = st.text("abcd", min_size=1, max_size=20)


@given(letters, letters)
def test_bits_count_what_the_table_of_the_textbook_counts(one: str, other: str) -> None:
    assert ratio(one, other) == pytest.approx(200 * _longest_common(one, other) / (len(one) + len(other)))
