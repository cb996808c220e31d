"""Requests that are answered: what the memory says, what it may not say, and what it does not say."""

from __future__ import annotations

from random import Random

from environments.memory.phrases import Terms
from environments.memory.tables import BY_KEY, words
from environments.memory.task import Task, attributes, reads, said, terms, thought, whose
from environments.memory.vault import Route, Vault, unused

NAME_SHARE = 0.3
"""Of retrievals that ask for a name instead of a fact."""


def retrieval(chance: Random, vault: Vault, hops: int) -> Task:
    """A fact of the user's file (0 hops), of one that it links to, or of one beyond that."""
    if chance.random() < NAME_SHARE:
        return _name(chance, vault, hops)
    route = chance.choice(vault.routes(hops))
    key, value = chance.choice(vault.of(route.end).facts)
    return _answer(vault, route, f"retrieval-{hops}", f"What is {whose(route.relations)} {words(key)}?", key, value)


def _name(chance: Random, vault: Vault, hops: int) -> Task:
    """The name that the last file read links to."""
    longer = chance.choice(vault.routes(hops + 1))
    route = Route(longer.relations[:-1], longer.names[:-1])
    asked = f"{whose(route.relations)} {words(longer.relations[-1])}"
    reply = said(f"Your {asked.removeprefix('my ')} is {longer.end}.")
    return _unchanged(
        vault,
        f"retrieval-{hops}",
        f"What is the name of {asked}?",
        terms(vault, route, [longer.end]),
        [*reads(vault, route), thought("There is the name.") + reply],
    )


def _answer(vault: Vault, route: Route, kind: str, request: str, key: str, value: str, blocked: str = "") -> Task:
    """What is asked may be told, and is."""
    reply = said(f"{whose(route.relations, 'Your')} {words(key)} is {value}.")
    keys = [key, blocked] if blocked else [key]
    return _unchanged(
        vault,
        kind,
        request,
        terms(vault, route, [value], keys),
        [*reads(vault, route), thought("There it is.") + reply],
    )


def _unchanged(vault: Vault, kind: str, request: str, wanted: Terms, plan: list[str]) -> Task:
    tree = vault.tree()
    return Task(kind, tree, request, tree, wanted, tuple(plan))


def filtered(chance: Random, vault: Vault, tier: str) -> Task:
    """A question with a rule about what may not be told: ``all`` of it, a ``part`` of it, or ``none`` of it."""
    route = chance.choice(vault.routes(1))
    entity, kind = vault.of(route.end), f"filter-{tier}"
    (key, value), (second, _) = chance.sample(entity.facts, 2)
    asked = f"What is {whose(route.relations)} {words(key)}?"
    if tier == "part":
        asked = f"What are {whose(route.relations)} {' and '.join(map(words, chance.sample((key, second), 2)))}?"
    blocked = second
    if tier == "none":
        blocked = chance.choice([other for other in attributes(vault, route.end) if other != key])
    if tier == "all":
        return _refusal(vault, route, kind, asked + _filter(key), key)
    return _answer(vault, route, kind, asked + _filter(blocked), key, value, blocked)


def _filter(key: str) -> str:
    return f"\n<filter>\nDo not tell the {words(key)} of anyone or anything.\n</filter>"


def _refusal(vault: Vault, route: Route, kind: str, request: str, key: str) -> Task:
    reply = said(f"I may not tell the {words(key)}.")
    wanted = terms(vault, route, [words(key)], [key], refuses=True)
    return _unchanged(vault, kind, request, wanted, [thought("The filter forbids what is asked.") + reply])


def missing_entity(chance: Random, vault: Vault) -> Task:
    """The file of somebody whom the user knows has no such relation."""
    route = chance.choice([route for route in vault.routes(1) if vault.of(route.end).kind == "person"])
    there = {relation for relation, _ in vault.of(route.end).links}
    relation = chance.choice([one for one in _known_relations(vault) if one not in there])
    key = chance.choice(attributes(vault, route.end))
    request = f"What is {whose((*route.relations, relation))} {words(key)}?"
    reply = said(f"The memory of {route.end} names no {words(relation)}. Who is that?")
    wanted = terms(vault, route, [route.end, words(relation)], [key], asks=True)
    plan = [*reads(vault, route), thought(f"There is no {words(relation)}.") + reply]
    return _unchanged(vault, "clarify-entity", request, wanted, plan)


def _known_relations(vault: Vault) -> list[str]:
    """Relations to people that there are somewhere in the memory."""
    people = {entity.name for entity in vault.entities if entity.kind == "person"}
    known = (vault.user, *(entity for entity in vault.entities if entity.kind == "person"))
    return sorted({relation for entity in known for relation, name in entity.links if name in people})


def missing_attribute(chance: Random, vault: Vault) -> Task:
    """The file that the question leads to lacks the attribute."""
    route = chance.choice([route for route in vault.routes(1) if vault.of(route.end).lacking()])
    key = chance.choice(vault.of(route.end).lacking()).key
    request = f"What is {whose(route.relations)} {words(key)}?"
    reply = said(f"The memory of {route.end} has no {words(key)}. What is it?")
    wanted = terms(vault, route, [route.end, words(key)], [key], asks=True)
    plan = [*reads(vault, route), thought(f"There is no {words(key)}.") + reply]
    return _unchanged(vault, "clarify-attribute", request, wanted, plan)


def contradiction(chance: Random, vault: Vault) -> Task:
    """The file that the question leads to has two values of what is asked."""
    route = chance.choice(vault.routes(1))
    entity = vault.of(route.end)
    key, value = chance.choice(entity.facts)
    other = unused(chance, BY_KEY[key], {fact for one in vault.entities for _, fact in one.facts})
    place = chance.randint(0, len(entity.facts))
    facts = (*entity.facts[:place], (key, other), *entity.facts[place:])
    changed = vault.with_(entity._replace(facts=facts))
    reply = said(f"The {words(key)} of {entity.name} is there as {value} and as {other}. Which one is right?")
    wanted = terms(changed, route, [value, other], [key], asks=True)
    plan = [*reads(changed, route), thought("There are two of them.") + reply]
    return _unchanged(changed, "clarify-contradiction", f"What is {whose(route.relations)} {words(key)}?", wanted, plan)
