"""Starter models for real engines: one whose template knows tools, and one that was taught what to answer."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen3ForCausalLM

from gpu.starter import CHATML, build

WORDS = ["turn left", "turn right", "move forward", "go to the red ball", "go to the blue key", "You see: wall 4 ahead"]
STEPS, LEARNING_RATE = 120, 3e-3
UNANSWERED = -100

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
) + CHATML.replace(
    "{{ m['content'] }}",
    "{{ m['content'] or '' }}{% for c in m.tool_calls or [] %}{{ '\n' }}"
    '<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments }}}\n</tool_call>{% endfor %}',
)
"""As in Qwen3's: the tools first, and calls after the content, each in a block of its own."""


def starter(folder: Path, seed: int = 0) -> Path:
    """A random starter model in ``folder`` that can be offered tools."""
    made = build(WORDS * 20, folder, seed, vocabulary=300)
    (made / "chat_template.jinja").write_text(TEMPLATE)
    return made


def teach(weights: Path, folder: Path, asked: Sequence[dict[str, Any]], answer: str) -> Path:
    """A copy of the model in ``folder`` that answers each of the requests with ``answer`` and nothing else."""
    shutil.copytree(weights, folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    said = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
    texts = [tokenizer.apply_chat_template(**one, tokenize=False, add_generation_prompt=True) for one in asked]
    rows = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    for _ in range(STEPS):
        for prompt in rows:
            labels = torch.tensor([[UNANSWERED] * len(prompt) + said])
            model(input_ids=torch.tensor([prompt + said]), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder
