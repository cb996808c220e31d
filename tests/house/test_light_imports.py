from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = {"alembic", "db", "fastapi", "gpu", "numpy", "peft", "psycopg2", "scipy", "sqlalchemy", "torch", "transformers"}


def _loaded_by(statement: str, **variables: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_a_service_can_enqueue_without_the_database_or_torch() -> None:
    assert _loaded_by("from tasks import train_window") & HEAVY == set()


def test_beat_and_the_worker_app_load_no_task() -> None:
    statement = "import beat_schedule, worker, worker.app; assert worker.app.app.conf.beat_schedule"
    loaded = _loaded_by(statement, REDIS_URL="redis://127.0.0.1:1/0")
    assert "worker.config" in loaded
    assert {name for name in loaded if name.split(".")[0] == "tasks"} == set()
    assert loaded & HEAVY == set()


def test_rl_does_no_io() -> None:
    modules = sorted(path.stem for path in (ROOT / "rl").glob("*.py") if path.stem != "__init__")
    loaded = _loaded_by("import " + ", ".join(f"rl.{name}" for name in modules))
    assert loaded & {"celery", "httpx", "pydantic_settings", "redis", "sqlalchemy", "torch"} == set()


def test_the_gateway_starts_without_scipy() -> None:
    loaded = _loaded_by("import gateway.app")
    assert "rl.config" in loaded
    assert {name for name in loaded if name.split(".")[0] in ("scipy", "torch", "transformers")} == set()


def test_the_command_starts_without_what_a_command_needs() -> None:
    loaded = _loaded_by("import fleet.cli")
    assert loaded & (HEAVY | {"celery", "matplotlib", "psutil", "redis"}) == set()
