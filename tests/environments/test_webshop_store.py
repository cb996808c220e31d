from __future__ import annotations

from itertools import combinations
from math import log

import pytest

from environments.dealing import digest_of
from environments.webshop.catalogue import catalogue, small_catalogue
from environments.webshop.environment import full_store, small_store
from environments.webshop.kinds import KINDS
from environments.webshop.pages import Long, Short
from environments.webshop.products import Product
from environments.webshop.reward import has_attribute, has_option, same_value
from environments.webshop.search import Index, terms
from environments.webshop.visit import Page, Visit


def _facts(products: tuple[Product, ...]) -> str:
    return digest_of([[p.id, p.title, p.bullets, p.description, p.attributes, p.options, p.cents] for p in products])


def test_the_catalogues_are_the_same_everywhere() -> None:
    assert len(catalogue()) == 1200
    assert len(small_catalogue()) == 27
    assert _facts(catalogue())[:16] == "b61bb1a30113a162"
    assert _facts(small_catalogue())[:16] == "fb191cbddd508d0f"


@pytest.mark.parametrize("products", [catalogue(), small_catalogue()])
def test_no_two_products_share_a_title_or_a_code(products: tuple[Product, ...]) -> None:
    assert len({product.title for product in products}) == len(products)
    assert len({product.id.lower() for product in products}) == len(products)


@pytest.mark.parametrize("products", [catalogue(), small_catalogue()])
def test_a_product_matches_its_own_attributes_and_no_others(products: tuple[Product, ...]) -> None:
    pools: dict[str, set[str]] = {}
    for product in products:
        pools.setdefault(product.kind, set()).update(product.attributes)
    for product in products:
        assert {wanted for wanted in pools[product.kind] if has_attribute(product, wanted)} == {*product.attributes}


@pytest.mark.parametrize("products", [catalogue(), small_catalogue()])
def test_an_option_matches_when_it_is_chosen_and_only_then(products: tuple[Product, ...]) -> None:
    for product in products:
        values = [(axis, value) for axis, several in product.options.items() for value in several]
        assert len({value for _, value in values}) == len(values)
        assert not any(has_option(product, {}, value) for _, value in values)
        for (axis, value), (_, other) in combinations(values, 2):
            assert not same_value(axis, value, other), (product.kind, value, other)


def test_a_product_of_another_kind_earns_less_by_its_title() -> None:
    assert len(KINDS) == 24
    for kind in KINDS:
        nouns = {word for product in catalogue() if product.kind == kind.name for word in product.type_words}
        assert nouns == {word for noun in kind.nouns for word in terms(noun)}


def test_bm25_by_hand() -> None:
    index = Index(["red shirt", "red red hat", "blue hat lamp lamp"])
    # lengths 2, 3, 4 with mean 3; norms 0.9 * (0.6 + 0.4 * length / 3)
    idf_of_two = log(1 + 1.5 / 2.5)
    idf_of_one = log(1 + 2.5 / 1.5)
    found = index.search("RED hats", 10)
    assert [number for number, _ in found] == [1, 0, 2]
    assert found[0][1] == pytest.approx(idf_of_two * 2 / (2 + 0.9) + idf_of_two * 1 / (1 + 0.9))
    assert found[1][1] == pytest.approx(idf_of_two * 1 / (1 + 0.9 * (0.6 + 0.8 / 3)))
    assert found[2][1] == pytest.approx(idf_of_two * 1 / (1 + 0.9 * (0.6 + 1.6 / 3)))
    assert index.search("lamp", 10) == [(2, pytest.approx(idf_of_one * 2 / (2 + 0.9 * (0.6 + 1.6 / 3))))]


def test_a_search_stops_at_the_most_and_ignores_what_is_nowhere() -> None:
    index = Index(["red", "red", "red", "blue"])
    assert [number for number, _ in index.search("red red the zebra", 2)] == [0, 1]
    assert index.search("zebra", 10) == []
    assert index.search("", 10) == []


def _names(visit: Visit) -> list[str]:
    return [product.id for product in visit.shown()]


def test_a_visit_turns_pages_and_comes_back() -> None:
    shop = full_store()
    visit = Visit(shop, Long(), "buy")
    assert (visit.page, visit.buttons(), visit.read()) == (
        Page.FRONT,
        [],
        "WebShop [SEP] Instruction: [SEP] buy [SEP] Search",
    )
    visit.search("dress shirt")
    first = _names(visit)
    assert len(first) == 10
    assert visit.buttons() == ["Back to Search", "Next >", *first]
    for _ in range(4):
        visit.click("Next >")
    assert visit.fixed() == ["Back to Search", "< Prev"]
    assert "Page 5 (Total results: 50)" in visit.read()
    for _ in range(4):
        visit.click("< Prev")
    assert _names(visit) == first
    visit.click("Back to Search")
    assert visit.page is Page.FRONT


def test_a_visit_reads_chooses_and_buys() -> None:
    shop = full_store()
    product = next(p for p in shop.products if p.kind == "mens shirts")
    color, other, size = *product.options["color"][:2], product.options["size"][0]
    visit = Visit(shop, Long(), "buy")
    visit.search(product.title)
    visit.click(product.id)
    assert visit.read().endswith(f"{product.title} [SEP] Price: ${product.cents / 100:.2f} [SEP] " + LAST)
    for value in (color, size, other):
        visit.click(value)
    assert visit.chosen == {"color": other, "size": size}
    assert f"Chosen: color {other}, size {size} [SEP] " + LAST in visit.read()
    for name, text in (("Description", product.description), ("Attributes", " [SEP] ".join(product.attributes))):
        visit.click(name)
        assert visit.read() == f"Instruction: [SEP] buy [SEP] Back to Search [SEP] < Prev [SEP] {text}"
        visit.click("< Prev")
    assert visit.chosen == {"color": other, "size": size}
    visit.click("< Prev")
    visit.click(product.id)
    assert visit.chosen == {}
    visit.click("Buy Now")
    assert visit.page is Page.BOUGHT


LAST = "Description [SEP] Features [SEP] Attributes [SEP] Buy Now"


def test_a_search_that_finds_nothing_shows_an_empty_page() -> None:
    visit = Visit(full_store(), Long(), "buy")
    visit.search("zebra")
    assert visit.buttons() == ["Back to Search"]
    assert visit.read().endswith("Back to Search [SEP] Page 1 (Total results: 0)")


def test_the_small_store_is_searched_by_nouns() -> None:
    shop = small_store()
    assert [product.query for product in shop.find("shirts")] == ["shirt"] * 3
    assert shop.find("soft striped") == []
    visit = Visit(shop, Short(), "buy")
    visit.search("a shirt")
    assert visit.read().splitlines()[-1] == "buttons: search"
