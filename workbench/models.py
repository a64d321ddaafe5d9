"""Load a causal LM from anywhere and hold it: the handle that every other function takes.

    load()                    the embedded default, offline
    load("org/name")          a Hugging Face id
    load("folder")            a checkpoint: plain transformers, or ours with per-layer sizes
    load("file.gguf")         a GGUF file

Weights come from safetensors or GGUF, never from pickles, and no remote code runs unless asked.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from workbench._per_layer import load_per_layer
from workbench._quiet import quiet
from workbench._sources import is_per_layer, locate, source_name
from workbench.architecture import Architecture, describe
from workbench.errors import ArgumentError, ModelError, ResourceError

COPIES, SMALL = 5, 540_000_000  # of float32, in memory; where a size is not known, the default model's
_BUFFERS = ("attn.bias", "attention.bias", "masked_bias")  # causal masks that old checkpoints of GPT-2 and NeoX carry


@dataclass(frozen=True, eq=False)
class LM:
    """A causal LM and its tokenizer: the model handle.

    Attributes
    ----------
    module
        The transformers model, in evaluation mode.
    tokenizer
        Its tokenizer, or None.
    source
        What it was loaded from, in a form that `load` takes again; ``"default"`` is the embedded model.
    """

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    source: str

    @property
    def architecture(self) -> Architecture:
        """The description of its layers, weights and units."""
        return describe(self.module)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the configuration and every tensor; computed afresh, so it notices changed weights."""
        return fingerprint(self.module)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.device

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end an answer: the tokenizer's, and those of the model's own generation settings."""
        own = getattr(getattr(self.module, "generation_config", None), "eos_token_id", None)
        found = {getattr(self.tokenizer, "eos_token_id", None), *(own if isinstance(own, list | tuple) else [own])}
        return frozenset(int(t) for t in found if t is not None)

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.module.parameters())
        kind = "" if self.module.dtype == torch.float32 else f", {str(self.module.dtype).removeprefix('torch.')}"
        return f"LM({self.source!r}, {type(self.module).__name__}, {count / 1e6:.1f} M parameters{kind})"


def fingerprint(module: torch.nn.Module) -> str:
    """SHA-256 hex over configuration, names, shapes, dtypes and bytes of all parameters and persistent buffers."""
    digest = hashlib.sha256()
    config = getattr(module, "config", None)
    if config is not None:
        kept = {k: v for k, v in config.to_dict().items() if k not in _UNIMPORTANT}
        digest.update(json.dumps(kept, sort_keys=True, default=str).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


_UNIMPORTANT = {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}


def wrap(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, source: str = "memory") -> LM:
    """Make a handle from a transformers model that is already in memory (it is not copied).

    Raises
    ------
    ModelError
        If its family is not described.
    """
    describe(module)
    return LM(module.eval(), tokenizer, source)


def as_lm(model: Any) -> LM:
    """The handle of anything that holds a model: an `LM`, a ``Pruned`` or a bare transformers model."""
    if isinstance(model, LM):
        return model
    inner = getattr(model, "lm", None)
    if isinstance(inner, LM):
        return inner
    if isinstance(model, PreTrainedModel):
        return wrap(model)
    raise ArgumentError(
        f"model={model!r} is not a model: pass workbench.load(...), a pruned result or a transformers causal LM"
    )


def load(
    source: str | Path | None = None,
    *,
    dtype: torch.dtype | Literal["fit"] = torch.float32,
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
) -> LM:
    """Load a causal LM.

    Parameters
    ----------
    source
        None for the embedded default, a folder, a GGUF file or a Hugging Face id.
    dtype
        Of the weights. ``"fit"`` is float32 where the memory that is available holds five copies of the model (a
        lesson makes some), and bfloat16 where it does not; the handle says which it was.
    device
        Of the weights.
    trust_remote_code
        Whether code that comes with the checkpoint may run. Off unless you say so.

    Raises
    ------
    ModelError
        If the checkpoint is missing, truncated, incomplete, holds pickles only, or is of a family not described.
    ResourceError
        If the default model is neither cached nor can be fetched.

    Examples
    --------
    >>> lm = workbench.load()                                                        # doctest: +SKIP
    >>> lm                                                                           # doctest: +SKIP
    LM('default', LlamaForCausalLM, 134.5 M parameters)
    """
    name = source_name(source)
    _check_place(torch.float32 if dtype == "fit" else dtype, device)
    folder, options = locate(name)
    if dtype == "fit":
        dtype = _fitting(Path(folder))
    options |= {"trust_remote_code": trust_remote_code}
    with _reading(name), quiet():
        _check_room(Path(folder), dtype)
        if is_per_layer(folder):
            module = load_per_layer(Path(folder), dtype)
            options["config"] = module.config  # the tokenizer's loader would read the file, and refuse it
        else:
            module = _from_pretrained(folder, dtype, options)
        tokenizer = _tokenizer(folder, options)
        moved: Any = module.to(device)  # type: ignore[arg-type]
    return wrap(moved, tokenizer, name)


def _check_place(dtype: Any, device: Any) -> None:
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ArgumentError(f"dtype={dtype!r}: pass a floating-point dtype of torch, such as torch.float32, or 'fit'")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch asserts that it was built for the device
        reason = str(error).split("\n")[0]
        raise ArgumentError(f"device={device!r} cannot be used here ({reason}): pass 'cpu'") from error


def _fitting(folder: Path) -> torch.dtype:
    from workbench.measure.memory import available_memory

    size = sum(f.stat().st_size for f in folder.glob("*.safetensors")) if folder.is_dir() else 0
    return torch.float32 if available_memory() >= COPIES * max(size, SMALL) else torch.bfloat16


def _check_room(folder: Path, dtype: torch.dtype) -> None:
    """Refuse weights that cannot fit into memory, rather than be killed halfway."""
    from workbench.measure.memory import require_memory

    if folder.is_dir():
        size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
        require_memory(size * min(4, dtype.itemsize) // 4, f"loading {folder}")


def _from_pretrained(folder: str, dtype: torch.dtype, options: dict[str, Any]) -> PreTrainedModel:
    """Read with transformers, which fills what is missing or of another shape with random numbers: refused here."""
    reader: Any = AutoModelForCausalLM
    module, info = reader.from_pretrained(
        folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    missing, extra = sorted(info["missing_keys"]), sorted(k for k in info["unexpected_keys"] if _belongs(k))
    mismatched = [
        f"{name} (stored {tuple(stored)}, wanted {tuple(wanted)})"
        for name, stored, wanted in sorted(info.get("mismatched_keys", ()))
    ]
    for names, what in (
        (missing, "is incomplete: it lacks"),
        (mismatched, "does not fit its config.json:"),
        (extra, "holds weights that its config.json has no place for:"),
    ):
        if names:
            raise ModelError(f"{folder} {what} {', '.join(names[:4])}{' ...' if names[4:] else ''}")
    return _dequantized(module)


def _belongs(name: str) -> bool:
    """Whether a tensor that found no place is a weight of a decoder layer, so that the model is another without it."""
    in_layer = re.search(r"(^|\.)(layers|h)\.\d+\.", name)
    return bool(in_layer) and name.endswith((".weight", ".bias")) and not name.endswith(_BUFFERS)


def _dequantized(module: PreTrainedModel) -> PreTrainedModel:
    """Forget that the weights were once quantised (GGUF): they are plain now, and the marks make saving refuse."""
    for holder, name in ((module.config, "quantization_config"), (module, "hf_quantizer")):
        if hasattr(holder, name):
            delattr(holder, name)
    return module


def _tokenizer(folder: str, options: dict[str, Any]) -> PreTrainedTokenizerBase | None:
    wanted = {k: v for k, v in options.items() if k in ("gguf_file", "trust_remote_code", "config")}
    if Path(folder).is_dir() and not wanted.get("gguf_file"):
        names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
        if not any((Path(folder) / n).is_file() for n in names):
            return None
    return AutoTokenizer.from_pretrained(folder, **wanted)


# What transformers and the file formats are known to raise when a checkpoint is missing, damaged or contradicts itself.
_DAMAGE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    struct.error, StrictDataclassError,
)  # fmt: skip


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn what goes wrong while reading a checkpoint into an error that says what to do."""
    try:
        yield
    except SafetensorError as error:
        raise ModelError(f"the weights of {name!r} are damaged or truncated ({error}): fetch them again") from error
    except MemoryError as error:
        raise ResourceError(f"there is too little memory for {name!r}: close other programs") from error
    except _DAMAGE as error:
        text = " ".join(line.strip() for line in str(error).strip().split("\n")[:2]).rstrip(".")
        if isinstance(error, RuntimeError) and ("allocate memory" in text or "out of memory" in text):
            raise ResourceError(f"there is too little memory for {name!r} ({text}): close other programs") from error
        advice = (
            "the checkpoint is damaged or of an unknown kind: fetch or write it again"
            if Path(name).expanduser().exists()
            else "pass a folder, a GGUF file, a Hugging Face id within reach, or nothing for the embedded default"
        )
        raise ModelError(f"cannot load {name!r} ({type(error).__name__}: {text}); {advice}") from error
