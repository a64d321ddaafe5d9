"""Random channels and random layers: what claims compare structured methods with. Not registered.

S_u ~ U(0, 1), one number per unit; the same seed gives the same units
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench.prune._method import PROTECT_FROM, ChannelMethod, LayerMethod, LayerView, ModelView


@dataclass(frozen=True)
class RandomChannels(ChannelMethod):
    """Neurons and KV groups by lot, every layer alike.

    Attributes
    ----------
    seed
        Of the scores.
    ends
        How many first and last layers are left alone, as `Method.protect`: some papers compare so.
    """

    seed: int = 0
    ends: tuple[int, int] = (0, 0)

    name: ClassVar[str] = "random-channels"
    title: ClassVar[str] = "Random channels"
    formula: ClassVar[str] = "S_u ~ U(0, 1)"

    def protected(self, layers: int) -> frozenset[int]:
        """The first and last layers that are left alone."""
        first, last = self.ends if layers >= PROTECT_FROM else (0, 0)
        return frozenset(range(first)) | frozenset(range(layers - last, layers))

    def score(self, layer: LayerView, kind: str) -> torch.Tensor:
        """One random number per unit ``[units, 1]``."""
        salt = 2 * layer.index + (kind == "neuron")
        generator = torch.Generator().manual_seed(self.seed * 100_003 + salt)
        return torch.rand(layer.architecture.units(kind, layer.index), 1, generator=generator)


@dataclass(frozen=True)
class RandomLayers(LayerMethod):
    """Layers by lot.

    Attributes
    ----------
    seed
        Of the scores.
    """

    seed: int = 0

    name: ClassVar[str] = "random-layers"
    title: ClassVar[str] = "Random layers"
    formula: ClassVar[str] = "S_l ~ U(0, 1)"

    def score(self, model: ModelView) -> torch.Tensor:
        """One random number per layer ``[layers]``."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.rand(model.architecture.num_layers, generator=generator, dtype=torch.float64)
