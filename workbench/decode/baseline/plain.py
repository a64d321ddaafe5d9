"""Plain decoding: the most likely token, or one drawn from the filtered distribution, one pass per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from workbench.decode._method import Decoder, decoder
from workbench.decode.run import Run


@decoder
@dataclass(frozen=True)
class Plain(Decoder):
    """One token per pass; what every other method is compared with."""

    name: ClassVar[str] = "greedy"
    title: ClassVar[str] = "Greedy or sampled, one token at a time"
    family: ClassVar[str] = "baseline"
    promises: ClassVar[str] = "distribution"
    formula: ClassVar[str] = "x_t = argmax p(. | x_<t), or x_t ~ p filtered by temperature, top-k, top-p, min-p"

    def decode(self, run: Run) -> None:
        """Emit, append, repeat."""
        logits = run.prefill().logits[-1]
        while run.emit(run.sampler.choose(logits, run.random), logits=logits):
            run.trace.step += 1
            logits = run.forward(run.tokens[-1:]).logits[-1]
            run.trace.add("verify", value=1, position=len(run.tokens))
