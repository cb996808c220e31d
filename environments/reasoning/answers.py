"""Where in a reply its answer is."""

from __future__ import annotations

import re

from environments.episode import spoken

TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


def answer_of(reply: str) -> str:
    """What the last ``<answer>...</answer>`` holds, else all that is spoken; without space around it."""
    said = spoken(reply)
    tagged = TAGGED.findall(said)
    return str(tagged[-1] if tagged else said).strip()


def say(answer: str) -> str:
    """The reply that gives an answer."""
    return f"<answer>{answer}</answer>"
