"""Shortened LLaMA: depth pruning by perplexity or Taylor importance.

Bo-Kyeong Kim, Geonmin Kim, Tae-Ho Kim, Thibault Castells, Shinkook Choi, Junho Shin, Hyoung-Kyu Song. Shortened LLaMA:
Depth Pruning for Large Language Models with Comparison of Retraining Methods. 2024. arXiv:2402.02834.

    perplexity:  S_l = mean loss on the calibration text with layer l left out (the log of its perplexity)
    taylor:      S_l = sum over the weights w of layer l of |w * dL/dw|, dL/dw summed over the sequences (Taylor+:
                 the first 4 and last 2 layers stay)

The layers with the lowest scores go, all at once: what is left is a plain checkpoint with fewer layers.
Departs from the official code: the loss is computed from cached inputs of every layer, so that leaving out layer l
costs only the layers behind it (there, the whole model is rebuilt for every layer); sequences keep the calibration's
length (there: 128 tokens).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from workbench.architecture import Architecture
from workbench.claims import Claim, Faster
from workbench.data import Tokens
from workbench.errors import ArgumentError, unknown
from workbench.jobs import Progress
from workbench.prune._method import Citation, LayerMethod, ModelView, method
from workbench.prune._runner import LayerRunner


@method
@dataclass(frozen=True)
class ShortenedLlama(LayerMethod):
    """Layers whose absence costs least go.

    Attributes
    ----------
    criterion
        ``"perplexity"`` or ``"taylor"``.
    samples
        How many of the calibration sequences are used.
    """

    criterion: str = "perplexity"
    samples: int = 10

    name: ClassVar[str] = "shortened-llama"
    title: ClassVar[str] = "Shortened LLaMA"
    formula: ClassVar[str] = "S_l = loss without layer l, or sum_w |w dL/dw|"
    citation: ClassVar[Citation] = Citation(
        "Bo-Kyeong Kim, Geonmin Kim, Tae-Ho Kim, Thibault Castells, Shinkook Choi, Junho Shin, Hyoung-Kyu Song",
        "Shortened LLaMA: Depth Pruning for Large Language Models with Comparison of Retraining Methods",
        2024,
        "2402.02834",
    )
    claim: ClassVar[Claim] = Claim(
        "At equal size, decodes faster than a model pruned in width.",
        "LLaMA-7B and Vicuna, 20 % to 35 %, batch 1, against LLM-Pruner and others, on GPUs",
        Faster(than="llm-pruner", sparsity=0.2),
    )

    def __post_init__(self) -> None:
        if self.criterion not in ("perplexity", "taylor"):
            raise unknown("criterion", self.criterion, ("perplexity", "taylor"))

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """Gradients for Taylor importance; the perplexity criterion runs the model itself."""
        return frozenset({"gradient"} if self.criterion == "taylor" else ())

    @property
    def protect(self) -> tuple[int, int]:  # type: ignore[override]
        """The "+" of Taylor+."""
        return (4, 2) if self.criterion == "taylor" else (0, 0)

    def score(self, model: ModelView) -> torch.Tensor:
        """Loss without each layer, or its summed Taylor terms."""
        if self.criterion == "perplexity":
            return losses_without(model.architecture, model.tokens, model.progress)
        if model.statistics is None:
            raise ArgumentError("Taylor scores need gradients: pass calibration text")
        scores = []
        for index, layer in enumerate(model.architecture.layers):
            gradients = model.statistics.layer(index).gradients
            terms = [(p.detach() * gradients[n]).abs().sum() for n, p in layer.named_parameters()]
            scores.append(torch.stack(terms).double().sum())
        return torch.stack(scores)


def losses_without(architecture: Architecture, tokens: Tokens, progress: Progress) -> torch.Tensor:
    """Mean next-token loss in nats with each layer left out in turn, float64 ``[layers]``."""
    runner = LayerRunner(architecture, tokens, progress)
    count = architecture.num_layers
    totals = np.zeros(count)
    work = count * (count + 1) // 2
    done = 0
    for skipped in range(count):
        for batch in runner.batches:
            hidden = runner.hidden[batch]
            with torch.no_grad():
                for index in range(skipped + 1, count):
                    progress.check()
                    hidden = runner.layer(index, hidden)
                for row in range(batch.start, batch.stop):
                    at = row - batch.start
                    one = runner.losses(slice(row, row + 1), hidden[at : at + 1])
                    totals[skipped] += float(one.double().sum())
        runner.run(skipped)
        done += count - skipped
        progress.step("loss without each layer", done, work)
    return torch.from_numpy(totals / (tokens.samples * (tokens.seqlen - 1)))
