"""Write a model so that others can read it, and read what has sizes of its own in every layer.

Two kinds of folder, both safetensors and config.json, nothing else that could run:

    transformers    every layer has the same sizes, and a transformers configuration can say them:
                    ``AutoModelForCausalLM.from_pretrained`` reads it
    per-layer       anything else: the configuration keeps the dense sizes and lists each layer's own under
                    ``per_layer_config`` (transformers' schema); `workbench.load` reads it, and the shapes of the
                    tensors alone determine the model

A Llama whose number of heads its configuration refuses goes out as Mistral without a sliding window: the same
names, the same computation. Every folder is read back and compared before it takes its place.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from workbench._per_layer import per_layer_config, sizes_of
from workbench._quiet import quiet
from workbench.architecture import Architecture
from workbench.errors import ModelError, ResourceError
from workbench.jobs import Progress
from workbench.measure.memory import require_disk
from workbench.models import LM, as_lm, load

TOLERANCE = 1e-4
RECIPE = "recipe.json"


@dataclass(frozen=True, slots=True)
class Saved:
    """Where a model was written.

    Attributes
    ----------
    folder
        That holds it.
    kind
        ``"transformers"`` or ``"per-layer"``.
    bytes
        Size of the weights on disk.
    max_logit_difference
        Between the model in memory and the one read back.
    """

    folder: Path
    kind: str
    bytes: int
    max_logit_difference: float


def save(model: Any, folder: str | Path, *, overwrite: bool = False, progress: Progress | None = None) -> Saved:
    """Write a model to a folder, whole or not at all.

    Parameters
    ----------
    model
        A pruned result (its recipe goes along), a handle or a transformers causal LM.
    folder
        Must be new or empty, unless ``overwrite``.

    Raises
    ------
    ModelError
        If the folder holds something, or what was read back differs.
    ResourceError
        If the disk is too small.
    """
    lm, target, progress = as_lm(model), Path(folder).expanduser(), progress or Progress()
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not overwrite:
        raise ModelError(f"folder={str(target)!r} holds something already: name a new one, or pass overwrite=True")
    size = sum(p.numel() * p.element_size() for p in lm.module.parameters())
    require_disk(target.parent, size + 2**22)
    part: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        kind = _write(lm, part, getattr(model, "recipe", None))
        progress.step("read back", 1, 2)
        difference = _compare(lm, part)
        progress.step("read back", 2, 2)
        part.chmod(0o755)
        _replace(part, target)
    except (OSError, SafetensorError) as error:
        raise ResourceError(f"cannot write {target} ({error}): nothing was changed there") from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
    written = sum(f.stat().st_size for f in target.glob("*.safetensors"))
    return Saved(target, kind, written, difference)


def _replace(part: Path, target: Path) -> None:
    """Put ``part`` into the place of ``target``; what was there is put back if that fails, else removed."""
    old = part.with_suffix(".old")
    if target.exists() or target.is_symlink():
        target.rename(old)
    try:
        part.rename(target)
    except BaseException:
        if old.exists() or old.is_symlink():
            old.rename(target)
        raise
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


def _write(lm: LM, folder: Path, recipe: Any) -> str:
    module, arch = lm.module, lm.architecture
    plain = plain_config(arch)
    config = per_layer_config(arch) if plain is None else plain.to_dict()
    if plain is not None:
        config["architectures"] = [_class_name(plain)]
    (folder / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
    save_file(stored_tensors(module, plain), folder / "model.safetensors", metadata={"format": "pt"})
    if module.generation_config is not None:
        module.generation_config.save_pretrained(folder)
    if lm.tokenizer is not None:
        lm.tokenizer.save_pretrained(folder)
    if recipe is not None:
        recipe.save(folder / RECIPE)
    return "per-layer" if plain is None else "transformers"


def stored_tensors(module: PreTrainedModel, plain: PreTrainedConfig | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by Hugging Face's names; what is tied is stored once.

    A Llama with biases on some linears needs all of them in a plain checkpoint: those that it lacks are zeros.
    """
    tied = set(getattr(module, "all_tied_weights_keys", None) or ())
    tensors = {k: v.detach().contiguous() for k, v in module.state_dict().items() if k not in tied}
    if plain is not None:
        with torch.device("meta"):
            twin = AutoModelForCausalLM.from_config(plain)
        for name, tensor in twin.state_dict().items():
            if name.endswith(".bias") and name not in tensors and name not in tied:
                tensors[name] = torch.zeros(tensor.shape, dtype=module.dtype)
    return tensors


