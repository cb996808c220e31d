"""The policies on one device: base models, versions by name, and models to train.

Versions share the tensors of their base, but each has its own tree of modules with its own adapter. The
active adapter of a peft model is state of the whole model; one tree for all would let a rollout of one
version be answered by another's weights whenever two threads disagree. A tree costs a few kilobytes.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from gpu import quantize
from gpu.checkpoints import base_of
from gpu.device import DeviceLock, free_unused, named_failures
from gpu.fetching import at_hand
from gpu.ranks import ALONE, Ranks
from gpu.tokens import ChatTokens, load_tokens
from rl.config import Lora
from rl.errors import InvalidInput

MERGED_BYTES = 256 << 20
"""Adapters on a base of at most this many bytes are served from a merged copy of the weights."""


@dataclass(frozen=True, eq=False)
class Base:
    """Full weights and the tokenizer they speak with."""

    path: str
    model: PreTrainedModel
    tokens: ChatTokens


@dataclass(frozen=True, eq=False)
class Version:
    """A policy that can be served. ``model`` shares its weights with ``base``, or owns a merged copy."""

    name: str
    path: str
    kind: Literal["full", "adapter"]
    base: Base
    model: Any

    @property
    def tokens(self) -> ChatTokens:
        """The tokenizer it speaks with."""
        return self.base.tokens


class Policy:
    """Everything loaded on one device, under one lock that engine and trainer take in turn.

    At most ``max_versions`` on at most ``max_bases`` full models stay loaded; those that were used longest ago make
    room, and whoever asks for one again loads it again. Requests under way keep what they use. ``device`` is the
    first of the ``devices`` that its process holds. ``ranks`` are the processes of the training that this one is of;
    what it trains is sharded over them, and so comes by way of the machine's memory and is kept nowhere else.
    """

    def __init__(
        self,
        device: torch.device,
        max_bases: int = 2,
        max_versions: int = 16,
        merged_bytes: int = MERGED_BYTES,
        devices: Sequence[torch.device] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        self.device, self.devices, self.ranks = device, list(devices) or [device], ranks
        self._loading_on = device if ranks.world == 1 else torch.device("cpu")
        self.lock = DeviceLock()
        self.max_bases, self.max_versions = max_bases, max_versions
        self.merged_bytes = merged_bytes
        self._bases: OrderedDict[str, Base] = OrderedDict()
        self._versions: OrderedDict[str, Version] = OrderedDict()
        self._loading = threading.Lock()

    def names(self) -> list[str]:
        """The versions that can be asked for, the one used longest ago first."""
        return list(self._versions)

    def version(self, name: str) -> Version | None:
        """The version called ``name``, if it is loaded; asking for it counts as use."""
        version = self._versions.get(name)
        if version is not None:
            with contextlib.suppress(KeyError):  # unloaded by another thread just now
                self._versions.move_to_end(name)
        return version

    def holds(self, base: str) -> bool:
        """Whether the full weights in that folder are on the device."""
        return str(Path(base).resolve()) in self._bases

    def serves(self, base: str) -> bool:
        """Whether a version that can be asked for needs the full weights in that folder."""
        path = str(Path(base).resolve())
        return any(version.base.path == path for version in list(self._versions.values()))

    def drop_idle(self) -> None:
        """Give up the full weights that no version needs, and what the devices keep in reserve."""
        with self._loading, self.lock:
            for path in [path for path in self._bases if not self.serves(path)]:
                del self._bases[path]
            for device in self.devices:
                free_unused(device)

    @contextlib.contextmanager
    def using(self, version: Version) -> Iterator[Any]:
        """The version's model, while this thread has the device."""
        with self.lock, named_failures(f"running {version.name}"), torch.inference_mode():
            yield version.model

    def load(self, name: str, path: str, base: str | None = None) -> Version:
        """Serve the folder at ``path``, full weights or an adapter, under ``name``; again with the same path is fine.

        ``base`` overrides the base an adapter names, for checkpoints that were moved. What is not here is fetched.

        Raises:
            InvalidInput: the folder is no policy, or the name is another's.
            EngineUnavailable: the folder is not here, and cannot be fetched at the moment.
        """
        folder = Path(at_hand(path, base)).resolve()
        with self._loading:
            known = self._versions.get(name)
            if known and known.path == str(folder):
                return known
            if known:
                raise InvalidInput("lora_name", name, f"it is loaded from {known.path}; unload it first")
            with self.lock, named_failures(f"loading {name}"):
                version = self._build(name, folder, base)
            self._versions[name] = version
            while len(self._versions) > self.max_versions:
                self._versions.popitem(last=False)
            return version

    def unload(self, name: str) -> bool:
        """Forget ``name``; whether it was there. Requests that are being answered are finished with it."""
        with self._loading:
            return self._versions.pop(name, None) is not None

    def trainable(
        self,
        base: str,
        parent: str | None,
        lora: Lora | None,
        seed: int,
        quantization: Literal["4bit"] | None = None,
    ) -> tuple[Any, ChatTokens]:
        """A model of its own to train, in train mode, and its tokenizer.

        With ``lora``: the base's shared, frozen tensors under a new adapter or that of ``parent``. Without:
        a full 32-bit copy of ``parent``, or of ``base`` where there is none. In four bits the base is a copy of its
        own too, for this training alone.

        Raises:
            InvalidInput: the parent is of another kind, its adapter of another shape, or four bits are impossible.
        """
        if quantization:
            quantize.refuse_impossible(lora)
        with self._loading, self.lock, named_failures("loading the model to train"):
            if lora is None:
                folder = Path(parent or base).resolve()
                model = _read_model(folder, torch.float32, self._loading_on)
                return model.train(), load_tokens(folder)
            model, tokens = self._to_adapt(Path(base).resolve(), quantization)
            if parent is not None:
                adapted = _adapted(model, Path(parent), trainable=True)
                _check_shape(adapted, lora, parent)
            else:
                adapted = _fresh_adapter(model, lora, seed)
            return adapted.train(), tokens

    def _build(self, name: str, folder: Path, base: str | None) -> Version:
        if not (folder / "adapter_config.json").is_file():
            full = self._base(str(folder))
            return Version(name, str(folder), "full", full, full.model)
        shared = self._base(str(Path(base or base_of(folder)).resolve()))
        if _bytes(shared.model) > self.merged_bytes:
            return Version(name, str(folder), "adapter", shared, _adapted(_sharing(shared.model), folder))
        adapted: Any = _adapted(copy.deepcopy(shared.model), folder)
        return Version(name, str(folder), "adapter", shared, adapted.merge_and_unload().eval())

    def _to_adapt(self, base: Path, quantization: Literal["4bit"] | None) -> tuple[PreTrainedModel, ChatTokens]:
        """The frozen base of a training. One in four bits is loaded because memory is short: an idle copy goes."""
        if quantization is None and self.ranks.world > 1:
            # Tensors that something else refers to would not be freed when the model is sharded.
            return _read_model(base, self._dtype, self._loading_on), load_tokens(base)
        if quantization is None:
            shared = self._base(str(base))
            return _sharing(shared.model), shared.tokens
        if all(version.base.path != str(base) for version in self._versions.values()):
            self._bases.pop(str(base), None)
        return quantize.load_4bit(base, self.device), load_tokens(base)

    def _base(self, path: str) -> Base:
        """The base at ``path``; the one whose versions were used longest ago makes room for it."""
        if path in self._bases:
            return self._bases[path]
        used = list(dict.fromkeys(version.base.path for version in reversed(self._versions.values())))
        kept = used[: self.max_bases - 1]
        for dropped in [one for one in self._bases if one not in kept]:
            if len(self._bases) >= self.max_bases:
                del self._bases[dropped]
                for version in [one for one in self._versions.values() if one.base.path == dropped]:
                    self._versions.pop(version.name, None)
        folder = Path(path)
        model: Any = _read_model(folder, self._dtype, self._loading_on)
        self._bases[path] = Base(path, model.eval(), load_tokens(folder))
        return self._bases[path]

    @property
    def _dtype(self) -> torch.dtype:
        """What a base is kept in."""
        return torch.float32 if self.device.type == "cpu" else torch.bfloat16


