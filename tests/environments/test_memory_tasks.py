from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest

from environments.memory.asking import contradiction, filtered, missing_attribute, missing_entity, retrieval
from environments.memory.changing import add, change, forget, meet
from environments.memory.phrases import normal
from environments.memory.task import Task, encoded
from environments.memory.vault import Tree, draw

SEEDS = range(60)
FILTER = re.compile(r"\n<filter>\nDo not tell the (.+) of anyone or anything\.\n</filter>")


def _walk(tree: Tree, way: list[str]) -> str:
    """The text at the end of such a way as ``["my", "cousin's"]``, as somebody finds it who has only the files."""
    text = tree["user.md"]
    for part in way[1:]:
        link = _lines(text, part.removesuffix("'s"))
        text = tree[link[0].strip("[]")] if link else f"no {part} in {text}"
    return text


def _lines(text: str, words: str) -> list[str]:
    return re.findall(rf"^- {words.replace(' ', '_')}: (.*)$", text, re.MULTILINE)


def _asked(request: str) -> tuple[list[str], str]:
    """Way and attribute of ``What is my cousin's bank's closing day?``."""
    found = re.match(r"What (?:is|are) (my(?: [a-z ]+?'s)*) ([a-z ]+)\?", request)
    assert found is not None
    return re.findall(r"my|[a-z][a-z ]*'s", found[1]), found[2]


def _changed(task: Task) -> tuple[Counter[str], Counter[str]]:
    """Lines that go and lines that come, with their files."""
    before, after = (
        Counter(f"{path} {line}" for path, text in tree.items() for line in text.split("\n") if line.strip())
        for tree in (task.before, task.expected)
    )
    return before - after, after - before


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_what_is_to_be_found_is_there(hops: int) -> None:
    names = 0
    for seed in SEEDS:
        task = retrieval(Random(seed), draw(Random(seed)), hops)
        assert (task.kind, task.expected) == (f"retrieval-{hops}", task.before)
        assert len(task.plan) == hops + 2
        if named := re.match(r"What is the name of (my(?: .+'s)*) (.+)\?", task.request):
            names += 1
            text = _walk(task.before, re.findall(r"my|[a-z][a-z ]*'s", named[1]))
            [value] = [link.strip("[]").split("/")[1].removesuffix(".md") for link in _lines(text, named[2])]
        else:
            way, key = _asked(task.request)
            [value] = _lines(_walk(task.before, way), key)
        assert task.terms.needed == {normal(value)}
    assert 8 <= names <= 30


def test_filters_forbid_what_they_say() -> None:
    for seed in SEEDS:
        for tier in ("all", "part", "none"):
            task = filtered(Random(seed), draw(Random(seed)), tier)
            [blocked] = FILTER.findall(task.request)
            way, keys = _asked(task.request)
            asked = keys.split(" and ")
            values = {key: _lines(_walk(task.before, way), key) for key in asked}
            told = {normal(value) for key in asked if key != blocked for value in values[key]}
            assert task.terms.needed == (told or {normal(blocked)})
            assert {
                "all": asked == [blocked],
                "part": blocked in asked and len(asked) == 2,
                "none": blocked not in asked,
            }[tier]


def test_what_has_to_be_asked_is_not_there() -> None:
    for seed in SEEDS:
        task = missing_entity(Random(seed), draw(Random(seed)))
        *way, relation = _asked(task.request)[0]
        assert _lines(_walk(task.before, way), relation.removesuffix("'s")) == []
        task = missing_attribute(Random(seed), draw(Random(seed)))
        way, key = _asked(task.request)
        assert _lines(_walk(task.before, way), key) == []
        task = contradiction(Random(seed), draw(Random(seed)))
        way, key = _asked(task.request)
        values = _lines(_walk(task.before, way), key)
        assert len(set(values)) == len(values) == 2
        assert task.terms.needed == set(map(normal, values))


def test_changes_are_what_is_said_and_nothing_else() -> None:
    for seed in SEEDS:
        task = change(Random(seed), draw(Random(seed)))
        found = re.fullmatch(r"(My(?: .+'s)*) (.+) is (.+) now\. Change it in the memory\.", task.request)
        assert found is not None
        text = _walk(task.before, re.findall(r"My|[a-z][a-z ]*'s", found[1]))
        gone, new = _changed(task)
        assert [line.split(" ", 1)[1] for line in gone] == [
            f"- {found[2].replace(' ', '_')}: {_lines(text, found[2])[0]}"
        ]
        assert [line.split(" ", 1)[1] for line in new] == [f"- {found[2].replace(' ', '_')}: {found[3]}"]
        gone, new = _changed(add(Random(seed), draw(Random(seed))))
        assert (gone.total(), new.total()) == (0, 1)
        gone, new = _changed(forget(Random(seed), draw(Random(seed))))
        assert (gone.total(), new.total()) == (1, 0)


def test_somebody_new_by_hand() -> None:
    task = meet(Random(1), draw(Random(1)))
    found = re.match(r"My (.+) is (.+) (.+), who is not .* whose (.+) is (.+), and link it from mine\.", task.request)
    assert found is not None
    relation, first, last, key, value = found.groups()
    path = f"entities/{first.lower()}_{last.lower()}.md"
    assert task.expected[path] == f"# {first} {last}\n- kind: person\n\n## Facts\n- {key.replace(' ', '_')}: {value}\n"
    gone, new = _changed(task)
    assert not gone
    assert new[f"user.md - {relation.replace(' ', '_')}: [[{path}]]"] == 1
    assert new.total() == 5
    assert not task.fulfilled("It is noted.", encoded(task.before))
    assert task.fulfilled("It is noted.", encoded(task.expected))
