"""CoLa: a chain of layers, in which some are skipped and others run again, in place of all in order.

Ziyue Li, Yang Li, Tianyi Zhou. Skip a Layer or Loop it? Test-Time Depth Adaptation of Pretrained LLMs. 2025.
arXiv:2507.07996.

    h_0 = embedding,   h_k = layer_{path[k]}(h_{k-1}),   logits = Head(Norm(h_K))

The paper finds a path for every question by tree search, and needs the answer for it: that is an analysis,
`workbench.decode.depth.layer_paths`. Here a given path decodes; a layer that stands in it twice has two caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import Decoder, decoder
from workbench.decode.claims import Paired
from workbench.decode.depth._layers import DepthTarget
from workbench.decode.depth._paths import parse_path, path_text
from workbench.decode.depth.checks import QUESTIONS, shorter_path
from workbench.decode.run import Run
from workbench.decode.target import Target


@decoder
@dataclass(frozen=True)
class ChainOfLayers(Decoder):
    """Decodes along a path of layers.

    Attributes
    ----------
    path
        Layers in the order in which they are run, counted from 0, or a text such as ``"0-9,12,12-29"``; None: all, in
        order, which is plain decoding.
    """

    name: ClassVar[str] = "cola"
    title: ClassVar[str] = "CoLa: chain of layers"
    family: ClassVar[str] = "depth"
    formula: ClassVar[str] = "h_k = layer_path[k](h_(k-1)): layers skipped or run again"
    citation: ClassVar[Citation] = Citation(
        "Ziyue Li, Yang Li, Tianyi Zhou",
        "Skip a Layer or Loop it? Test-Time Depth Adaptation of Pretrained LLMs",
        2025,
        "2507.07996",
    )
    claim: ClassVar[Claim] = Claim(
        "For more than three quarters of the questions that all layers answer right, fewer layers do so too.",
        "Llama 3 models, arithmetic and common sense; paths found by tree search",
        Paired(
            quantity="share of questions with a shorter path, less 0.75",
            figures=shorter_path,
            tasks=QUESTIONS,
            difference=True,
            at_least=0.0,
            seeds=False,
        ),
    )

    path: Sequence[int] | str | None = None

    def target(self, model: Any) -> Target:
        """The model along the path."""
        return DepthTarget.of(model, None if self.path is None else parse_path(self.path))

    def decode(self, run: Run) -> None:
        """One token per pass."""
        logits = run.prefill().logits[-1]
        while run.emit(run.sampler.choose(logits, run.random), logits=logits):
            run.trace.step += 1
            logits = run.forward(run.tokens[-1:]).logits[-1]
            run.trace.add("verify", value=1, position=len(run.tokens))
        if isinstance(run.target, DepthTarget):
            run.trace.notes |= {"layers": len(run.target.layers), "path": path_text(run.target.path)}
