"""A memory: a directed multigraph of the user, people, organisations and places, one file each."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from environments.memory.phrases import normal
from environments.memory.tables import ATTRIBUTES, FIRST, LAST, ORGANISATIONS, RELATIONS, TOWNS, Attribute, Kind

Tree = dict[str, str]
"""Path to text."""


class Entity(NamedTuple):
    """One file. ``facts`` are keys and values, ``links`` are relations and the names that they lead to."""

    name: str
    kind: Kind
    facts: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        return "user.md" if self.kind == "user" else path_of(self.name)

    def text(self) -> str:
        """What the file holds. Empty sections are left out."""
        facts = [f"- {key}: {value}" for key, value in self.facts]
        links = [f"- {relation}: [[{path_of(name)}]]" for relation, name in self.links]
        parts = [[f"# {self.name}", f"- kind: {self.kind}"], ["## Facts", *facts], ["## Relations", *links]]
        return "\n\n".join("\n".join(part) for part in parts if len(part) > 1) + "\n"

    def value(self, key: str) -> str | None:
        """The first value of a key."""
        return dict(reversed(self.facts)).get(key)

    def lacking(self) -> list[Attribute]:
        """What is known of others of the kind, but not of this one."""
        known = dict(self.facts)
        return [attribute for attribute in ATTRIBUTES[self.kind] if attribute.key not in known]


def path_of(name: str) -> str:
    """The file of whoever is not the user."""
    return f"entities/{name.lower().replace(' ', '_')}.md"


class Route(NamedTuple):
    """A way from the user over relations: to ``names[-1]``, which are one more than the relations."""

    relations: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def end(self) -> str:
        return self.names[-1]


class Vault(NamedTuple):
    """All files, the user's first."""

    entities: tuple[Entity, ...]

    def of(self, name: str) -> Entity:
        """Who has that name."""
        return next(entity for entity in self.entities if entity.name == name)

    @property
    def user(self) -> Entity:
        return self.entities[0]

    def tree(self) -> Tree:
        """The files."""
        return {entity.path: entity.text() for entity in self.entities}

    def with_(self, changed: Entity) -> Vault:
        """The same with another or a new entity."""
        kept = tuple(changed if entity.name == changed.name else entity for entity in self.entities)
        return Vault(kept if changed in kept else (*kept, changed))

    def phrases(self) -> frozenset[str]:
        """All names and values, as ``normal`` makes them."""
        values = {value for entity in self.entities for _, value in entity.facts}
        return frozenset(normal(phrase) for phrase in values | {entity.name for entity in self.entities})

    def routes(self, length: int) -> list[Route]:
        """All ways of so many relations that meet nobody twice."""
        return list(self._extended(Route((), (self.user.name,)), length))

    def _extended(self, route: Route, length: int) -> Iterator[Route]:
        if length == 0:
            yield route
            return
        for relation, name in self.of(route.end).links:
            if name not in route.names:
                yield from self._extended(Route((*route.relations, relation), (*route.names, name)), length - 1)


def draw(chance: Random) -> Vault:
    """A user, four to six people, two organisations and two places."""
    people = chance.randint(4, 6)
    given = zip(chance.sample(FIRST, people + 1), chance.sample(LAST, people + 1), strict=True)
    names = [f"{first} {last}" for first, last in given]
    kinds: dict[Kind, list[str]] = {
        "user": names[:1],
        "person": names[1:],
        "organisation": chance.sample(ORGANISATIONS, 2),
        "place": chance.sample(TOWNS, 2),
    }
    used: set[str] = set()
    return Vault(
        tuple(
            Entity(name, kind, _facts(chance, kind, used), tuple(_links(chance, name, kind, kinds)))
            for kind, group in kinds.items()
            for name in group
        )
    )


def _facts(chance: Random, kind: Kind, used: set[str]) -> tuple[tuple[str, str], ...]:
    """Three facts, or four to five of a person; nobody has a value that another one has."""
    most = (4, 5) if kind in {"user", "person"} else (3, 3)
    known = chance.sample(ATTRIBUTES[kind], chance.randint(*most))
    return tuple((attribute.key, unused(chance, attribute, used)) for attribute in known)


def unused(chance: Random, attribute: Attribute, used: set[str]) -> str:
    """A value that is not in ``used``, and now is. The tables have more of them than a memory needs."""
    while (value := attribute.draw(chance)) in used:
        pass
    used.add(value)
    return value


def _links(chance: Random, name: str, kind: Kind, kinds: dict[Kind, list[str]]) -> Iterator[tuple[str, str]]:
    """Each relation comes once; several may lead to one entity. The user knows three to four people, others two."""
    people = chance.randint(3, 4) if kind == "user" else 2
    for target, relations in RELATIONS[kind].items():
        for relation in chance.sample(relations, min(people if target == "person" else 1, len(relations))):
            yield relation, chance.choice([one for one in kinds[target] if one != name])
