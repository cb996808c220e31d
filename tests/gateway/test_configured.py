"""The file of upstreams: what it may say, and what is said of what it may not."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from gateway.configured import Most, Server, read
from gateway.settings import GatewaySettings
from rl.errors import InvalidSettings
from tests.gateway.test_main import said

ROOT = Path(__file__).parents[2]
KEYS = {"OPENPIPE_API_KEY": "hush-openpipe", "WANDB_API_KEY": "hush-wandb", "OTHER_KEY": "hush-other"}


def of_file(folder: Path, text: str, **environ: str) -> tuple[Server, ...]:
    path = folder / "upstreams.toml"
    path.write_text(text)
    return read(path, KEYS | environ)


def test_every_kind_has_its_defaults(tmp_path: Path) -> None:
    servers = of_file(
        tmp_path,
        """
        [upstreams.router]
        kind = "openai"
        url = "https://router.example/v1/"
        key_env = "OTHER_KEY"
        model = "big/model"
        concurrent = 4
        per_minute = 60
        per_day = 1000
        [upstreams.pipe]
        kind = "openpipe"
        [upstreams.wandb]
        kind = "wandb"
        [upstreams.gpu]
        kind = "vllm"
        url = "http://gpu:8000/v1"
        root = "/mnt/artifacts/"
        adapters = 8
        bases = ["Qwen/Qwen3-0.6B"]
        [upstreams.sg]
        kind = "sglang"
        url = "http://gpu:30000/v1"
        serves = ["versions"]
        """,
    )

    assert [one.name for one in servers] == ["router", "pipe", "wandb", "gpu", "sg"], "in the file's order"
    router, pipe, wandb, gpu, sg = servers
    assert (router.url, router.key, router.model) == ("https://router.example/v1", "hush-other", "big/model")
    assert router.most == Most(concurrent=4, per_minute=60, per_day=1000)
    assert (pipe.url, pipe.key, pipe.serves) == ("https://api.openpipe.ai/api/v1", "hush-openpipe", ("base",))
    assert (wandb.url, wandb.key, wandb.serves) == (
        "https://api.inference.wandb.ai/v1",
        "hush-wandb",
        ("versions",),
    )
    assert (gpu.home, gpu.key, gpu.serves) == ("http://gpu:8000", "", ("versions", "base"))
    assert (gpu.root, gpu.adapters, gpu.most) == ("/mnt/artifacts", 8, Most())
    assert (gpu.bases, sg.bases) == (("Qwen/Qwen3-0.6B",), ())
    assert sg.serves == ("versions",)
    assert "hush" not in repr(servers)


def test_what_compose_and_the_documentation_have_can_be_used(tmp_path: Path) -> None:
    (vllm,) = read(ROOT / "docker/vllm.toml", {"RLFLEET_ENGINE_KEY": "key"})
    assert (vllm.kind, vllm.url, vllm.key) == ("vllm", "http://vllm:8000/v1", "key")
    assert set(vllm.serves) == {"versions", "base"}

    page = (ROOT / "docs/gateway.md").read_text()
    (block,) = re.findall(r"```toml\n(\[upstreams.*?)```", page, re.DOTALL)
    named = dict.fromkeys(re.findall(r'key_env = "(\w+)"', block), "key")
    assert len(of_file(tmp_path, block, **named)) >= 4


@pytest.mark.parametrize(
    ("text", "field", "value", "remedy"),
    [
        ("[upstreams.a]\nkind = 'openia'\nurl = 'http://x/v1'", "a.kind", "openia", "should be 'openai'"),
        ("[upstreams.a]\nkind = 'openai'", "a", None, "kind openai needs url"),
        ("[upstreams.a]\nkind = 'openai'\nurl = 'x/v1'", "a.url", "x/v1", "match pattern"),
        ("[upstreams.a]\nkind = 'openai'\nurl = 'http://me:hush@x/v1'", "a.url", "<hidden>", "key_env"),
        ("[upstreams.a]\nkind = 'openai'\nurl = 'http://x/v1?key=hush'", "a.url", "<hidden>", "match pattern"),
        ("[upstreams.a]\nkind = 'wandb'\nkey = 'hush'", "a.key", "<hidden>", "no such key; use kind, url, key_env"),
        ("[upstreams.a]\nkind = 'vllm'\nurl = 'http://x'", "a", None, "must end with /v1"),
        ("[upstreams.a]\nkind = 'wandb'\nadapters = 3", "a", None, "vllm and sglang"),
        ("[upstreams.a]\nkind = 'openpipe'\nserves = ['versions']", "a", None, "cannot serve versions"),
        ("[upstreams.a]\nkind = 'wandb'\nserves = []", "a.serves", None, "at least 1"),
        ("[upstreams.a]\nkind = 'wandb'\nper_minute = 0", "a.per_minute", 0, "greater than or equal to 1"),
        ("[upstreams.a]\nkind = 'wandb'\nkey_env = 'UNSET'", "a.key_env", "UNSET", "is not set"),
        ("[upstreams.a]\nkind = 'wandb'\nkey_env = 'sk-hush'", "a.key_env", "<hidden>", "match pattern"),
        ("[upstreams.a]\nkind = 'wandb'\nkey_env = 'abchush0123'", "a.key_env", "<hidden>", "is not set"),
        ("[upstreams.a]\nkind = 'openai'\nurl = 'http://x:abc/v1'", "a.url", "http://x:abc/v1", "with a port up to"),
        ("[upstreams.a]\nkind = 'openai'\nurl = 'http://x:99999/v1'", "a.url", None, "with a port up to 65535"),
        ("[upstreams.a]\nkind = 'openai'\nurl = 'http://[::1/v1'", "a.url", None, "with a port up to 65535"),
        ("[upstreams.a]\nkind = 'openai'\nurl = 'http:///v1'", "a.url", None, "http://HOST:PORT/v1"),
        ("[upstreams.a]\nkind = 'wandb'\nbases = ['/b']", "a", None, "root, adapters and bases are for vllm and"),
        ("[upstreams.a]\nkind = 'vllm'\nurl = 'http://x/v1'\nbases = []", "a.bases", None, "at least 1"),
        ("[upstreams.base]\nkind = 'wandb'", "base", "base", "another name"),
        ("[upstreams.A]\nkind = 'wandb'", "A", "A", "match pattern"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, field: str, value: object, remedy: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        of_file(tmp_path, text)

    assert refused.value.field.startswith(f"upstreams.toml: upstreams.{field}")
    if value is not None:
        assert refused.value.value == value
    assert remedy in refused.value.remedy
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "[other]", "upstreams = 3", "[upstreams"])
def test_a_file_that_is_none_is_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidSettings, match=r"upstreams\.toml"):
        of_file(tmp_path, text)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"RLFLEET_UPSTREAMS = .*cannot be read: No such file"):
        read(tmp_path / "none.toml", {})


def test_a_key_may_come_in_a_file_and_is_one_word(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    text = "[upstreams.a]\nkind = 'openai'\nurl = 'http://x/v1'\nkey_env = 'MINE'"
    assert of_file(tmp_path, text, MINE_FILE=str(tmp_path / "key"))[0].key == "from-file"
    for wrong in ("hush\r\nX-Other: 1", "hush hush", "hüsh"):
        with pytest.raises(InvalidSettings, match="not one word of ASCII") as refused:
            of_file(tmp_path, text, MINE=wrong)
        assert "hush" not in str(refused.value)


def test_the_settings_know_the_keys_however_they_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "upstreams.toml"
    path.write_text("[upstreams.pipe]\nkind = 'openpipe'\n[upstreams.mine]\nkind = 'wandb'\nkey_env = 'MINE'")
    monkeypatch.setenv("MINE", "two")
    given = {"RLFLEET_UPSTREAMS": path, "OPENPIPE_API_KEY": "one", "UPSTREAM_BASE_URL": "http://first/v1"}
    settings = GatewaySettings.model_validate(given)

    assert [(one.name, one.key) for one in settings.servers()] == [("base", ""), ("pipe", "one"), ("mine", "two")]


def test_a_gateway_whose_key_is_missing_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "upstreams.toml"
    path.write_text("[upstreams.pipe]\nkind = 'openpipe'")
    assert "OPENPIPE_API_KEY" not in os.environ
    assert said(RLFLEET_UPSTREAMS=str(path)) == [
        "gateway: upstreams.toml: upstreams.pipe.key_env = 'OPENPIPE_API_KEY': "
        "this environment variable is not set; set it to the upstream's key"
    ]
