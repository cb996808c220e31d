"""Full weights of an adapter and its base, on a stand-in for the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from sqlalchemy import update
from transformers import AutoModelForCausalLM

from db.session import transaction
from db.tables import Checkpoint
from gpu import checkpoints
from gpu.starter import build
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.db import trained
from tests.fleet.publishing import published, run, start
from tests.hub_stand_in import StandIn, hub

# peft 0.21 still asks transformers 5.23 for a property under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
REPO = "acme/agent"
WEIGHTS = {"README.md", "config.json", "generation_config.json", "model.safetensors"}
TOKENIZER = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}


@pytest.fixture
def there() -> Iterator[StandIn]:
    with hub() as found:
        yield found


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A checkpoint with an adapter that says other things than its base."""
    base = build(["turn left", "go to the red ball"] * 20, tmp_path / "base", seed=3, vocabulary=300)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return checkpoints.write(tmp_path / "job", model, 0, str(base), None, {}, {})[0]


@pytest.fixture
def version(database: str, adapter: Path, tmp_path: Path) -> str:
    with transaction() as session:
        empty(session)
        made = trained.add_version(session, trained.add_line(session), state="ready")
        place = {"uri": str(adapter), "base_uri": str(tmp_path / "base"), "sha256": checkpoints.digest(adapter)}
        session.execute(update(Checkpoint).values(**place))
        return made.name


@pytest.mark.slow
def test_merged_weights_are_published_whole_and_made_once(
    version: str, adapter: Path, there: StandIn, tmp_path: Path
) -> None:
    words, state = (version, "--hub", REPO, "--merged"), tmp_path / "state"
    published(there, version, "--hub", REPO, "--base", "acme/base")
    there.faults["commit"] = ["hold"]
    process = start(there, *words, RLFLEET_STATE=str(state))
    assert there.reached.wait(200), process.communicate()
    process.kill()
    process.communicate()
    there.released.set()
    (kept,) = (one for one in (state / "publish").iterdir() if one.is_dir())
    before = (kept / "model.safetensors").stat().st_mtime_ns
    (kept.parent / f".{kept.name}.9.writing").mkdir()
    there.reached.clear()
    there.faults["put"], there.faults["commit"] = [], ["status:403"]
    assert run(there, *words, RLFLEET_STATE=str(state))[0] == 1
    assert (kept / "model.safetensors").stat().st_mtime_ns == before
    code, out, err = run(there, *words, RLFLEET_STATE=str(state))
    assert code == 0, err
    assert "merging" not in err
    assert "files uploaded" in out
    assert [one for one in kept.parent.iterdir() if one.is_dir()] == [], "nor what one that was killed had begun"
    files = there.files(REPO)
    assert set(files) == {".gitattributes", *WEIGHTS, *TOKENIZER}, "the adapter's files are gone from it"
    folder = tmp_path / "loaded"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    merged: Any = AutoModelForCausalLM.from_pretrained(folder)
    base: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    ids = torch.tensor([[5, 9, 11, 40, 7]])
    with torch.no_grad():
        want = PeftModel.from_pretrained(base, str(adapter))(input_ids=ids).logits
        torch.testing.assert_close(merged(input_ids=ids).logits, want, atol=1e-4, rtol=1e-4)


def test_a_base_that_is_gone_is_named(version: str, there: StandIn, tmp_path: Path) -> None:
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    code, out, err = run(there, version, "--hub", REPO, "--merged", "--json", RLFLEET_STATE=str(tmp_path / "state"))
    assert (code, out, there.asked) == (2, "", [])
    assert f"its base, the folder {tmp_path / 'base'}, is gone: put it back" in err
