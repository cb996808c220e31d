"""A service that installs nothing but the base can enqueue, and the message waits on the right queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.conftest_redis import *  # noqa: F403

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "fastapi", "minigrid", "typer")
ENQUEUE = """
import importlib.util, sys
from tasks import train_window
train_window.delay("2025-01-15T10:00")
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])
print(*{"sqlalchemy", "numpy"} & set(sys.modules))
"""


@pytest.mark.slow
def test_the_base_install_enqueues(tmp_path: Path, redis_url: str) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, "-c", str(ROOT / "constraints.txt"), str(ROOT)], check=True)
    broker = redis.Redis.from_url(redis_url)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"REDIS_URL": redis_url}
    done = subprocess.run(
        [str(python), "-c", ENQUEUE, *HEAVY], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
    (message,) = broker.lrange("rlfleet:maint", 0, -1)
    headers = json.loads(message)["headers"]
    assert headers["task"] == "rlfleet.train_window"
    assert headers["argsrepr"] == "('2025-01-15T10:00',)"
    broker.close()
