from __future__ import annotations

import logging
from typing import Any

import pytest

from rl.errors import BadMessage
from rl.protocol import TASK_QUEUES
from worker.arguments import _parameters, accepted


def plan(stage: str, period_seconds: int, shards: list[int] | None = None) -> str:
    return f"{stage} {period_seconds} {shards}"


@pytest.mark.parametrize(
    ("args", "kwargs", "given"),
    [
        (("collect", 60), {}, {"stage": "collect", "period_seconds": 60}),
        (("collect",), {"period_seconds": 60}, {"stage": "collect", "period_seconds": 60}),
        ((), {"stage": "", "period_seconds": -(2**63)}, {"stage": "", "period_seconds": -(2**63)}),
        (("collect", 60, "anything"), {}, {"stage": "collect", "period_seconds": 60, "shards": "anything"}),
    ],
)
def test_what_the_task_takes_comes_by_name(
    args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any]
) -> None:
    assert accepted("rlfleet.plan", plan, args, kwargs) == given


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "rlfleet.plan: stage = None: it is missing; rlfleet.plan takes (stage, period_seconds, shards)"),
        (("collect",), {}, "rlfleet.plan: period_seconds = None: it is missing"),
        (("collect", 60, [], 7), {}, "rlfleet.plan: argument 4 = 7: leave it out"),
        (("collect", 60), {"stage": "x"}, "rlfleet.plan: stage = 'x': it is given twice"),
        ((7, 60), {}, "rlfleet.plan: stage = 7: send a string"),
        (("a\0b", 60), {}, "rlfleet.plan: stage = 'a\\x00b': send it without the character NUL"),
        (("collect", "60"), {}, "rlfleet.plan: period_seconds = '60': send an integer"),
        (("collect", 60.0), {}, "rlfleet.plan: period_seconds = 60.0: send an integer"),
        (("collect", True), {}, "rlfleet.plan: period_seconds = True: send an integer"),
        (("collect", None), {}, "rlfleet.plan: period_seconds = None: send an integer"),
        (
            ("collect", 2**63),
            {},
            "rlfleet.plan: period_seconds = 9223372036854775808: send an integer of at most 64 bits",
        ),
    ],
)
def test_what_it_does_not_take_is_named(args: tuple[Any, ...], kwargs: dict[str, Any], says: str) -> None:
    with pytest.raises(BadMessage) as caught:
        accepted("rlfleet.plan", plan, args, kwargs)
    assert str(caught.value).startswith(says)


def test_a_newer_senders_argument_is_left_out_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("celery.task").propagate = True
    with caplog.at_level(logging.WARNING):
        assert accepted("rlfleet.plan", plan, ("score", 60), {"zone": "eu"}) == {"stage": "score", "period_seconds": 60}
    assert "rlfleet.plan: the argument 'zone' is not known here and is left out; its sender is newer" in caplog.text


def test_a_task_called_directly_checks_them_too(broker: object) -> None:
    import tasks

    with pytest.raises(BadMessage, match="job_id = 'seven': send an integer"):
        tasks.score("seven")


@pytest.mark.parametrize("name", TASK_QUEUES)
def test_every_task_says_what_it_takes_in_types_that_are_checked(broker: object, name: str) -> None:
    import tasks  # noqa: F401 - registers them
    from worker.app import app

    kinds = [kind for kind, _ in _parameters(app.tasks[name].run).values()]
    assert set(kinds) <= {int, str}
