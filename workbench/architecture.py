"""One description of a decoder: where its layers and weights are, and what belongs to which prunable unit.

Everything that prunes, counts, draws or exports asks an `Architecture` and never a transformers class.

A *unit* is a set of rows and columns that can only go together: a neuron is its gate and up rows and its down
column; a KV group is a key/value head, all query heads that read it, and their columns in the output projection.
`Architecture.slots` says that as index tables; masking, removal, counting and scoring all work from these tables.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.errors import ModelError, unknown
from workbench.families import FAMILIES, Family

UNIT_KINDS = ("neuron", "kv_group")


def matrix(module: nn.Module) -> torch.Tensor:
    """The weight of a linear map as ``[out, in]``, a view: writing into it writes the weight."""
    weight = module.weight
    if not isinstance(weight, torch.Tensor):
        raise ModelError(f"{type(module).__name__} has no weight matrix")
    return weight.detach().T if isinstance(module, Conv1D) else weight.detach()


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """The rows (``axis=0``) or columns (``axis=1``) of one weight that belong to each unit.

    Attributes
    ----------
    module
        Path within the layer.
    axis
        0: outputs (rows of ``[out, in]``, bias entries too); 1: inputs (columns).
    index
        Int64 ``[units, width]``: the rows or columns of every unit.
    """

    module: str
    axis: int
    index: torch.Tensor


@dataclass(frozen=True, slots=True)
class Architecture:
    """The description of one causal LM. Make it with `describe`; it reads sizes from the weights as they are."""

    module: PreTrainedModel
    family: Family
    model_type: str
    head_dim: int
    heads_per_group: int

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers, in order."""
        layers = self.module.get_submodule(self.family.layers)
        if not isinstance(layers, nn.ModuleList):
            raise ModelError(f"{self.family.layers} is a {type(layers).__name__}, not a list of layers")
        return layers

    @property
    def num_layers(self) -> int:
        """How many decoder layers there are."""
        return len(self.layers)

    @property
    def linear_paths(self) -> tuple[str, ...]:
        """Paths of the prunable weights within a layer, in the order of the forward pass."""
        f = self.family
        return tuple(p for p in (*f.q, f.k, f.v, f.o, *f.up, f.down) if p)

    @property
    def linear_names(self) -> tuple[str, ...]:
        """Short, unique names of `linear_paths`, e.g. ``q_proj``."""
        last = [p.rsplit(".", 1)[-1] for p in self.linear_paths]
        return tuple(p if last.count(name) > 1 else name for p, name in zip(self.linear_paths, last, strict=True))

    def linear(self, layer: int, path: str) -> Any:
        """The linear map at ``path`` of layer number ``layer``."""
        return self.layers[layer].get_submodule(path)

    def linears(self, layer: int) -> dict[str, Any]:
        """Prunable linear maps of one layer by short name."""
        return {n: self.linear(layer, p) for n, p in zip(self.linear_names, self.linear_paths, strict=True)}

    @property
    def sites(self) -> dict[str, tuple[str, ...]]:
        """The four inputs of a layer and the linear paths that read each: what is read together is measured once."""
        f = self.family
        return {
            "attention_in": tuple(p for p in (*f.q, f.k, f.v) if p),
            "attention_out": (f.o,),
            "mlp_in": f.up,
            "mlp_out": (f.down,),
        }

    def site_of(self, path: str) -> str:
        """Which of `sites` the linear at ``path`` reads."""
        return next(site for site, paths in self.sites.items() if path in paths)

    def neurons(self, layer: int) -> int:
        """Width of the MLP of a layer."""
        return int(matrix(self.linear(layer, self.family.down)).shape[1])

    def query_heads(self, layer: int) -> int:
        """Query heads of a layer."""
        return int(matrix(self.linear(layer, self.family.o)).shape[1]) // self.head_dim

    def kv_heads(self, layer: int) -> int:
        """Key/value heads of a layer: as many as it has KV groups."""
        return self.query_heads(layer) // self.heads_per_group

    def units(self, kind: str, layer: int) -> int:
        """How many units of ``kind`` a layer has."""
        if kind not in UNIT_KINDS:
            raise unknown("unit", kind, UNIT_KINDS)
        return self.neurons(layer) if kind == "neuron" else self.kv_heads(layer)

    def slots(self, kind: str, layer: int) -> tuple[Slot, ...]:
        """The rows and columns of every unit of ``kind`` in a layer; see the module's text."""
        if kind not in UNIT_KINDS:
            raise unknown("unit", kind, UNIT_KINDS)
        return self._neuron_slots(layer) if kind == "neuron" else self._group_slots(layer)

    def _neuron_slots(self, layer: int) -> tuple[Slot, ...]:
        width = self.neurons(layer)
        own = torch.arange(width)[:, None]
        rows = torch.cat([own, own + width], 1) if self.family.fused_gate else own
        return (*(Slot(path, 0, rows) for path in self.family.up), Slot(self.family.down, 1, own))

    def _group_slots(self, layer: int) -> tuple[Slot, ...]:
        f, hd, g = self.family, self.head_dim, self.heads_per_group
        groups = self.kv_heads(layer)
        query = torch.arange(groups * g * hd).view(groups, g * hd)
        key = torch.arange(groups * hd).view(groups, hd)
        out = Slot(f.o, 1, query)
        if f.layout == "separate":
            slots = [Slot(f.q[0], 0, query), Slot(f.k, 0, key), Slot(f.v, 0, key), out]
            if f.flat_norms:
                slots += [Slot(f.flat_norms[0], 0, query), Slot(f.flat_norms[1], 0, key)]
            return tuple(slots)
        if f.layout == "stacked":
            start = groups * g * hd
            rows = torch.cat([query, key + start, key + start + groups * hd], 1)
        else:
            rows = torch.arange(groups * 3 * hd).view(groups, 3 * hd)
        return (Slot(f.q[0], 0, rows), out)

    def unit_parameters(self, kind: str, layer: int) -> int:
        """Parameters that go when one unit of ``kind`` goes from a layer, biases and norms included."""
        total = 0
        for slot in self.slots(kind, layer):
            module = self.linear(layer, slot.module)
            other = 1 if module.weight.ndim == 1 else int(matrix(module).shape[1 - slot.axis])
            bias = 1 if slot.axis == 0 and getattr(module, "bias", None) is not None else 0
            total += int(slot.index.shape[1]) * (other + bias)
        return total

    def layer_parameters(self, layer: int) -> int:
        """Parameters of one whole layer."""
        return sum(p.numel() for p in self.layers[layer].parameters())

    def embedding_parameters(self) -> int:
        """Parameters of token and position embeddings and of the output head; shared ones count once."""
        held = {id(p): p for p in _embedding_parameters(self.module)}
        return sum(p.numel() for p in held.values())

    def parameters(self, of: str = "non-embedding") -> int:
        """Number of parameters, without embeddings and head or of ``"all"``; tied ones count once."""
        if of not in ("non-embedding", "all"):
            raise unknown("of", of, ("non-embedding", "all"))
        total = sum(p.numel() for p in self.module.parameters())
        return total - self.embedding_parameters() if of == "non-embedding" else total

    def resize(self, layer: int) -> None:
        """Make the sizes that modules remember agree with the weights that they hold (after a change of shape)."""
        block = self.layers[layer]
        for path in self.linear_paths:
            module = block.get_submodule(path)
            rows, columns = matrix(module).shape
            if isinstance(module, Conv1D):
                module.nf, module.nx = rows, columns
            else:
                module.out_features, module.in_features = rows, columns  # type: ignore[assignment]
        attention: Any = block.get_submodule(self.family.o.rsplit(".", 1)[0])
        heads, groups = self.query_heads(layer), self.kv_heads(layer)
        for name, value in (
            ("num_heads", heads),
            ("num_key_value_heads", groups),
            ("split_size", heads * self.head_dim),
        ):
            if hasattr(attention, name):
                setattr(attention, name, value)
        for path in self.family.flat_norms or ():  # a mean over fewer entries: the epsilon grows alike
            norm: Any = block.get_submodule(path)
            config = self.module.config
            full = config.num_attention_heads if path.endswith("q_norm") else config.num_key_value_heads
            norm.variance_epsilon = config.rms_norm_eps * full * self.head_dim / norm.weight.numel()
        if self.model_type == "phi3":  # its forward reads the number of query heads from the configuration
            attention.config = _with_heads(self.module.config, heads, groups)


