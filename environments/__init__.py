"""Environments by name: each is imported when it is asked for, with the packages that it needs."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from environments.contract import Environment
from rl.errors import InvalidInput

KNOWN = {"babyai": "environments.babyai:BabyAI"}
"""Name to ``module:class``. To add an environment, write its file and add its line here."""


@cache
def load(name: str) -> Environment:
    """The environment called ``name``, one instance per process.

    Raises:
        InvalidInput: no environment has that name.
    """
    if name not in KNOWN:
        raise InvalidInput("environment", name, f"known environments are {', '.join(sorted(KNOWN))}")
    module, _, kind = KNOWN[name].partition(":")
    environment: Environment = getattr(import_module(module), kind)()
    return environment
