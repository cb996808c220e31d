"""Verifiers of a user, as ``module:function`` names them."""

from __future__ import annotations

import os
import sys
import time
from typing import Any


def says_buy(question: dict[str, Any]) -> bool:
    sys.stdout.write("a library prints to stdout\n")
    return bool(question["answer"]["content"] == "BUY")


def like_the_log(question: dict[str, Any]) -> dict[str, Any]:
    is_right = question["answer"]["content"] == question["logged_answer"]["content"]
    return {"right": is_right, "reason": f"the log says {question['logged_answer']['content']}"}


def says_good(question: dict[str, Any]) -> bool | None:
    said = question["answer"]["content"]
    return None if said == "unsure" else bool(said.startswith("good"))


def unsure(question: dict[str, Any]) -> None:
    return None


def raises_on_sell(question: dict[str, Any]) -> bool:
    if question["answer"]["content"] == "SELL":
        raise ValueError("SELL is a secret")
    return True


def raises(question: dict[str, Any]) -> bool:
    raise ValueError("a secret")


def hangs_on_sell(question: dict[str, Any]) -> bool:
    if question["answer"]["content"] == "SELL":
        time.sleep(3600)
    return True


def nonsense(question: dict[str, Any]) -> str:
    return "yes"


def dies(question: dict[str, Any]) -> bool:
    os._exit(3)


not_a_function = 3
