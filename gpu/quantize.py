"""A base in four bits, for adapters whose base would not fit otherwise."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from rl.config import Lora
from rl.errors import InvalidInput


def refuse_impossible(lora: Lora | None) -> None:
    """Refuse four bits where they cannot be trained on.

    Raises:
        InvalidInput: there is no adapter to train, or bitsandbytes is missing.
    """
    if lora is None:
        remedy = "weights in four bits cannot be trained; set lora to train an adapter on them"
    elif not available():
        remedy = "it needs the package bitsandbytes, which is not installed; install it, or leave quantization out"
    else:
        return
    raise InvalidInput("config.quantization", "4bit", remedy)


def available() -> bool:
    """Whether the package that quantises is installed."""
    return importlib.util.find_spec("bitsandbytes") is not None


def bytes_of(parameter: Any) -> int:
    """Bytes of a parameter as it is kept; one in four bits with its blocks' scales."""
    state = getattr(parameter, "quant_state", None)
    scales = [] if state is None else [state.absmax, state.state2.absmax if state.nested else None, state.code]
    return int(parameter.nbytes + sum(one.nbytes for one in scales if one is not None))


def load_4bit(folder: Path, device: torch.device) -> PreTrainedModel:
    """The full weights in ``folder``, those of linear layers in NF4 with double quantisation, the rest in bfloat16.

    QLoRA (arXiv 2305.14314). Norms and embeddings are not widened to float32, as peft's preparation would do: they
    are frozen, and the unquantised base has them in bfloat16 too.
    """
    four_bits = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=four_bits,
        dtype=torch.bfloat16,
        device_map={"": device},
        attn_implementation="sdpa",
        local_files_only=True,
        use_safetensors=True,
    )
    return model.requires_grad_(False)
