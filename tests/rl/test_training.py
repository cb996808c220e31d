from __future__ import annotations

import pytest
from pydantic import ValidationError

from rl.config import SftTrain, digest
from rl.training import Optimizer, Train

RATE = Optimizer(learning_rate=1e-3)


def test_a_default_number_of_checkpointed_layers_keeps_the_key_of_equal_work() -> None:
    plain = SftTrain(steps=1, optimizer=RATE)
    assert "checkpointing" not in plain.model_dump(mode="json")
    assert digest(plain) == digest(SftTrain(steps=1, optimizer=RATE, checkpointing="auto"))
    assert SftTrain.model_validate(plain.model_dump(mode="json")).checkpointing == "auto"


@pytest.mark.parametrize("asked", ["none", "all", 1, 40])
def test_layers_may_be_named_or_counted(asked: object) -> None:
    train = Train.model_validate({"optimizer": RATE, "checkpointing": asked})
    assert train.model_dump(mode="json")["checkpointing"] == asked
    assert Train.model_validate_json(train.model_dump_json()) == train


@pytest.mark.parametrize("asked", ["some", 0, -1, 1.5, "3", True, None])
def test_anything_else_is_refused(asked: object) -> None:
    with pytest.raises(ValidationError, match="checkpointing"):
        Train.model_validate({"optimizer": RATE, "checkpointing": asked})
