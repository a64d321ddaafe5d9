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
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from workbench.architecture import Architecture, describe
from workbench.errors import ArgumentError, ModelError

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


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

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.module.parameters())
        return f"LM({self.source!r}, {type(self.module).__name__}, {count / 1e6:.1f} M parameters)"


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
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
) -> LM:
    """Load a causal LM.

    Parameters
    ----------
    source
        None for the embedded default, a folder, a GGUF file or a Hugging Face id.
    dtype, device
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
    name = "default" if source in (None, "", "default") else os.fspath(source)
    folder, options = _locate(name)
    options |= {"trust_remote_code": trust_remote_code}
    with _reading(name), quiet():
        if _per_layer(folder):
            from workbench.checkpoint import dense_config, load_per_layer

            module = load_per_layer(Path(folder), dtype)
            options["config"] = dense_config(Path(folder))
        else:
            module = _from_pretrained(folder, dtype, options)
        tokenizer = _tokenizer(folder, options)
    moved: Any = module.to(device)  # type: ignore[arg-type]
    return wrap(moved, tokenizer, name)


def _locate(name: str) -> tuple[str, dict[str, Any]]:
    """The folder or id that transformers should read, and the options for it."""
    if name == "default":
        from workbench.weights import default_model_dir

        return str(default_model_dir()), {"use_safetensors": True}
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"source={name!r}: there is no such GGUF file")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_file():
        raise ModelError(f"source={name!r} is a file but no GGUF: pass its folder, with config.json beside it")
    if path.is_dir():
        _check_folder(path)
        return str(path), {"use_safetensors": True}
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"source={name!r}: there is no such folder")
    return name, {"use_safetensors": True}


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} holds no config.json, so it is no checkpoint")
    if not any(path.glob("*.safetensors")):
        pickles = [p.name for p in path.iterdir() if p.suffix in PICKLES]
        if pickles:
            raise ModelError(
                f"{path} holds its weights as pickles ({', '.join(pickles[:3])}), which can run any code when they "
                "are opened. They are not read: convert the checkpoint to safetensors where you trust it"
            )
        raise ModelError(f"{path} holds no *.safetensors weights")


def _per_layer(folder: str) -> bool:
    config = Path(folder) / "config.json"
    if not config.is_file():
        return False
    try:
        return "per_layer_config" in json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"{config} is not JSON ({error}): the checkpoint is damaged") from error


def _from_pretrained(folder: str, dtype: torch.dtype, options: dict[str, Any]) -> PreTrainedModel:
    reader: Any = AutoModelForCausalLM
    module, info = reader.from_pretrained(folder, dtype=dtype, output_loading_info=True, **options)
    missing = sorted(info["missing_keys"]) + sorted(str(k) for k in info.get("mismatched_keys", ()))
    if missing:  # transformers fills what is missing with random numbers
        raise ModelError(f"{folder} is incomplete: it lacks {', '.join(missing[:4])}{' ...' if missing[4:] else ''}")
    return _dequantized(module)


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


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn what goes wrong while reading a checkpoint into an error that says what to do."""
    try:
        yield
    except SafetensorError as error:
        raise ModelError(f"the weights of {name!r} are damaged or truncated ({error}): fetch them again") from error
    except (OSError, ValueError, KeyError) as error:
        text = str(error).strip().split("\n")[0]
        raise ModelError(
            f"cannot load {name!r}: {text}. Pass a folder, a GGUF file, a Hugging Face id that can be reached, "
            "or nothing for the embedded default"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and notices while a checkpoint is read, and put them back."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