def _with_heads(config: Any, heads: int, groups: int) -> Any:
    own = copy.copy(config)
    own.num_attention_heads, own.num_key_value_heads = heads, groups
    return own


def _embedding_parameters(module: PreTrainedModel) -> list[nn.Parameter]:
    holders = [m for m in module.modules() if isinstance(m, nn.Embedding)]
    head = module.get_output_embeddings()
    return [p for m in (*holders, head) if isinstance(m, nn.Module) for p in m.parameters()]


def describe(module: PreTrainedModel) -> Architecture:
    """Describe a causal LM.

    Parameters
    ----------
    module
        A transformers causal LM of one of `FAMILIES`.

    Raises
    ------
    ModelError
        If the family is not described, or the weights do not have the shapes that the family should have.
    """
    config = getattr(module, "config", None)
    model_type = getattr(config, "model_type", type(module).__name__)
    family = FAMILIES.get(model_type)
    if family is None or config is None:
        raise ModelError(
            f"the model family {model_type!r} is not described. Described: {', '.join(sorted(FAMILIES))}. "
            "To add one, write its row in workbench/families.py"
        )
    heads = int(config.num_attention_heads)
    groups = int(getattr(config, "num_key_value_heads", None) or heads)
    head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    if heads % groups:
        raise ModelError(f"{heads} query heads do not divide among {groups} key/value heads")
    described = Architecture(module, family, model_type, head_dim, heads // groups)
    for path in described.linear_paths:
        try:
            described.linear(0, path)
        except AttributeError as error:
            raise ModelError(f"{type(module).__name__} has no {path!r} in its layers ({error})") from error
    return described
