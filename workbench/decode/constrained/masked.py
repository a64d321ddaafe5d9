"""Masking: at every token the distribution is restricted to what is allowed and renormalised. The usual way.

    x_t ~ p(. | x_<t) restricted to allowed tokens, renormalised

The texts keep to the constraint but are not distributed as p(text | constraint): how unlikely it was to be allowed at
all is forgotten at each token. It stands beside `awrs`, which remembers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from workbench.decode._method import decoder
from workbench.decode.constrained.awrs import AWRS, walk
from workbench.decode.run import Run


@decoder
@dataclass(frozen=True)
class Masked(AWRS):
    """One particle whose weight does not count."""

    name: ClassVar[str] = "masked"
    title: ClassVar[str] = "Masking, renormalised token by token"
    formula: ClassVar[str] = "x_t ~ p restricted to allowed tokens, renormalised"
    citation: ClassVar[None] = None  # type: ignore[assignment]
    claim: ClassVar[None] = None

    def decode(self, run: Run) -> None:
        """The first particle, whatever it weighs."""
        found = walk(run, self.constraint_of(run), run.prefill().logits[-1], -1)
        for token, event, logits in zip(found.tokens, found.events, found.logits, strict=True):
            if not run.emit(token, event, logits=logits):
                break
        run.finished = run.finished or found.finished
