"""The tuned lens: what the model would say if it stopped after a layer, read through an affine map of that layer.

Nora Belrose, Igor Ostrovsky, Lev McKinney, Zach Furman, Logan Smith, Danny Halawi, Stella Biderman, Jacob Steinhardt.
Eliciting Latent Predictions from Transformers with the Tuned Lens. 2023. arXiv:2303.08112.

    lens_l(h) = Head(Norm(h + h A_l + b_l));   logit lens: A_l = 0, b_l = 0;   the last layer has none

The lens belongs to the weights that it was trained for and refuses others. The one of the default model comes with the
workbench (`workbench.decode.depth.training` made it); its layers are spread over the upper half, where exits can pay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from workbench._citation import Citation
from workbench._files import whole
from workbench.errors import ArgumentError, DataError, ModelError
from workbench.models import LM, fingerprint

CITATION = Citation(
    "Nora Belrose, Igor Ostrovsky, Lev McKinney, Zach Furman, Logan Smith, Danny Halawi, Stella Biderman, Jacob "
    "Steinhardt",
    "Eliciting Latent Predictions from Transformers with the Tuned Lens",
    2023,
    "2303.08112",
)
SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "tuned_lens.safetensors"
_FORMAT = "sparse-workbench tuned lens 1"
_fingerprints: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_shipped: dict[Path, TunedLens] = {}


@dataclass(frozen=True, eq=False)
class TunedLens:
    """Affine maps from the hidden states after some layers to those before the final norm.

    Attributes
    ----------
    layers : tuple of int
        After how many layers each of them reads, ascending.
    matrix : Tensor of float32 [layers, H, H]
        A.
    bias : Tensor of float32 [layers, H]
        b.
    about : mapping of str to str
        Model, its fingerprint, text and recipe.
    """

    layers: tuple[int, ...]
    matrix: torch.Tensor
    bias: torch.Tensor
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, size = len(self.layers), self.bias.shape[-1]
        if not n or self.matrix.shape != (n, size, size) or self.bias.shape != (n, size):
            shapes = f"{tuple(self.matrix.shape)} and {tuple(self.bias.shape)}"
            raise DataError(f"a lens of {n} layers with weights {shapes}: want [layers, H, H] and [layers, H]")

    @classmethod
    def identity(cls, lm: LM, layers: Sequence[int]) -> TunedLens:
        """The logit lens: hidden states are read as they are."""
        n, size = len(layers), int(lm.module.config.hidden_size)
        about = {"fingerprint": fingerprint_of(lm), "source": lm.source, "recipe": "identity"}
        return cls(tuple(layers), torch.zeros(n, size, size), torch.zeros(n, size), about)

    def apply(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """``h + h A + b`` for hidden states ``[..., H]`` after a layer.

        Raises
        ------
        ArgumentError
            If the lens has no such layer.
        """
        if layer not in self._index:
            raise ArgumentError(f"layer={layer}: this lens reads after {', '.join(map(str, self.layers))}")
        n = self._index[layer]
        matrix, bias = (x[n].to(device=hidden.device, dtype=hidden.dtype) for x in (self.matrix, self.bias))
        return hidden + (hidden @ matrix + bias)

    @cached_property
    def _index(self) -> dict[int, int]:
        return {layer: n for n, layer in enumerate(self.layers)}

    @property
    def source(self) -> str:
        """Of what model."""
        return self.about.get("source", "")

    def __repr__(self) -> str:
        return f"TunedLens({self.source!r}, after layers {', '.join(map(str, self.layers))})"

    def check(self, lm: LM) -> None:
        """Refuse a model that the lens was not trained for.

        Raises
        ------
        ModelError
        """
        known, wanted = fingerprint_of(lm), self.about.get("fingerprint", "")
        if known != wanted:
            raise ModelError(
                f"this lens was trained for {self.source or 'another model'!r} ({wanted[:12]}), the model at hand is "
                f"{lm.source!r} ({known[:12]}): train one with workbench.decode.depth.train_lens(model), or pass "
                "lens='none'"
            )

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file (float16), whole or not at all.

        Raises
        ------
        ResourceError
            If it cannot be written.
        """
        path = Path(path)
        tensors = {"matrix": self.matrix.half(), "bias": self.bias.half(), "layers": torch.tensor(self.layers)}
        with whole(path) as part:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, part, {"format": _FORMAT, "about": json.dumps(dict(self.about))})
        return path

    @classmethod
    def load(cls, path: str | Path = SHIPPED) -> TunedLens:
        """Read a file that `save` wrote; by default the lens of the default model.

        Raises
        ------
        DataError
            If there is none, or it holds something else.
        """
        try:
            with safe_open(str(path), "pt") as file:
                known = file.metadata() or {}
                if known.get("format") != _FORMAT:
                    raise DataError(f"{path} holds no tuned lens: workbench.decode.depth.train_lens makes one")
                layers, matrix, bias = (file.get_tensor(n) for n in ("layers", "matrix", "bias"))
            return cls(tuple(layers.tolist()), matrix.float(), bias.float(), json.loads(known["about"]))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DataError(f"{path} cannot be read as a tuned lens ({error}): TunedLens.save writes one") from error


def as_lens(value: Any, lm: LM) -> TunedLens | None:
    """The lens that a method was given.

    Parameters
    ----------
    value
        None: the one that comes with the workbench if it is this model's, else none. ``"none"``: none. A lens or a
        file: that one.

    Raises
    ------
    ArgumentError
        If it is something else.
    ModelError
        If it is another model's.
    """
    if isinstance(value, str) and value == "none":
        return None
    if value is None:
        if SHIPPED not in _shipped:
            _shipped[SHIPPED] = TunedLens.load()
        own = _shipped[SHIPPED]
        fits = own.bias.shape[-1] == lm.module.config.hidden_size
        return own if fits and own.about.get("fingerprint") == fingerprint_of(lm) else None
    lens = TunedLens.load(value) if isinstance(value, str | Path) else value
    if not isinstance(lens, TunedLens):
        raise ArgumentError(f"lens={value!r}: None, 'none', a file, or what workbench.decode.depth.train_lens returned")
    lens.check(lm)
    return lens


def fingerprint_of(lm: LM) -> str:
    """The model's fingerprint, computed once per model: it takes a second."""
    if lm.module not in _fingerprints:
        _fingerprints[lm.module] = fingerprint(lm.module)
    return _fingerprints[lm.module]
