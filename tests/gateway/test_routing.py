from __future__ import annotations

from dataclasses import replace

import pytest

from db.releases import LineReleases, LiveRelease, NamedVersion
from gateway.errors import Refusal
from gateway.routing import BASE, Rules, of_line, of_version, place

AGENTS = [f"agent-{number}" for number in range(1000)]


def release(stage: str, share: int, number: int) -> LiveRelease:
    return LiveRelease(stage, share, number, f"v1.0.{number}", number, "adapter", f"/v1.0.{number}", "/base")


def named(name: str, state: str = "ready", line: str = "main") -> NamedVersion:
    return NamedVersion(9, name, state, "why not", line, "base-model", "adapter", f"/{name}")


def line(*releases: LiveRelease) -> LineReleases:
    return LineReleases("main", "base-model", releases)


def counts(releases: LineReleases, rules: Rules) -> dict[str, int]:
    versions = [of_line(releases, agent, rules).version for agent in AGENTS]
    return {version: versions.count(version) for version in sorted(set(versions))}


def test_the_stable_version_answers_everybody() -> None:
    assert counts(line(release("stable", 100, 3)), Rules()) == {"v1.0.3": 1000}


def test_a_canary_gets_its_share_and_the_stable_version_the_rest() -> None:
    inside = sum(place("main", agent) < 10 for agent in AGENTS)

    assert counts(line(release("canary", 10, 4), release("stable", 100, 3)), Rules()) == {
        "v1.0.3": 1000 - inside,
        "v1.0.4": inside,
    }
    assert 70 <= inside <= 130  # within 3.2 standard deviations of a binomial(1000, 0.1)


def test_places_are_spread_evenly_and_never_move() -> None:
    places = [place("main", agent) for agent in AGENTS]
    assert all(0 <= one < 100 for one in places)
    assert all(60 <= sum(low <= one < low + 10 for one in places) <= 140 for low in range(0, 100, 10))
    # sha256(b"main\0agent-0") begins with b5d022acd5c10178
    assert place("main", "agent-0") == pytest.approx(0xB5D022ACD5C10178 / 2**64 * 100)
    assert places != [place("other", agent) for agent in AGENTS]


def test_an_agent_keeps_the_canary_while_its_share_grows() -> None:
    def canaries(share: int) -> set[str]:
        releases = line(release("canary", share, 4), release("stable", 100, 3))
        return {agent for agent in AGENTS if of_line(releases, agent, Rules()).version == "v1.0.4"}

    assert canaries(0) == set()
    assert canaries(10) < canaries(50) < canaries(100) == set(AGENTS)


def test_the_share_is_the_smaller_of_variable_and_release() -> None:
    releases = line(release("stable", 60, 3))

    assert counts(releases, Rules(rollout_percentage=10)) == counts(line(release("stable", 10, 3)), Rules())
    assert counts(releases, Rules(rollout_percentage=90)) == counts(releases, Rules())
    assert counts(releases, Rules(rollout_percentage=0)) == {BASE: 1000}


def test_the_kill_switch_comes_before_the_pin_and_the_pin_before_the_release() -> None:
    releases = line(release("stable", 100, 3))
    pinned = Rules(pin="v1.0.1", pinned=named("v1.0.1"))

    assert counts(releases, pinned) == {"v1.0.1": 1000}
    assert counts(releases, replace(pinned, use_rl_model=False)) == {BASE: 1000}
    assert counts(releases, replace(pinned, rollout_percentage=0)) == {BASE: 1000}


def test_a_pin_leaves_other_lines_alone() -> None:
    rules = Rules(pin="other-v1.0.1", pinned=named("other-v1.0.1", line="other"))

    assert counts(line(release("stable", 100, 3)), rules) == {"v1.0.3": 1000}


@pytest.mark.parametrize(
    ("pinned", "reason"),
    [
        (None, "no such version"),
        (named("v1.0.1", "candidate"), "it is candidate"),
        (named("v1.0.1", "rejected"), "it is"),
    ],
)
def test_a_pin_that_cannot_be_used_stops_the_line(pinned: NamedVersion | None, reason: str) -> None:
    with pytest.raises(Refusal, match=reason) as refused:
        of_line(line(release("stable", 100, 3)), "agent-0", Rules(pin="v1.0.1", pinned=pinned))
    assert refused.value.status_code == 503


def test_before_the_first_release_the_base_model_stands_in() -> None:
    route = of_line(line(), "agent-0", Rules())

    assert (route.version, route.is_fallback, route.base_model) == (BASE, True, "base-model")
    assert "no released version yet" in route.why


@pytest.mark.parametrize("state", ["candidate", "ready"])
def test_a_version_that_is_named_answers_alone(state: str) -> None:
    route = of_version(named("v1.0.7", state))

    assert (route.version, route.uri, route.line, route.is_exact) == ("v1.0.7", "/v1.0.7", "main", True)


def test_a_rejected_version_is_not_there() -> None:
    with pytest.raises(Refusal, match="it was rejected") as refused:
        of_version(named("v1.0.7", "rejected"))
    assert refused.value.status_code == 404