def _read_model(folder: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Full weights from safetensors; nothing that could carry code is ever read."""
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise InvalidInput("path", str(folder), "the folder must hold config.json and safetensors weights")
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa", local_files_only=True, use_safetensors=True
    )
    moved: Any = model
    loaded: PreTrainedModel = moved.to(device)
    return loaded


def _sharing(model: PreTrainedModel) -> PreTrainedModel:
    """A second tree of modules over the very same tensors."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _adapted(model: PreTrainedModel, folder: Path, trainable: bool = False) -> PeftModel:
    if not (folder / "adapter_model.safetensors").is_file():
        raise InvalidInput("path", str(folder), "the folder must hold adapter_model.safetensors")
    adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    return adapted.train(trainable)


def _fresh_adapter(model: PreTrainedModel, lora: Lora, seed: int) -> Any:
    """A new adapter on every linear layer of the body; it changes nothing yet, because B is zero."""
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def _check_shape(model: PeftModel, lora: Lora, parent: str) -> None:
    config: Any = model.peft_config["default"]
    if (config.r, config.lora_alpha) != (lora.rank, lora.alpha):
        remedy = f"{parent} has rank {config.r} and alpha {config.lora_alpha}; a child must keep them"
        raise InvalidInput("lora", f"rank {lora.rank}, alpha {lora.alpha}", remedy)


def _bytes(model: PreTrainedModel) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())
