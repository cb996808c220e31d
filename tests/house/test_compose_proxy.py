"""A proxy for what is elsewhere is not asked for what is beside a container, nor for a container itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.request import proxy_bypass_environment

import pytest
import yaml

from tests.house.test_compose import MODEL, OURS, SECRETS, _config

PROXY = {"HTTP_PROXY": "http://proxy.internal:3128", "http_proxy": "http://proxy.internal:3128"}


def shown(folder: Path, more: dict[str, str]) -> dict[str, Any]:
    run = _config(folder, SECRETS | MODEL | PROXY | more, "docker/gpu.yml")
    assert run.returncode == 0, run.stderr
    services: dict[str, Any] = yaml.safe_load(run.stdout)["services"]
    return services


@pytest.mark.parametrize("theirs", ["", "hub.internal,.example.com"])
def test_what_is_here_is_asked_directly(tmp_path: Path, theirs: str) -> None:
    services = shown(tmp_path, {"NO_PROXY": theirs})
    probed = set()
    for name in (*OURS, "vllm"):
        environ = services[name]["environment"]
        assert environ["NO_PROXY"] == environ["no_proxy"], name
        asked = set(re.findall(r"https?://([\w.]+)", " ".join(services[name].get("healthcheck", {}).get("test", ()))))
        probed |= {name} if asked else set()
        here = asked if name == "vllm" else asked | {"gateway", "vllm"}
        for host in here | (set(theirs.split(",")) - {""}):
            assert proxy_bypass_environment(host.removeprefix("."), {"no": environ["no_proxy"]}), (name, host)
        assert not proxy_bypass_environment("elsewhere.org", {"no": environ["no_proxy"]})
    assert probed == {"gateway", "admin", "flower", "vllm"}
