"""Log-probabilities of padded batches, with and without a shared prefix, against one row at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gpu import forward
from gpu.policy import Policy
from rl.config import Lora


def rows(shared: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, 250, (4, 40), generator=generator)
    ids[:, :shared] = ids[0, :shared]
    lengths = torch.tensor([40, 31, 26, 33])
    return ids, lengths, torch.rand(4, 40, generator=generator) < 0.4


@pytest.fixture
def model(base: Path, policy: Policy) -> Any:
    model, _ = policy.trainable(str(base), None, Lora(rank=4, alpha=8), seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return model


def plain(model: Any, ids: Tensor, lengths: Tensor, selected: Tensor, temperature: float) -> Tensor:
    picked = []
    for row, length, chosen in zip(ids, lengths.tolist(), selected, strict=True):
        logits = model(input_ids=row[None, :length]).logits[0] / temperature
        logp = torch.log_softmax(logits, -1)
        picked += [logp[at - 1, row[at]] for at in range(1, length) if chosen[at]]
    return torch.stack(picked)


@pytest.mark.parametrize("shared", [0, 8, 25])
def test_values_and_gradients_match_single_rows(model: Any, shared: int) -> None:
    ids, lengths, selected = rows(shared)
    assert forward.common_prefix(ids, 26) == shared
    weights = torch.randn(int(selected.sum()) + 200, generator=torch.Generator().manual_seed(1))
    gradients = []
    for score in (
        lambda: forward.log_probs(model, ids, lengths, selected, 0.7).logp,
        lambda: plain(model, ids, lengths, selected, 0.7),
    ):
        model.zero_grad()
        logp = score()
        (logp * weights[: len(logp)]).sum().backward()
        gradients.append((logp.detach(), [p.grad.clone() for p in model.parameters() if p.requires_grad]))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


def test_rows_and_columns_point_at_the_tokens(model: Any) -> None:
    ids, lengths, selected = rows(0)
    terms = forward.log_probs(model, ids, lengths, selected)
    assert selected[terms.row, terms.column].all()
    assert (terms.column < lengths[terms.row]).all()
    assert (terms.column > 0).all()


def test_a_chunked_head_changes_nothing(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, lengths, selected = rows(25)
    whole = forward.log_probs(model, ids, lengths, selected)
    monkeypatch.setattr(forward, "HEAD_ROWS", 7)
    parts = forward.log_probs(model, ids, lengths, selected)
    torch.testing.assert_close(parts.logp, whole.logp)
    torch.testing.assert_close(parts.entropy, whole.entropy)


def test_identical_rows_still_leave_a_token_to_compute(model: Any) -> None:
    ids = torch.arange(3, 33).repeat(3, 1)
    terms = forward.log_probs(model, ids, torch.tensor([30, 30, 30]), torch.ones_like(ids, dtype=torch.bool))
    assert len(terms.logp) == 3 * 29
    torch.testing.assert_close(terms.logp[:29], terms.logp[29:58])
