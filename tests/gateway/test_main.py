"""``python -m gateway`` with variables that cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
DATABASE = "postgresql://fleet:hush@127.0.0.1:9/rlfleet"


def said(**variables: str) -> list[str]:
    """What it says, where it does not start. Only these variables are set."""
    ours = {str(field.validation_alias) for field in GatewaySettings.model_fields.values()}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    environ = kept | {"DATABASE_URL": DATABASE, "PYTHONPATH": str(ROOT)} | variables
    argv = [sys.executable, "-m", "gateway"]
    run = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert "hush" not in run.stderr
    return run.stderr.splitlines()


def test_each_wrong_variable_has_a_line_with_what_to_do() -> None:
    lines = said(
        RLFLEET_ENV="production",
        RLFLEET_GATEWAY_PORT="70000",
        RL_ROLLOUT_PERCENTAGE="most",
        UPSTREAM_BASE_URL="me:hush@upstream/v1",
        UPSTREAM_API_KEY="hush",
        RLFLEET_ENGINE_KEY="hush",
        DATABASE_URL="mysql://fleet:hush@127.0.0.1/rlfleet",
    )

    names = [line.partition(" = ")[0] for line in lines]
    assert names == [
        "gateway: RLFLEET_GATEWAY_PORT",
        "gateway: RL_ROLLOUT_PERCENTAGE",
        "gateway: UPSTREAM_BASE_URL",
        "gateway: RLFLEET_GATEWAY_KEYS",
        "gateway: DATABASE_URL",
    ]
    assert lines[0] == (
        "gateway: RLFLEET_GATEWAY_PORT = '70000': Input should be less than or equal to 65535 "
        "(port to listen on, for the launcher)"
    )
    assert lines[2].startswith("gateway: UPSTREAM_BASE_URL = '<hidden>': String should match pattern")
    assert lines[2].endswith("(OpenAI-compatible server of the base model, with its /v1; none: there is no base model)")
    assert lines[3] == (
        "gateway: RLFLEET_GATEWAY_KEYS = '': set at least one bearer key; without one production would be open"
    )


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1"])
def test_a_time_is_a_number_of_seconds(seconds: str) -> None:
    (line,) = said(RLFLEET_GATEWAY_DRAIN_SECONDS=seconds)
    assert line.startswith(f"gateway: RLFLEET_GATEWAY_DRAIN_SECONDS = '{seconds}': Input should be")
