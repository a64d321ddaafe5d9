"""Self-speculation by skipping layers: the draft model is the target without some of its layers.

Jun Zhang, Jue Wang, Huan Li, Lidan Shou, Ke Chen, Gang Chen, Sharad Mehrotra. Draft & Verify: Lossless Large Language
Model Acceleration via Self-Speculative Decoding. 2023 (ACL 2024). arXiv:2309.08168.

    draft:  h <- h + f_l(h)  for layers l not in S        target: for all layers        weights are shared

It needs no second model and no memory for one, but for a cache. Departs from the paper: whole layers are skipped, not
attention and MLP apart; S is given, a run of layers in the middle, or what `choose_layers` finds by the similarity of a
layer's input and output (the statistic of ShortGPT), not what a Bayesian optimisation finds. The paper adapts its
threshold of confidence while it decodes; here it is fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.data import Tokens, calibration
from workbench.decode._method import decoder
from workbench.decode.claims import FasterThan
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter, Speculative
from workbench.decode.speculative._draft import Chain, Follower
from workbench.decode.speculative._own_draft import middle, without_layers
from workbench.decode.speculative.draft_model import check_chain
from workbench.errors import ArgumentError
from workbench.models import as_lm
from workbench.prune.statistics import collect


@decoder
@dataclass(frozen=True)
class LayerSkip(Speculative):
    """The target without some layers drafts a chain.

    Attributes
    ----------
    skip
        Which layers to leave out: their numbers, or a fraction of all, taken from the middle.
    draft_tokens
        At most so many.
    confidence
        A drafted token with a smaller probability is the last one.
    """

    name: ClassVar[str] = "layer-skip"
    title: ClassVar[str] = "Self-speculation by skipping layers"
    formula: ClassVar[str] = "q = the target without the layers S; then speculative sampling"
    citation: ClassVar[Citation] = Citation(
        "Jun Zhang, Jue Wang, Huan Li, Lidan Shou, Ke Chen, Gang Chen, Sharad Mehrotra",
        "Draft & Verify: Lossless Large Language Model Acceleration via Self-Speculative Decoding",
        2023,
        "2309.08168",
    )

    claim: ClassVar[Claim] = Claim(
        "A model that skips some of its layers to draft for itself decodes faster, without another model.",
        "LLaMA-2 and its variants: up to 1.99 times as fast (here: faster at all)",
        FasterThan(),
    )

    skip: float | tuple[int, ...] = 0.1
    draft_tokens: int = 4
    confidence: float = 0.6

    def __post_init__(self) -> None:
        check_chain(self.draft_tokens, self.confidence)
        if isinstance(self.skip, int | float) and not 0 <= self.skip < 1:
            raise ArgumentError(f"skip={self.skip}: a fraction of the layers, 0 to below 1, or a list of their numbers")

    def drafter(self, run: Run) -> Drafter:
        """A chain of the thinned target."""
        fraction = isinstance(self.skip, int | float)
        layers = middle(run.target, self.skip) if fraction else tuple(self.skip)  # type: ignore[arg-type]
        follower = Follower(run, without_layers(run.target, layers))
        return Chain(run, follower, self.draft_tokens, self.confidence)


def choose_layers(model: Any, count: int, tokens: Tokens | None = None) -> tuple[int, ...]:
    """The layers that change their input least, to be skipped: the highest mean cosine of input and output.

    Parameters
    ----------
    model
        A handle or pruned result; its layers are those of what was compiled from it.
    count
        How many.
    tokens
        Text to look at; default: windows of the built-in text.

    Returns
    -------
    tuple of int
        In ascending order, for ``skip``.

    Examples
    --------
    >>> choose_layers(lm, 4)                                                         # doctest: +SKIP
    (3, 5, 12, 14)
    """
    lm = as_lm(model)
    total = lm.architecture.num_layers
    if not 0 <= count < total:
        raise ArgumentError(f"count={count}: 0 to {total - 1} of {total} layers")
    found = collect(lm.architecture, tokens or calibration(lm), ["similarity"], fingerprint=lm.fingerprint)
    by_cosine = sorted(range(total), key=lambda n: -found.layer(n).cosine)
    return tuple(sorted(by_cosine[:count]))
