"""Moving rotated keys and queries to other positions, without reading the text again.

Rotary embeddings (Su et al. 2021, arXiv:2104.09864) turn the pair (x_i, x_{i + n}) of a key at position p by the angle
p f_i. Angles add up, so that a cached key moves by ``by`` positions with one more turn:

    R(p + by) x = R(by) R(p) x
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from workbench.errors import ArgumentError, ModelError
from workbench.models import LM

STATIC = ("default", "linear", "llama3", "yarn")  # kinds whose frequencies do not change with the text


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """A model's rotary embedding.

    Attributes
    ----------
    frequencies : Tensor [n]
        Float64, radians a position; the first 2 n elements of a head turn, others stay.
    """

    frequencies: torch.Tensor

    @classmethod
    def of(cls, lm: LM) -> Rotation:
        """That of a model.

        Raises
        ------
        ModelError
            If its positions are not rotary, differ from layer to layer, or depend on the length of the text.
        """
        found = [m for m in lm.module.modules() if isinstance(getattr(m, "inv_freq", None), torch.Tensor)]
        name, config = type(lm.module).__name__, lm.module.config
        if len(found) != 1 or not all(getattr(config, "no_rope_layers", None) or [1]):
            raise ModelError(f"{name} has no rotary embedding that is the same in all layers: its keys cannot be moved")
        kind = getattr(found[0], "rope_type", "default")
        if kind not in STATIC:
            raise ModelError(f"{name}'s positions depend on the length of the text ({kind}): its keys cannot be moved")
        frequencies: Any = found[0].inv_freq
        return cls(frequencies.detach().double().cpu())

    def turn(self, states: torch.Tensor, by: int | torch.Tensor) -> torch.Tensor:
        """Keys or queries as they would stand ``by`` positions further on.

        Parameters
        ----------
        states : Tensor [..., S, D]
            Rotated; D is at least twice the number of frequencies.
        by
            Positions, negative for back: one number, or int64 ``[S]``.

        Returns
        -------
        Tensor [..., S, D]
            Float32. Angles are computed in float64, so that long ways lose nothing.

        Raises
        ------
        ArgumentError
            If the shapes do not fit.
        """
        half = len(self.frequencies)
        steps = torch.as_tensor(by, dtype=torch.float64).reshape(-1, 1)
        if states.shape[-1] < 2 * half or len(steps) not in (1, states.shape[-2]):
            raise ArgumentError(
                f"states {tuple(states.shape)}, by {len(steps)}: at least {2 * half} elements a row, and one number of "
                "positions for all rows or one for each"
            )
        angles = steps * self.frequencies
        cos, sin = angles.cos().float(), angles.sin().float()
        states = states.float()
        first, second = states[..., :half], states[..., half : 2 * half]
        turned = (first * cos - second * sin, second * cos + first * sin, states[..., 2 * half :])
        return torch.cat(turned, -1)
