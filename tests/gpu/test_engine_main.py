"""``python -m gpu.engine`` as a process."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import openai
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def start(*arguments: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "RLFLEET_ENGINE_KEY": "s3cret"}
    command = [sys.executable, "-m", "gpu.engine", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environ, stdout=pipe, stderr=pipe, text=True)


def test_it_serves_a_folder_until_it_is_told_to_stop(base: Path) -> None:
    with start("--base", str(base), "--name", "starter") as engine:
        try:
            assert engine.stdout is not None
            url = engine.stdout.readline().strip()
            with openai.OpenAI(base_url=url, api_key="s3cret", timeout=30) as client:
                assert [model.id for model in client.models.list()] == ["starter"]
                asked = client.chat.completions.create(
                    model="starter", messages=[{"role": "user", "content": "You see: wall 4 ahead"}], max_tokens=3
                )
                assert asked.usage is not None
                assert asked.usage.completion_tokens <= 3
            engine.send_signal(signal.SIGTERM)
            assert engine.wait(120) == 0
        finally:
            engine.kill()


def test_what_keeps_it_from_starting_is_said(base: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start("--base", str(base), "--port", str(port)) as engine:
            _, said = engine.communicate(timeout=240)
    assert engine.returncode == 1
    assert f"gpu.engine: port = {port}" in said
    assert "name a free port" in said
