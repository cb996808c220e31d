"""The trajectory viewer says who was trained on, and which of its tokens, as the trainer would have it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pydantic import TypeAdapter
from sqlalchemy import text

from db.session import transaction
from rl.batches import batches
from rl.config import TrainConfig
from tests.admin.looked import HOUR, SCORES, V1, Site, site

CONFIG: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)
SFT = {"objective": "sft", "steps": 1, "batch_episodes": 2, "optimizer": {"learning_rate": 0.001}}
NAMES = sorted(SCORES)


@pytest.fixture
def shown(database: str, broker: object) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch, site(patch) as made:
        yield made


def cloned(rows: dict[str, object], **fields: object) -> set[str]:
    """``V1`` by one step of SFT instead; returns whom that step took where all could be used."""
    config = SFT | fields
    manifest = {"rows": {"read": 5, "used": 5, "drawn": 2, "skipped": {}, "named": {}} | rows, "step": 7, "updates": 1}
    with transaction() as session:
        change = "update rlfleet.datasets set manifest = jsonb_set(manifest, '{config}', cast(:config as jsonb))"
        session.execute(text(change), {"config": json.dumps(config)})
        change = "update rlfleet.versions set manifest = cast(:manifest as jsonb) where name = :name"
        session.execute(text(change), {"manifest": json.dumps(manifest), "name": V1})
    (batch,) = batches(NAMES, CONFIG.validate_python(config), 6)
    return set(batch)


def test_who_was_chosen_and_not_drawn_is_not_said_to_be_trained_on(shown: Site) -> None:
    drawn = cloned({})
    words = f"{V1}, which did not learn from it: chosen for training, and 2 of 5 such rows were drawn, not this one"
    for name in NAMES:
        found = shown.page(f"/trajectories/{name}").text
        is_drawn = name in drawn
        assert (f"Trained on by {V1}" in found, f"Learned from by {V1}" in found) == (is_drawn, is_drawn)
        assert (words in found, "No version was trained on it" in found) == (not is_drawn, not is_drawn)
    listed = {row[0]: row[3] for row in shown.page(f"/trajectories?window={HOUR}").rows if row and len(row) == 8}
    assert {name for name in NAMES if "not drawn" not in listed[name]} == drawn


def test_where_it_is_not_known_who_was_drawn_their_number_is_told(shown: Site) -> None:
    cloned({"used": 4, "skipped": {"longer than the context": 1}, "named": {"longer than the context": []}})
    found = shown.page("/trajectories/a1").text
    assert f"Learned from by perhaps {V1}" in found
    assert "whether it learned from it is not known: chosen for training, and 2 of 4 such rows were drawn" in found
    assert "Trained on by" not in found


def test_prompts_that_are_trained_on_are_not_said_to_be_masked(shown: Site) -> None:
    (name, *_) = sorted(cloned({}, observation_weight=0.5))
    found = shown.page(f"/trajectories/{name}")
    # One of each is the legend's. Nothing predicts the first token of the sequence, so that one of four is masked.
    kinds = {kind: found.count("span", cls=f"tok {kind}") - 1 for kind in ("trained", "read", "masked", "repeated")}
    assert kinds == {"trained": 5, "read": 3, "masked": 1, "repeated": 5}
    assert "what it was sent is trained on too, with weight 0.5." in found.text
    assert "Prompt: 3 tokens, trained on with weight 0.5. Answer: 2 tokens, trained on." in found.text
    assert "trained on with weight 0.5: a token that it was sent, dashed line" in found.text
    assert "all that it was sent is masked" not in found.text
