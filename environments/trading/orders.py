"""Orders: the JSON that says them, and how a reply is read."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from environments.episode import action_of

FORM = 'An action is one JSON object, such as {"action": "buy_shares", "market": "M1", "side": "yes", "amount": 100}.'

NAMES = {
    "buy_shares": "buy_shares",
    "sell_shares": "sell_shares",
    "open_position": "open_position",
    "close_position": "close_position",
    "wait": "wait",
    "buy": "open_position",
    "sell": "open_position",
    "close": "close_position",
    "hold": "wait",
}
"""What an action may be called, and the function that it is."""

SIDES = {"buy": "long", "sell": "short"}
"""Actions whose name says the side."""

MOST_DOLLARS = 1e9
"""More than anybody has."""

DECODER = json.JSONDecoder()
MOST_BRACES = 8
"""From the end of a reply, that are tried as the beginning of an object."""


class Order(NamedTuple):
    """One action. ``target`` is a market or an asset, in capitals; ``side`` yes, no, long or short."""

    action: str
    target: str = ""
    side: str = ""
    amount: float | None = None

    def json(self) -> str:
        """The canonical text."""
        return json.dumps({"action": self.action, **self.fields()})

    def fields(self) -> dict[str, str | float]:
        """What the action is done with, by name."""
        where = "market" if self.action in {"buy_shares", "sell_shares"} else "asset"
        said = {where: self.target, "side": self.side, "amount": self.amount}
        return {name: value for name, value in said.items() if value is not None and value != ""}


class Unreadable(ValueError):
    """A reply that holds no order; the message says why."""


def read(reply: str) -> Order:
    """The order in a reply: its last JSON object, in a fence or not, which may be a function call's.

    Raises:
        Unreadable: there is none, or one of its values is of the wrong kind.
    """
    said = _object(action_of(reply))
    if "arguments" in said:
        inner = said["arguments"]
        said = (inner if isinstance(inner, dict) else _object(_text(said, "arguments"))) | {"action": said.get("name")}
    name = _text(said, "action").lower()
    if name not in NAMES:
        raise Unreadable(f"Unknown action. {FORM}")
    target = _text(said, "market" if "market" in said else "asset").upper()
    side = SIDES.get(name) or _text(said, "side").lower()
    return Order(NAMES[name], target, side, _amount(said.get("amount")))


def _text(said: dict[str, Any], name: str) -> str:
    """A value that is text; empty where it is not."""
    value = said.get(name)
    return value.strip() if isinstance(value, str) else ""


def _object(text: str) -> dict[str, Any]:
    """The last object that is not inside another."""
    found, end = None, 0
    for place in [brace.start() for brace in re.finditer("{", text)][-MOST_BRACES:]:
        if place < end:
            continue
        try:
            found, end = DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            continue
    if not isinstance(found, dict):
        raise Unreadable(f"That is no JSON object. {FORM}")
    return found


def _amount(value: object) -> float | None:
    """A number above 0, written as such or as text; None where there is none."""
    if value is None:
        return None
    try:
        amount = float(value.strip(" $")) if isinstance(value, str) else value
    except ValueError:
        amount = None
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 < amount <= MOST_DOLLARS:
        raise Unreadable("The amount must be a number above 0.")
    return float(amount)
