"""How a canary goes on: what it is tested by, the shares it passes through, and what it has once it is stable."""

from __future__ import annotations

from pydantic import Field

from rl.errors import InvalidInput
from rl.sequential import Rules
from rl.stages import Stage, Stages
from rl.training import Config


class Plan(Config):
    """Stored whole on each of the canary's release rows.

    ``share`` is the percentage of the line's agents that the canary has once it is stable. Shares of ``stages`` are
    parts of that: with a ``share`` of 40, a stage of 50 is 20 % of the agents. With ``hold`` the share stays as it is
    until a person ends the comparison (an A/B test); the test is still applied, and may still roll back.
    """

    stages: Stages = Stages()
    rules: Rules = Rules()
    share: int = Field(100, ge=1, le=100)
    hold: bool = False

    def of_agents(self, share: int) -> int:
        """The percentage of the line's agents that a stage's share is; at least 1."""
        return max(1, round(share * self.share / 100))


def held_at(share: int, rules: Rules) -> Plan:
    """An A/B test: ``share`` per cent of the line's agents until a person ends it.

    Raises:
        InvalidInput: the share leaves no agent to one of the two versions.
    """
    if not 1 <= share <= 99:
        raise InvalidInput("share", share, "a test needs agents of both versions; give 1 to 99 per cent")
    stage = Stage(share=share, soak_hours=0, min_requests=0)
    return Plan(stages=Stages(stages=(stage,), give_up_rewards=None), rules=rules, hold=True)
