from __future__ import annotations

from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine
from tests.gateway.test_completions import VERSION, ask
from tests.gateway.test_streamed import failures
from tests.recorder.doubles import wait_until


def test_a_version_that_a_pin_chose_and_that_does_not_answer_counts_for_no_comparison(world: World) -> None:
    world.engine(is_draining=True)
    world.release(0)
    base = {"UPSTREAM_BASE_URL": world.serve(FakeEngine().app()) + "/v1"}
    pinned = world.gateway(**base, RL_MODEL_VERSION=world.names[0])
    assert ask(pinned, Call="c1", Trajectory="t1").headers[VERSION] == "base"

    assert ask(world.gateway(**base), Call="c2", Trajectory="t2").headers[VERSION] == "base"

    wait_until(lambda: failures() != [], 30)
    assert [one[0] for one in failures()] == ["c2"]