def plain_config(arch: Architecture) -> PreTrainedConfig | None:
    """A transformers configuration that builds exactly these shapes, or None if there is none."""
    sizes = {sizes_of(arch, i) for i in range(arch.num_layers)}
    if len(sizes) != 1 or _flat_norms_cut(arch):
        return None
    width, heads, groups = sizes.pop()
    keys = arch.family.sizes
    changes = dict(zip(keys, (width, heads, groups), strict=True))
    changes.pop("", None)
    biased = _new_biases(arch)
    config = arch.module.config
    if hasattr(config, "head_dim"):
        changes["head_dim"] = arch.head_dim
    if biased:
        changes |= {"attention_bias": True, "mlp_bias": True}
    for kind, extra in ((config.model_type, {}), ("mistral", {"sliding_window": None})):
        if kind != config.model_type and (config.model_type != "llama" or biased):
            continue
        found = _try_config(arch, kind, changes | extra)
        if found is not None:
            return found
    return None


def _try_config(arch: Architecture, kind: str, changes: dict[str, Any]) -> PreTrainedConfig | None:
    """The configuration with some changes, if it builds a model of just the shapes at hand."""
    values = {k: v for k, v in arch.module.config.to_dict().items() if k != "model_type"} | changes
    try:
        with torch.device("meta"), quiet():
            config = AutoConfig.for_model(kind, **values)
            twin = AutoModelForCausalLM.from_config(config)
    except (
        StrictDataclassError,
        ValueError,
        TypeError,
        RuntimeError,
        AttributeError,
    ):  # it refuses these sizes
        return None
    ours = {k: tuple(v.shape) for k, v in arch.module.state_dict().items()}
    theirs = {k: tuple(v.shape) for k, v in twin.state_dict().items()}
    lacking = {k for k in theirs if k not in ours}
    if any(not k.endswith(".bias") for k in lacking) or any(theirs.get(k) != s for k, s in ours.items()):
        return None
    return config


def _class_name(config: PreTrainedConfig) -> str:
    with torch.device("meta"):
        return type(AutoModelForCausalLM.from_config(config)).__name__


def _flat_norms_cut(arch: Architecture) -> bool:
    """Whether a norm over all heads' entries lost some: its epsilon is its own then, which no configuration says."""
    heads = arch.module.config.num_attention_heads
    return bool(arch.family.flat_norms) and any(arch.query_heads(i) != heads for i in range(arch.num_layers))


def _new_biases(arch: Architecture) -> bool:
    """Whether a repair gave biases to a Llama that had none."""
    if arch.model_type != "llama":
        return False
    config = arch.module.config
    paths = [arch.family.o, arch.family.down]
    has = any(arch.linear(i, p).bias is not None for i in range(arch.num_layers) for p in paths)
    return has or bool(config.attention_bias and config.mlp_bias)


def _compare(lm: LM, folder: Path) -> float:
    """Largest difference of a logit between the model in memory and the one read back from ``folder``."""
    again = load(folder, dtype=lm.module.dtype, device=lm.device).module
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, lm.module.config.vocab_size, (1, 16), generator=generator).to(lm.device)
    with torch.no_grad():
        wanted, got = lm.module(ids).logits, again(ids).logits
    difference, largest = float((wanted - got).abs().max()), float(wanted.abs().max())
    # 16-bit models: those cast in memory round their position tables too, which a loaded model keeps exact
    if not difference <= max(TOLERANCE, 4 * torch.finfo(wanted.dtype).eps * largest):
        raise ModelError(
            f"the checkpoint was written and read back, but its logits differ by {difference:.3g}: nothing was kept"
        )
    return difference
