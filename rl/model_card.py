"""The model card of a published version: what the Hub reads at its head, and what people read below.

It says what rows say and nothing else: without verdicts it has no numbers. The same values give the same text, so that
a second publication of a version changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from rl.records import Record
from rl.report import Count

TAG = "rlfleet"
"""The tag by which a repository is known as one that rlfleet published."""
WINDOWS_SHOWN = 20
PLACE = "(a place, not shown)"
"""What stands for a path or a URL in a config: where things are is nobody else's business."""

LINK = re.compile(r"https://[^\s()<>\[\]\\]+")
"""What may be a link of a card: nothing that ends one, and nothing beside the card, which is not published."""


class Licence(Record):
    """``licence`` is the Hub's identifier; ``name`` and ``link`` are those of a licence that it calls ``other``."""

    licence: str
    name: str | None = None
    link: str | None = None


class Judged(Record):
    """Verdicts on one set of scenarios, by one judge. ``count`` None: no verdict is known.

    ``coverage`` is the share of the scenarios that have a verdict, 0 to 1.
    """

    scenarios: str
    judge: str
    count: Count | None
    types: dict[str, Count] = Field(default_factory=dict)
    coverage: float


class Decided(Record):
    """What was decided about the version, and why; ``compared_with`` is the version that was stable."""

    released: bool
    policy: str
    reason: str
    compared_with: str | None


class Card(Record):
    """All that a card says. ``base`` is the base's repository on the Hub, where it has one.

    ``is_adapter``: an adapter is published, else full weights; ``merged``: these are an adapter's and its base's.
    """

    repository: str
    version: str
    line: str
    state: str
    is_adapter: bool
    merged: bool
    base: str | None
    licence: Licence | None
    parent: str | None
    step: int
    made: str
    sha256: str
    windows: tuple[str, ...]
    trajectories: int | None
    evaluations: tuple[Judged, ...]
    decision: Decided | None
    config: dict[str, Any]
    was_erased: bool = False


def written(card: Card) -> str:
    """The text of ``README.md``."""
    parts = ["\n".join(["---", *_head(card), "---"]), f"# {card.repository.rpartition('/')[2]}", _opening(card)]
    parts += ["## Use", _use(card), "## Data", _data(card), "## Evaluation", *_evaluation(card)]
    parts += ["## Decision", _decision(card), "## Training", _training(card), "## Limits", _limits(card)]
    return "\n\n".join([*parts, "## Licence", _licence(card)]) + "\n"


def _head(card: Card) -> Iterator[str]:
    """YAML of strings as JSON writes them, which YAML reads the same."""
    if card.base:
        yield f"base_model: {json.dumps(card.base)}"
        yield f"base_model_relation: {'adapter' if card.is_adapter else 'finetune'}"
    yield f"library_name: {'peft' if card.is_adapter else 'transformers'}"
    yield "pipeline_tag: text-generation"
    licence = card.licence or Licence(licence="other", name="unknown")
    yield f"license: {json.dumps(licence.licence)}"
    if licence.name:
        yield f"license_name: {json.dumps(licence.name)}"
    if licence.link and LINK.fullmatch(licence.link):
        yield f"license_link: {json.dumps(licence.link)}"
    yield f"tags:\n- {TAG}"


def _opening(card: Card) -> str:
    base = f"`{card.base}`" if card.base else "a base model that is not on the Hub under a name known here"
    what = "A LoRA adapter on" if card.is_adapter else "Full weights, trained from"
    merged = ", with the adapter merged into them" if card.merged else ""
    after = f"; it goes on from version `{card.parent}`" if card.parent else ""
    return (
        f"{what} {base}{merged}: version `{card.version}` of line `{card.line}`{after}. "
        f"Made {card.made} by rlfleet, step {card.step}; the checkpoint's "
        f"SHA-256 is `{card.sha256}`."
    )


