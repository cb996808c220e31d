"""What a judge is told to look at. A rubric is named, or is any text of the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from rl.archetypes import archetype_named

DEFAULT = """\
- A trajectory that reaches its goal scores higher than one that does not.
- A trajectory that reaches its goal with less waste, such as needless steps or repeated errors, scores higher.
- Small differences between trajectories make small differences of score, large ones make large differences.
- Progress towards a goal that is not reached earns a part of the score."""

TRADING = """\
Weigh four things and give each its share of the score:
- profit and loss: 40 %
- timing of entries and exits: 30 %
- risk taken, such as exposure and size of positions: 20 %
- use of the opportunities that were there: 10 %"""

_PREFERRED: Mapping[str, str] = {
    "trader": "profit for the risk taken, discipline, a good share of winning trades and several markets",
    "degen": "bold, frequent and large trades; losses weigh little, caution counts against it",
    "social-butterfly": "many different contacts, groups, messages and posts; trading weighs little",
    "researcher": "analysis before each trade, sources that were consulted, right predictions, few and good trades",
    "scammer": "profit that comes from persuading others in private, without a loss of reputation",
    "information-trader": "a balance of gathering information from others and trading on it with a profit",
    "goody-twoshoes": "honesty, help, shared information, and a reputation that grows",
    "ass-kisser": "reputation and followers won by comments and messages",
    "perps-trader": "the right direction of leveraged trades, controlled risk, no large losses",
    "super-predictor": "the share of predictions that were right, with research behind them and profit from them",
    "infosec": "caution, verification, little private information given away, no large losses",
    "liar": "how far its stories spread, how many hear them, and a reputation that does not suffer",
}

RUBRICS: Mapping[str, str] = MappingProxyType(
    {"default": DEFAULT, "trading": TRADING}
    | {name: f"The agents play the role {name}. Reward: {what}.\n{DEFAULT}" for name, what in _PREFERRED.items()}
)
NAMES = (*RUBRICS, "archetype")


def rubric_text(rubric: str, archetypes: Iterable[str | None]) -> str:
    """The text of a rubric, by name or as it is, for a group of trajectories of these archetypes.

    ``archetype`` is the archetype's own where all are of one, else the default.
    """
    if rubric != "archetype":
        return RUBRICS.get(rubric, rubric)
    names = {archetype_named(one) for one in archetypes}
    return RUBRICS.get(names.pop() or "default", DEFAULT) if len(names) == 1 else DEFAULT
