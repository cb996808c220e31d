"""Each process gets from its manifest what it needs to start in production, and no secret that it can do without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.test_kubernetes import ALL, BY_NAME, CONTAINERS, PODS, ROOT, _environ

SECRETS = {
    "DATABASE_URL": "postgresql://u:p@db.internal/rlfleet?sslmode=verify-full&sslrootcert=/etc/rlfleet/ca/ca.pem",
    "REDIS_URL": "rediss://:p@redis.internal:6379/0?ssl_ca_certs=/etc/rlfleet/ca/ca.pem",
    "RLFLEET_GATEWAY_KEY": "key1",
    "RLFLEET_GATEWAY_KEYS": "key1,key2",
    "RLFLEET_ENGINE_KEY": "key3",
    "FLOWER_BASIC_AUTH": "me:password",
}
BROKER = "import worker.app; assert worker.app.app.conf.broker_url"
WORKER = f"{BROKER}; import db.settings as d, worker.settings as w; d.settings(); w.settings()"
STARTS = {
    "migrate": "import db.settings as d; d.settings()",
    "gateway": "import db.settings as d, gateway.settings as g; d.settings(); assert not g.problems(), g.problems()",
    "admin": f"{BROKER}; import admin.settings as a, db.settings as d; a.settings(); d.settings()",
    "beat": BROKER,
    "flower": BROKER,
}


@pytest.mark.parametrize("name", sorted(set(PODS) - {"vllm"}))
def test_its_settings_are_taken_in_production(name: str, tmp_path: Path) -> None:
    upstreams = tmp_path / "vllm.toml"
    upstreams.write_text(BY_NAME["ConfigMap/upstreams"]["data"]["vllm.toml"])
    given = {one: SECRETS[one] if isinstance(value, dict) else value for one, value in _environ(name).items()}
    assert given["RLFLEET_ENV"] == "production"
    if "RLFLEET_UPSTREAMS" in given:
        given["RLFLEET_UPSTREAMS"] = str(upstreams)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **given}
    code = STARTS.get(name, WORKER)
    run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_nobody_has_the_secrets_of_others() -> None:
    holders: dict[str, set[str]] = {}
    for name in PODS:
        for value in _environ(name).values():
            if isinstance(value, dict) and value.get("secretKeyRef", {}).get("name") == "rlfleet":
                holders.setdefault(value["secretKeyRef"]["key"], set()).add(name)
    workers = {name for name in PODS if name.startswith("worker-")}
    assert holders == {
        "DATABASE_URL_MIGRATE": {"migrate"},
        "DATABASE_URL_WORKERS": workers,
        "DATABASE_URL_ADMIN": {"admin"},
        "DATABASE_URL_GATEWAY": {"gateway"},
        "REDIS_URL": workers | {"admin", "beat", "flower"},
        "RLFLEET_GATEWAY_KEY": workers,
        "RLFLEET_GATEWAY_KEYS": {"gateway"},
        "RLFLEET_ENGINE_KEY": workers | {"gateway", "vllm"},
        "FLOWER_BASIC_AUTH": {"flower"},
    }
    more = {
        name: [one["secretRef"] for one in CONTAINERS[name].get("envFrom", []) if "secretRef" in one] for name in PODS
    }
    assert {name: refs for name, refs in more.items() if refs} == {
        name: [{"name": "rlfleet-gateway" if name == "gateway" else "rlfleet-workers", "optional": True}]
        for name in workers | {"gateway"}
    }
    filed = {name: [one["secret"] for one in PODS[name]["volumes"] if "secret" in one] for name in PODS}
    key_file = [{"secretName": "rlfleet-gcs", "optional": True}]
    assert {name: files for name, files in filed.items() if files} == {
        "worker-gpu": key_file,
        "worker-maint": key_file,
    }


def test_the_authority_of_the_servers_is_where_their_urls_say() -> None:
    for name in set(PODS) - {"vllm"}:
        places = {mount["name"]: mount["mountPath"] for mount in CONTAINERS[name]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in PODS[name]["volumes"]}
        assert places["ca"] == "/etc/rlfleet/ca", name
        assert volumes["ca"]["configMap"] == {"name": "ca", "optional": True}, name


def test_every_volume_is_mounted_and_every_mount_has_one() -> None:
    for one in ALL:
        name = one["metadata"]["name"]
        if name in PODS and one["kind"] in ("Deployment", "StatefulSet", "Job"):
            claims = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
            there = {volume["name"] for volume in PODS[name]["volumes"]} | claims
            assert {mount["name"] for mount in CONTAINERS[name]["volumeMounts"]} == there, name
