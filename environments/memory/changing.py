"""Requests that change the memory: a fact changes, is added or forgotten, or somebody new is there."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from environments.memory.phrases import Terms
from environments.memory.tables import BY_KEY, FIRST, LAST, PERSONAL, TO_PERSON, words
from environments.memory.task import Task, code, reads, said, thought, whose
from environments.memory.vault import Entity, Route, Vault, unused

DONE = said("It is noted.")


def change(chance: Random, vault: Vault) -> Task:
    """Another value of a fact."""
    route, entity = _somebody(chance, vault)
    key, old = chance.choice(entity.facts)
    new = _new_value(chance, vault, key)
    facts = tuple((known, new if known == key else value) for known, value in entity.facts)
    edit = _edit(entity, f"- {key}: {old}", f"- {key}: {new}")
    request = f"{whose(route.relations, 'My')} {words(key)} is {new} now. Change it in the memory."
    return _task("update-change", vault, request, entity._replace(facts=facts), [*reads(vault, route), edit])


def add(chance: Random, vault: Vault) -> Task:
    """A fact that was not known."""
    route, entity = _somebody(chance, vault)
    key = chance.choice(entity.lacking()).key
    value = _new_value(chance, vault, key)
    edit = _edit(entity, "## Facts\n", f"## Facts\n- {key}: {value}\n")
    request = f"Remember that {whose(route.relations)} {words(key)} is {value}."
    changed = entity._replace(facts=(*entity.facts, (key, value)))
    return _task("update-add", vault, request, changed, [*reads(vault, route), edit])


def forget(chance: Random, vault: Vault) -> Task:
    """A fact is removed."""
    route, entity = _somebody(chance, vault)
    key, value = chance.choice(entity.facts)
    edit = _edit(entity, f"- {key}: {value}\n", "")
    request = f"Remove {whose(route.relations)} {words(key)} from the memory."
    kept = entity._replace(facts=tuple(fact for fact in entity.facts if fact[0] != key))
    return _task("update-forget", vault, request, kept, [*reads(vault, route), edit])


def meet(chance: Random, vault: Vault) -> Task:
    """A person without a file, linked from the user's."""
    user = vault.user
    relation = chance.choice([one for one in TO_PERSON if one not in dict(user.links)])
    attribute = chance.choice(PERSONAL)
    fact = (attribute.key, _new_value(chance, vault, attribute.key))
    person = Entity(_new_name(chance, vault), "person", (fact,))
    link = f"- {relation}: [[{person.path}]]"
    work = thought("A new file, and a link to it.") + code(
        f'made = create_file("{person.path}", {_literal(person.text())})',
        f'linked = update_file("user.md", "## Relations\\n", {_literal(f"## Relations{chr(10)}{link}{chr(10)}")})',
    )
    request = (
        f"My {words(relation)} is {person.name}, who is not in the memory yet. "
        f"Make a file for this person, whose {words(attribute.key)} is {fact[1]}, and link it from mine."
    )
    grown = vault.with_(user._replace(links=(*user.links, (relation, person.name))))
    return _task("update-new", vault, request, person, [*reads(vault, Route((), (user.name,))), work], grown)


def _task(
    kind: str, vault: Vault, request: str, changed: Entity, turns: Sequence[str], base: Vault | None = None
) -> Task:
    after = (base or vault).with_(changed).tree()
    return Task(kind, vault.tree(), request, after, Terms(), (*turns, thought("That is all.") + DONE))


def _somebody(chance: Random, vault: Vault) -> tuple[Route, Entity]:
    """The user, or who is one relation away, and lacks something that could be known."""
    routes = [route for length in (0, 1) for route in vault.routes(length) if vault.of(route.end).lacking()]
    route = chance.choice(routes)
    return route, vault.of(route.end)


def _new_value(chance: Random, vault: Vault, key: str) -> str:
    return unused(chance, BY_KEY[key], {value for entity in vault.entities for _, value in entity.facts})


def _new_name(chance: Random, vault: Vault) -> str:
    taken = {word for entity in vault.entities for word in entity.name.split()}
    first, last = ([one for one in names if one not in taken] for names in (FIRST, LAST))
    return f"{chance.choice(first)} {chance.choice(last)}"


def _edit(entity: Entity, old: str, new: str) -> str:
    call = f'changed = update_file("{entity.path}", {_literal(old)}, {_literal(new)})'
    return thought("This file has to change, and nothing else.") + code(call)


def _literal(text: str) -> str:
    """Python of a string without quotes or backslashes in it."""
    return '"{}"'.format(text.replace("\n", "\\n"))
