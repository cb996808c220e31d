"""What is told of an exception."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from admin.errors import refused_of
from rl import errors
from rl.config import LineConfig
from rl.errors import InvalidInput, RlfleetError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RlfleetError)]


class Answer(BaseModel):
    """Something that is no stored config."""

    count: int


def error_of(model: type[BaseModel], **given: object) -> ValidationError:
    with pytest.raises(ValidationError) as raised:
        model.model_validate(given)
    return raised.value


def test_a_config_that_is_not_understood_can_be_changed(caplog: pytest.LogCaptureFixture) -> None:
    refused = refused_of(error_of(LineConfig, base_model=7))
    assert (refused.status_code, refused.remedy) == (409, "change the line's config with `rlfleet line`")
    assert refused.detail.startswith("a stored config is not understood: base_model: ")
    assert not caplog.records


def test_an_answer_of_another_shape_is_a_failure_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    refused = refused_of(error_of(Answer, count="many"))
    assert (refused.status_code, refused.detail) == (500, "the admin server failed")
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_told_with_a_remedy(kind: type[RlfleetError]) -> None:
    error = kind("line", "mian", "known lines: main") if issubclass(kind, InvalidInput) else kind("it is away")
    refused = refused_of(error)
    assert (refused.status_code in (400, 404, 409, 503), bool(refused.detail), bool(refused.remedy)) == (True,) * 3


def test_what_was_left_out_is_not_shown_as_none() -> None:
    refused = refused_of(InvalidInput("targetVersion", None, "name one"))
    assert (refused.status_code, refused.detail) == (400, "targetVersion cannot be left out")
