"""A starter policy from nothing: a tokenizer trained on texts, and a small random Qwen3.

``python -m gpu.starter --texts FILE --out DIR --seed N`` reads JSON lines, each a string. Unless it is made larger,
the model has about 0.7 M parameters, no pretrained skill, and learns a small text world in about a minute on one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from gpu.checkpoints import write_full
from rl.errors import InvalidInput, RlfleetError

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ROLES = ["system", "user", "assistant"]
CONTEXT_LENGTH = 2048


@dataclass(frozen=True)
class Shape:
    """How large the model is; ``width`` is a multiple of 32."""

    context_length: int = CONTEXT_LENGTH
    layers: int = 3
    width: int = 128


SMALL = Shape()


def build(texts: Iterable[str], out: Path, seed: int, vocabulary: int = 512, shape: Shape = SMALL) -> Path:
    """Write tokenizer and weights to ``out``, whole or not at all; the same texts and seed give the same weights.

    Raises:
        InvalidInput: there are no texts, or ``out`` is there and not empty.
    """
    texts = list(texts)
    if not texts:
        raise InvalidInput("texts", 0, "give at least one text to train the tokenizer on")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InvalidInput("out", str(out), "something is there already; name a new folder, or remove that one")
    tokenizer = train_tokenizer(texts, vocabulary)
    tokenizer.model_max_length = shape.context_length
    new = out.with_name(f"{out.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    tokenizer.save_pretrained(new)
    write_full(new, random_model(tokenizer, seed, shape), None)
    new.rename(out)
    return out


def read_texts(path: Path) -> Iterator[str]:
    """The strings in a file of JSON lines; empty lines are none.

    Raises:
        InvalidInput: the file cannot be read, or a line is not a JSON string.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InvalidInput("texts", str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput("texts", str(path), "is not text in UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _string(line, f"line {number} of texts")


def _string(line: str, field: str) -> str:
    try:
        text = json.loads(line)
    except ValueError:
        raise InvalidInput(field, line, 'is not JSON; each line is one string, such as "turn left"') from None
    if not isinstance(text, str):
        raise InvalidInput(field, line, 'is no string; each line is one, such as "turn left"')
    return text


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits, so that no number is a token of its own, and the ChatML template."""
    bpe = Tokenizer(models.BPE())
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    bpe.pre_tokenizer = pre_tokenizers.Sequence(split)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # The roles stand in every prompt but in no text: without them each would cost several tokens.
    bpe.train_from_iterator([*texts, *ROLES * 20], trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHATML
    tokenizer.model_max_length = CONTEXT_LENGTH
    return tokenizer


def random_model(tokenizer: PreTrainedTokenizerFast, seed: int, shape: Shape = SMALL) -> Qwen3ForCausalLM:
    """Three layers of width 128, or as ``shape`` says: heads of 32, an MLP three times as wide, tied embeddings.

    Weights are drawn with a deviation of 0.06, about 1 / sqrt(2 x width). Qwen3's own 0.02 is meant for widths in
    the thousands: at this one, heads that copy what the goal names form late, and with some seeds not at all.
    """
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // 32,
        num_key_value_heads=shape.width // 32,
        head_dim=32,
        intermediate_size=3 * shape.width,
        max_position_embeddings=shape.context_length,
        tie_word_embeddings=True,
        initializer_range=0.06,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gpu.starter", description=__doc__)
    parser.add_argument("--texts", type=Path, required=True, help="JSON lines of strings")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocabulary", type=int, default=512, help="tokens, the 256 bytes and ChatML's among them")
    parser.add_argument("--context-length", type=int, default=SMALL.context_length, help="tokens of a conversation")
    parser.add_argument("--layers", type=int, default=SMALL.layers)
    parser.add_argument("--width", type=int, default=SMALL.width, help="a multiple of 32")
    args = parser.parse_args()
    shape = Shape(args.context_length, args.layers, args.width)
    try:
        build(read_texts(args.texts), args.out, args.seed, args.vocabulary, shape)
    except RlfleetError as error:
        sys.stderr.write(f"gpu.starter: {error}\n")
        raise SystemExit(2 if isinstance(error, InvalidInput) else 1) from None


if __name__ == "__main__":
    main()
