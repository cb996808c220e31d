from __future__ import annotations

import inspect
import pickle
import re

import pytest

from rl import errors
from rl.errors import InvalidInput, RlfleetError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == "rl.errors"]


def made(kind: type[RlfleetError]) -> RlfleetError:
    return kind("field", "value", "remedy") if issubclass(kind, InvalidInput) else kind("what happened")


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickling_as_it_was(kind: type[RlfleetError]) -> None:
    error = made(kind)
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(back) is kind
    assert (str(back), vars(back)) == (str(error), vars(error))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not issubclass(kind, InvalidInput)])
def test_an_error_without_words_says_what_its_class_says(kind: type[RlfleetError]) -> None:
    assert str(kind()) == (kind.__doc__ or "").strip() != ""


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn, path = {}, ["Exception"]
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([│├└─ ]*)([A-Z]\w+)(  |$)", line):
            depth = len(match[1]) // 4
            path[depth + 1 :] = [match[2]]
            drawn[match[2]] = path[depth]
    assert drawn == {kind.__name__: kind.__mro__[1].__name__ for kind in KINDS}


def test_wrong_input_names_field_value_and_remedy() -> None:
    error = InvalidInput("line", "mian", "no such line; known lines: main")
    assert str(error) == "line = 'mian': no such line; known lines: main"
    assert (error.field, error.value, error.remedy) == ("line", "mian", "no such line; known lines: main")


def test_a_long_value_is_cut() -> None:
    shown = str(InvalidInput("x", "y" * 500, "shorter")).removeprefix("x = ").removesuffix(": shorter")
    assert len(shown) == 120
    assert shown == "'" + "y" * 116 + "..."
