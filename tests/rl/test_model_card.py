from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from rl.model_card import PLACE, Card, Decided, Judged, Licence, written
from rl.report import Count

CARD = Card(
    repository="acme/agent",
    version="agent-v1.0.3",
    line="main",
    state="ready",
    is_adapter=True,
    merged=False,
    base="Qwen/Qwen3-0.6B",
    licence=Licence(licence="apache-2.0"),
    parent="agent-v1.0.2",
    step=12,
    made="2025-01-16T03:00:00Z",
    sha256="ab" * 32,
    windows=("2025-01-15T10:00", "2025-01-15T11:00"),
    trajectories=412,
    evaluations=(),
    decision=None,
    config={},
)


def head(card: Card) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", written(card), re.DOTALL)
    assert found
    values: dict[str, Any] = yaml.safe_load(found[1])
    return values


def test_the_head_is_what_the_hub_reads() -> None:
    assert head(CARD) == {
        "base_model": "Qwen/Qwen3-0.6B",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "license": "apache-2.0",
        "tags": ["rlfleet"],
    }
    merged = CARD.model_copy(update={"is_adapter": False, "merged": True})
    assert head(merged)["library_name"] == "transformers"
    assert head(merged)["base_model_relation"] == "finetune"
    assert "with the adapter merged into them" in written(merged)


def test_a_licence_that_is_not_known_is_said_to_be_so() -> None:
    unknown = CARD.model_copy(update={"licence": None})
    assert (head(unknown)["license"], head(unknown)["license_name"]) == ("other", "unknown")
    assert "The licence of the base model is not known here." in written(unknown)
    beside = CARD.model_copy(update={"licence": Licence(licence="other", name="maker: own", link="LICENSE")})
    assert "LICENSE" not in written(beside), "the base's file is not published"
    named = CARD.model_copy(update={"licence": Licence(licence="other", name="maker: own", link="https://x.test/l")})
    assert head(named)["license_name"] == "maker: own"
    assert "[maker: own](https://x.test/l)" in written(named)


def test_counts_stand_with_their_intervals() -> None:
    judged = Judged(
        scenarios="babyai held_out: 100 scenarios from seed 0",
        judge="environment",
        count=Count(k=83, n=98, low=0.79, high=0.887),
        types={"go": Count(k=50, n=50, low=0.95, high=1.0), "open": Count(k=33, n=48, low=0.6, high=0.77)},
        coverage=0.98,
    )
    text = written(CARD.model_copy(update={"evaluations": (judged,)}))
    of = "| babyai held_out: 100 scenarios from seed 0 | environment |"
    assert f"{of} all | 83/98 | 84.7% | 79.0% to 88.7% | 98% |\n" in text
    assert f"{of} open | 33/48 | 68.8% | 60.0% to 77.0% |  |\n" in text


def test_without_a_verdict_there_is_no_number() -> None:
    assert "It was not evaluated." in written(CARD)
    asked = Judged(scenarios="logs", judge="m", count=None, coverage=0.0)
    assert "| logs | m | all | none yet | - | - | 0% |" in written(CARD.model_copy(update={"evaluations": (asked,)}))


def test_a_decision_is_told_with_its_reason() -> None:
    decided = Decided(released=True, policy="paired-margin", reason="it is | better", compared_with="agent-v1.0.2")
    text = written(CARD.model_copy(update={"decision": decided}))
    assert "decided to be released (policy `paired-margin`, compared with `agent-v1.0.2`): it is \\| better" in text
    rejected = written(CARD.model_copy(update={"state": "rejected", "was_erased": True}))
    assert "No decision is recorded." in rejected
    assert "It did not pass as a release of its line: it is rejected." in rejected
    assert "was erased since" in rejected


def test_a_config_is_shown_without_its_places() -> None:
    config = {"lora": {"rank": 16, "alpha": 32}, "steps": 40, "min_score": None, "ptx": {"source": "table:///x.toml"}}
    text = written(CARD.model_copy(update={"config": config}))
    assert "| `lora.rank` | 16 |\n| `ptx.source` | (a place, not shown) |\n| `steps` | 40 |" in text
    assert "x.toml" not in text
    assert "min_score" not in text
    assert PLACE in text


def test_of_many_windows_the_first_are_named() -> None:
    many = tuple(f"2025-01-{day:02}T10:00" for day in range(1, 26))
    text = written(CARD.model_copy(update={"windows": many}))
    assert "412 trajectories of 25 windows: `2025-01-01T10:00`" in text
    assert "`2025-01-20T10:00` and 5 more." in text


@pytest.mark.parametrize("card", [CARD, CARD.model_copy(update={"base": None, "is_adapter": False})])
def test_the_same_values_give_the_same_text(card: Card) -> None:
    assert written(card) == written(Card.model_validate(card.model_dump()))
    assert ("base_model" in head(card)) == (card.base is not None)
