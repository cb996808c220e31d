from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from environments.memory.phrases import normal
from environments.memory.tables import ATTRIBUTES, BY_KEY, FIRST, LAST, ORGANISATIONS, RELATIONS, TOWNS, words
from environments.memory.vault import Entity, Vault, draw

ADA = Entity("Ada Brandt", "user", (("pet", "gecko"),), (("cousin", "Ivan Marek"), ("bank", "Foxglove Dairy")))
IVAN = Entity("Ivan Marek", "person", (("shoe_size", "41"),), (("boss", "Ada Brandt"), ("tutor", "Olga Quist")))
OLGA = Entity("Olga Quist", "person", (), (("cousin", "Ivan Marek"),))
BANK = Entity("Foxglove Dairy", "organisation", (("product", "bells"),), (("founder", "Ivan Marek"),))
SMALL = Vault((ADA, IVAN, OLGA, BANK))


def test_files_by_hand() -> None:
    assert SMALL.tree() == {
        "user.md": (
            "# Ada Brandt\n- kind: user\n\n## Facts\n- pet: gecko\n\n## Relations\n"
            "- cousin: [[entities/ivan_marek.md]]\n- bank: [[entities/foxglove_dairy.md]]\n"
        ),
        "entities/ivan_marek.md": (
            "# Ivan Marek\n- kind: person\n\n## Facts\n- shoe_size: 41\n\n## Relations\n"
            "- boss: [[entities/ada_brandt.md]]\n- tutor: [[entities/olga_quist.md]]\n"
        ),
        "entities/olga_quist.md": (
            "# Olga Quist\n- kind: person\n\n## Relations\n- cousin: [[entities/ivan_marek.md]]\n"
        ),
        "entities/foxglove_dairy.md": (
            "# Foxglove Dairy\n- kind: organisation\n\n## Facts\n- product: bells\n\n## Relations\n"
            "- founder: [[entities/ivan_marek.md]]\n"
        ),
    }


def test_routes_meet_nobody_twice() -> None:
    assert [route.relations for route in SMALL.routes(0)] == [()]
    assert [route.end for route in SMALL.routes(1)] == ["Ivan Marek", "Foxglove Dairy"]
    assert [route.relations for route in SMALL.routes(2)] == [("cousin", "tutor"), ("bank", "founder")]
    assert [route.names for route in SMALL.routes(3)] == [("Ada Brandt", "Foxglove Dairy", "Ivan Marek", "Olga Quist")]


def test_what_a_memory_holds() -> None:
    names = {" ada brandt ", " ivan marek ", " olga quist ", " foxglove dairy "}
    assert SMALL.phrases() == names | {" gecko ", " 41 ", " bells "}
    assert "shoe_size" not in {attribute.key for attribute in IVAN.lacking()}
    changed = SMALL.with_(IVAN._replace(facts=(("pet", "poodle"),)))
    assert (changed.of("Ivan Marek").facts, len(changed.entities)) == ((("pet", "poodle"),), 4)
    assert len(SMALL.with_(Entity("Nils Olsen", "person")).entities) == 5


@pytest.mark.parametrize("seed", range(50))
def test_drawn_memories(seed: int) -> None:
    vault = draw(Random(seed))
    assert draw(Random(seed)) == vault
    values = [value for entity in vault.entities for _, value in entity.facts]
    assert len(set(values)) == len(values)
    assert 9 <= len(vault.tree()) == len(vault.entities) <= 11
    for entity in vault.entities:
        relations = [relation for relation, _ in entity.links]
        assert len(set(relations)) == len(relations)
        for relation, name in entity.links:
            assert name not in {entity.name, vault.user.name}
            assert relation in RELATIONS[entity.kind][vault.of(name).kind]
    assert min(len(vault.routes(length)) for length in (1, 2, 3)) > 0


def _values(key: str) -> set[str]:
    chance = Random(0)
    return {BY_KEY[key].draw(chance) for _ in range(300)}


def test_no_word_of_the_tables_is_part_of_another() -> None:
    """Else a reply that holds one would hold the other."""
    named = {normal(f"{first} {last}") for first in FIRST for last in LAST[:1]} | set(map(normal, TOWNS))
    said = {normal(words(key)) for key in BY_KEY}
    said |= {normal(words(one)) for group in RELATIONS.values() for ones in group.values() for one in ones}
    free = {"birth_date", "phone_number", "founding_year", "shoe_size"}
    listed = {normal(value) for key in BY_KEY.keys() - free for value in _values(key)}
    for one, other in combinations(sorted(named | said | listed | set(map(normal, ORGANISATIONS))), 2):
        assert one not in other
        assert other not in one


def test_a_pattern_finds_the_values_of_its_attribute_and_of_no_other() -> None:
    for key, attribute in BY_KEY.items():
        for value in _values(key):
            assert attribute.pattern.findall(normal(value)) == [normal(value).strip()]
    listed = [attribute for attribute in BY_KEY.values() if len(_values(attribute.key)) <= 11]
    for one, other in combinations(listed, 2):
        if not {one.key, other.key} <= {"closing_day", "market_day"}:
            assert not any(one.pattern.search(normal(value)) for value in _values(other.key))


def test_there_are_more_values_than_a_memory_needs() -> None:
    for kind, most in {"person": 8, "organisation": 5, "place": 5}.items():
        for attribute in ATTRIBUTES[kind]:  # type: ignore[index]
            assert len(_values(attribute.key)) > most - (attribute.key in {"closing_day", "market_day"})