def _use(card: Card) -> str:
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    if card.is_adapter:
        lines[0] = f"from peft import PeftModel\n{lines[0]}"
        lines += [
            f'base = AutoModelForCausalLM.from_pretrained("{card.base}")',
            f'model = PeftModel.from_pretrained(base, "{card.repository}")',
            f'tokenizer = AutoTokenizer.from_pretrained("{card.base}")',
        ]
    else:
        lines += [
            f'model = AutoModelForCausalLM.from_pretrained("{card.repository}")',
            f'tokenizer = AutoTokenizer.from_pretrained("{card.repository}")',
        ]
    return "\n".join(["```python", *lines, "```"])


def _data(card: Card) -> str:
    count = "" if card.trajectories is None else f"{card.trajectories} trajectories of "
    shown, more = card.windows[:WINDOWS_SHOWN], len(card.windows) - WINDOWS_SHOWN
    names = ", ".join(f"`{one}`" for one in shown) + (f" and {more} more" if more > 0 else "")
    windows = f"{len(card.windows)} {'window' if len(card.windows) == 1 else 'windows'}: {names}"
    return f"The last training learned from {count}{windows}." if card.windows else "No row says what it learned from."


def _evaluation(card: Card) -> Iterator[str]:
    if not card.evaluations:
        yield "It was not evaluated."
        return
    yield (
        "`k/n` are right verdicts of all; the interval holds 80 % of what the rate may be, under a uniform prior. "
        "Coverage is the share of the scenarios that have a verdict."
    )
    yield "\n".join(
        [
            "| scenarios | judge | type | k/n | rate | 80 % interval | coverage |",
            "|---|---|---|--:|--:|--:|--:|",
            *(row for one in card.evaluations for row in _rows(one)),
        ]
    )


def _rows(one: Judged) -> Iterator[str]:
    kinds: dict[str, Count | None] = {"all": one.count}
    kinds |= one.types if len(one.types) > 1 else {}
    for kind, count in kinds.items():
        told = "none yet | - | -"
        if count is not None:
            told = f"{count.k}/{count.n} | {count.rate:.1%} | {count.low:.1%} to {count.high:.1%}"
        coverage = f"{one.coverage:.0%}" if kind == "all" else ""
        yield f"| {_cell(one.scenarios)} | {_cell(one.judge)} | {_cell(kind)} | {told} | {coverage} |"


def _decision(card: Card) -> str:
    words = f"The version is {card.state}."
    if card.decision is None:
        return f"{words} No decision is recorded."
    one = card.decision
    against = f", compared with `{one.compared_with}`" if one.compared_with else ""
    said = "to be released" if one.released else "not to be released"
    return f"{words} It was decided {said} (policy `{one.policy}`{against}): {_cell(one.reason)}"


def _training(card: Card) -> str:
    if not card.config:
        return "No config is recorded."
    rows = [f"| `{key}` | {_cell(value)} |" for key, value in _flat(card.config)]
    return "\n".join(["| key | value |", "|---|---|", *rows])


def _limits(card: Card) -> str:
    limits = [
        "Only what the table of the evaluation counts was measured; what the version does elsewhere is not known.",
        "It was trained on what agents did, and repeats their habits, the wrong ones too.",
        "What limits the base model limits this one.",
    ]
    if card.state != "ready":
        limits.append(f"It did not pass as a release of its line: it is {card.state}.")
    if card.was_erased:
        limits.append("Some of what it learned from was erased since, at the request of those whose data it was.")
    return "\n".join(f"- {one}" for one in limits)


def _licence(card: Card) -> str:
    if card.licence is None:
        return "The licence of the base model is not known here. Ask whoever made it before you use or share this."
    name = _cell(card.licence.name or card.licence.licence)
    shown = f"[{name}]({card.licence.link})" if card.licence.link and LINK.fullmatch(card.licence.link) else name
    return f"The base model's own card says: {shown}. These weights are derived from it, and its terms apply to them."


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key in sorted(values):
        value, name = values[key], f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif value is not None:
            yield name, _shown(value)


def _shown(value: Any) -> str:
    words = value if isinstance(value, str) else json.dumps(value)
    return PLACE if "/" in words or "\\" in words else words


def _cell(words: str) -> str:
    """One line that cannot end a cell, open a tag or a link."""
    line = " ".join(words.split())
    for mark in ("\\", "|", "<", "[", "`"):
        line = line.replace(mark, f"\\{mark}")
    return line
