"""DEL: the model's own first layers draft; exit and length follow what every exit would have got right lately.

Hossein Entezari Zarch, Lei Gao, Chaoyi Jiang, Murali Annavaram. DEL: Context-Aware Dynamic Exit Layer for Efficient
Self-Speculative Decoding. 2025. arXiv:2504.05598.

    shadow token of exit l   argmax of what the head reads after layer l; the states are there since the last check
    a_l                      share of shadow tokens that were the target's own, older ones count less by omega a token
    TPL(l, g)                (1 - a_l^(g+1)) / (1 - a_l) / (g l + L)             tokens expected per layer loaded
    next round               the l and g of largest TPL; g = 0: a plain step
    stop early               where one more token would lower the tokens expected per layer, given its confidence

Departs from the paper: (1) an exit costs l + H and a check L + H layers, H the output head's weights in layers: 8 of 30
in the default model, which the paper's formula takes for nothing (``head_layers=0``); (2) candidates are a few exits,
for shadow tokens of all would cost more than the pass that they judge, and while nothing pays, only every fourth plain
step is judged; (3) a tuned lens reads the states, if there is
one; (4) its rule for stopping early could not be had and is ours: confidence is the largest probability at the exit;
with c_1 ... c_i of the draft so far, another token is worth it while c_1 ... c_i a / (l + H) exceeds
(1 + c_1 + c_1 c_2 + ... + c_1 ... c_i) / (i (l + H) + L + H). Sampled drafts are checked by speculative sampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.claims import Paired
from workbench.decode.depth._layers import DepthTarget, head_layers
from workbench.decode.depth.checks import tokens_per_layer
from workbench.decode.depth.lens import TunedLens, as_lens
from workbench.decode.depth.training import default_layers
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter, Speculative, softmax
from workbench.decode.target import Forward, Target
from workbench.decode.tree import DraftTree
from workbench.decode.verify import Verified
from workbench.errors import ArgumentError


@decoder
@dataclass(frozen=True)
class DynamicExit(Speculative):
    """Self-speculation with exit and length chosen every round.

    Attributes
    ----------
    exits
        After how many layers a draft may end; None for those of the lens (or eight over the upper half) from 0.6 to 0.9
        of the depth.
    longest
        g, at most.
    omega
        What an outcome weighs against the one a token later.
    warmup
        Tokens of the prompt, its last ones, by which exits are judged first.
    head_layers
        What the output head costs, in layers; None: by its weights.
    rest
        Exits are judged on every so many plain steps.
    stop_early
        Whether the draft ends where confidence falls.
    lens
        None: the default model's own, else none; ``"none"``; a `TunedLens` or its file.
    """

    name: ClassVar[str] = "del"
    title: ClassVar[str] = "DEL: dynamic exit layer"
    family: ClassVar[str] = "depth"
    formula: ClassVar[str] = "exit l, length g = argmax (1 - a_l^(g+1)) / (1 - a_l) / (g l + L)"
    citation: ClassVar[Citation] = Citation(
        "Hossein Entezari Zarch, Lei Gao, Chaoyi Jiang, Murali Annavaram",
        "DEL: Context-Aware Dynamic Exit Layer for Efficient Self-Speculative Decoding",
        2025,
        "2504.05598",
    )
    claim: ClassVar[Claim] = Claim(
        "Drafting with the exit and the length that the text suggests loads fewer layers for a token than plain "
        "decoding: 2.16 to 2.62 times as fast.",
        "Llama models of 1 to 70 billion parameters that LayerSkip has trained for early exits; seven data sets",
        Paired(
            quantity="tokens per layer loaded, output heads among them, relative to plain decoding",
            figures=tokens_per_layer(),
            at_least=1.0,
            seeds=False,
        ),
    )

    exits: tuple[int, ...] | None = None
    longest: int = 6
    omega: float = 0.95
    warmup: int = 8
    head_layers: float | None = None
    rest: int = 4
    stop_early: bool = True
    lens: Any = None

    def __post_init__(self) -> None:
        if min(self.longest, self.warmup, self.rest) < 1:
            raise ArgumentError(f"longest={self.longest}, warmup={self.warmup}, rest={self.rest}: at least 1 each")
        if not 0 < self.omega <= 1 or (self.head_layers or 0) < 0:
            raise ArgumentError(
                f"omega={self.omega}, head_layers={self.head_layers}: above 0 and at most 1; not negative, or None"
            )

    def target(self, model: Any) -> Target:
        """A model that is run layer by layer."""
        return DepthTarget.of(model)

    def drafter(self, run: Run) -> Drafter:
        """With everything that was learned so far: nothing."""
        return _EarlyLayers(self, run)


class _EarlyLayers(Drafter):
    def __init__(self, method: DynamicExit, run: Run) -> None:
        if not isinstance(run.target, DepthTarget):
            raise ArgumentError(f"target={run.target!r}: this method wants what its own target() makes of a model")
        self.method, self.run, self.target = method, run, run.target
        self.lens: TunedLens | None = as_lens(method.lens, self.target.lm)
        depth = self.target.depth
        known = self.lens.layers if self.lens else default_layers(depth)
        usual = [n for n in known if 0.6 * depth <= n <= 0.9 * depth] or known
        exits = tuple(sorted(set(usual if method.exits is None else method.exits)))
        if not exits or not all(1 <= e < depth for e in exits):
            raise ArgumentError(f"exits={method.exits!r}: at least one, each from 1 to {depth - 1}")
        if self.lens and not set(exits) <= set(self.lens.layers):
            raise ArgumentError(f"exits={exits}: the lens reads after {self.lens.layers}; or pass lens='none'")
        self.head = head_layers(self.target) if method.head_layers is None else method.head_layers
        self.right = dict.fromkeys(exits, 0.0)  # shadow tokens that were the target's own, and all; older count less
        self.seen = dict.fromkeys(exits, 0.0)
        self.idle = 0
        self.target.watched = frozenset({*exits, depth})

    def begin(self, run: Run, forward: Forward) -> None:
        """The end of the prompt is the first that exits are judged by."""
        del run, forward
        self.target.layers_run = self.target.heads_run = 0
        last = {depth: state[-self.method.warmup :] for depth, state in self.target.states.items()}
        self._judge(last, self.target.read(last[self.target.depth]).argmax(-1))

    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        """Draft from the exit that promises most."""
        depth, length = self.choose(min(room, self.method.longest))
        run, tokens, log_q = self.run, list[int](), list[float]()
        q: dict[int, np.ndarray] = {}
        row, token, kept, expected = -1, context[-1], 1.0, 1.0
        while len(tokens) < length:
            run.progress.check()
            logits = self.target.shallow([token], depth, self.lens).logits[-1]
            run.trace.draft_forwards += 1
            p, confidence = run.sampler.probabilities(logits), float(softmax(logits).max())
            token = run.sampler.choose(logits, run.random)
            row = run.trace.add(
                "exit", token=token, position=len(context) + len(tokens), layer=depth, value=confidence, parent=row,
                step=run.trace.step + 1,
            )  # fmt: skip
            if not run.sampler.greedy:
                q[len(tokens) - 1] = p
            tokens.append(token)
            log_q.append(float(np.log(max(p[token], 1e-300))))
            kept *= confidence
            expected += kept
            if self.method.stop_early and not self._worth(depth, kept, expected, len(tokens)):
                break
        return DraftTree.of(tokens, log_q=log_q, q=q)

    def observe(self, verified: Verified) -> None:
        """Shadow tokens of every exit against the target's own, up to the first that was refused."""
        rows = verified.last_row + 1
        self.idle = 0 if len(verified.tree) else self.idle + 1
        if self.idle % self.method.rest == 0:
            own = verified.forward.logits[:rows].argmax(-1)
            self._judge({d: s[:rows] for d, s in self.target.states.items()}, own)
        self.run.trace.notes |= {
            "layers": self.target.depth,
            "head_layers": head_layers(self.target),
            "layers_run": self.target.layers_run,
            "heads_run": self.target.heads_run,
            "rates": {str(e): self.rate(e) for e in self.right},
        }

    def rate(self, depth: int) -> float:
        """a_l, with one outcome of either kind added, so that it is never 0 or 1."""
        return (self.right[depth] + 1) / (self.seen[depth] + 2)

    def choose(self, longest: int) -> tuple[int, int]:
        """Exit and length of largest TPL; length 0 if a plain step has it."""
        best, found = 1 / (self.target.depth + self.head), (0, 0)
        for depth in self.right:
            for length in range(1, longest + 1):
                value = per_layer(self.rate(depth), depth + self.head, length, self.target.depth + self.head)
                if value > best:
                    best, found = value, (depth, length)
        return found

    def _worth(self, depth: int, kept: float, expected: float, count: int) -> bool:
        """Whether one more token raises the tokens expected per layer."""
        cost = depth + self.head
        return kept * self.rate(depth) / cost > expected / (count * cost + self.target.depth + self.head)

    def _judge(self, states: Mapping[int, torch.Tensor], own: np.ndarray) -> None:
        exits = list(self.right)
        read = [states[e] if self.lens is None else self.lens.apply(e, states[e]) for e in exits]
        shadow = self.target.read(torch.cat(read)).argmax(-1).reshape(len(exits), -1)
        for depth, guesses in zip(exits, shadow, strict=True):
            for hit in (guesses == own).tolist():
                self.right[depth] = self.method.omega * self.right[depth] + hit
                self.seen[depth] = self.method.omega * self.seen[depth] + 1


def per_layer(rate: float, draft_cost: float, length: int, check_cost: float) -> float:
    """TPL: tokens expected of a round, per layer.

    Examples
    --------
    >>> per_layer(0.5, 10, 2, 30)
    0.035
    """
    return sum(rate**n for n in range(length + 1)) / (length * draft_cost + check_cost)
