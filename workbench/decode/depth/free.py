"""FREE: a token that the first layers are sure of is said at once; its other layers run with the next ones.

Sangmin Bae, Jongwoo Ko, Hwanjun Song, Se-Young Yun. Fast and Robust Early-Exiting Framework for Autoregressive Language
Models with Synchronized Parallel Decoding. 2023. arXiv:2310.05424.

    c = p1 - p2 at the one early exit s                       of the most likely tokens
    c > threshold     say the exit's token, put its hidden state on the stack
    else              the deep layers run once, for the whole stack and this token; their token is said

So every token has keys and values in every layer, and the deep layers are loaded once for many tokens. The threshold is
fixed, or follows the text: every run of the deep layers shows which confidences c agreed with them; the two kinds are
modelled by a Beta distribution each, and the threshold is the smallest x at which
P(agreed | c = x) > zeta. With ``rollback="differs"`` the deep layers also check what was said, which is then kept back
until they have: the text is that of all layers, and the method becomes self-speculation.

Departs from the paper: a tuned lens instead of a model trained for its exit; the mixture is fitted by moments with
responsibilities of one step of EM, over all pairs so far; the stack holds ``longest`` tokens at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import Decoder, decoder
from workbench.decode.acceptance import Greedy, SpeculativeSampling
from workbench.decode.claims import Paired
from workbench.decode.depth._layers import DepthTarget, head_layers
from workbench.decode.depth._mixture import agreement_threshold
from workbench.decode.depth.checks import tokens_per_layer
from workbench.decode.depth.lens import TunedLens, as_lens
from workbench.decode.run import Run
from workbench.decode.speculative._base import softmax
from workbench.decode.target import Target
from workbench.decode.tree import DraftTree
from workbench.decode.verify import verify
from workbench.errors import ArgumentError, unknown


@decoder
@dataclass(frozen=True)
class Free(Decoder):
    """One early exit, and synchronised deep layers.

    Attributes
    ----------
    exit
        s, in layers; None: the lens's exit that is nearest to 0.8 of all, or that depth.
    threshold
        Of confidence, from 0 to 1: at 1 no token exits. ``"adaptive"``: follows the text, from 0.9 on.
    zeta
        Asked of the probability that a token agrees, with ``"adaptive"``.
    rollback
        ``"never"``, or ``"differs"``: what the deep layers would not have said is taken back before it is said.
    longest
        Tokens on the stack, at most.
    lens
        None: the default model's own, else none; ``"none"``; a `TunedLens` or its file.
    """

    name: ClassVar[str] = "free"
    title: ClassVar[str] = "FREE: synchronised early exit"
    family: ClassVar[str] = "depth"
    formula: ClassVar[str] = "p1 - p2 at exit s > threshold: say it, stack its state; else run the deep layers on all"
    citation: ClassVar[Citation] = Citation(
        "Sangmin Bae, Jongwoo Ko, Hwanjun Song, Se-Young Yun",
        "Fast and Robust Early-Exiting Framework for Autoregressive Language Models with Synchronized Parallel "
        "Decoding",
        2023,
        "2310.05424",
    )
    claim: ClassVar[Claim] = Claim(
        "Tokens that exit early save more than the exits cost: up to 2.16 times as fast at 99 % of the quality.",
        "T5 models trained for a shallow exit; summaries, questions, translation",
        Paired(
            quantity="tokens per layer loaded, output heads among them, relative to plain decoding",
            figures=tokens_per_layer(threshold=0.9),
            at_least=1.0,
            seeds=False,
        ),
    )

    exit: int | None = None
    threshold: float | str = 0.9
    zeta: float = 0.4
    rollback: str = "never"
    longest: int = 8
    lens: Any = None

    def __post_init__(self) -> None:
        if self.rollback not in ("never", "differs"):
            raise unknown("rollback", self.rollback, ("never", "differs"))
        fixed = not isinstance(self.threshold, str)
        if not fixed and self.threshold != "adaptive":
            raise unknown("threshold", self.threshold, ("adaptive", "a number from 0 to 1"))
        if (fixed and not 0 <= float(self.threshold) <= 1) or not 0 < self.zeta < 1 or self.longest < 1:
            raise ArgumentError(
                f"threshold={self.threshold}, zeta={self.zeta}, longest={self.longest}: from 0 to 1, between 0 and 1, "
                "at least 1"
            )

    def target(self, model: Any) -> Target:
        """A model that is run layer by layer."""
        return DepthTarget.of(model)

    def decode(self, run: Run) -> None:
        """Rounds of confident tokens and one run of the deep layers."""
        work = _Rounds(self, run)
        logits = run.prefill().logits[-1]
        work.target.layers_run = work.target.heads_run = 0
        run.emit(run.sampler.choose(logits, run.random), logits=logits)
        while not run.done:
            (work.checked if self.rollback == "differs" else work.said)()
            work.note()


@dataclass(slots=True)
class _Exit:
    """A token that exited: what it is, how sure, the event, the exit's distribution."""

    token: int
    confidence: float
    row: int
    p: np.ndarray


@dataclass(slots=True, eq=False)
class _Rounds:
    method: Free
    run: Run
    target: DepthTarget = field(init=False)
    lens: TunedLens | None = field(init=False)
    exit: int = field(init=False)
    threshold: float = field(init=False)
    pairs: list[tuple[float, bool]] = field(init=False, default_factory=list)
    exited: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if not isinstance(self.run.target, DepthTarget):
            raise ArgumentError(f"target={self.run.target!r}: this method wants what its own target() makes of a model")
        self.target = self.run.target
        self.lens = as_lens(self.method.lens, self.target.lm)
        depth, near = self.target.depth, round(0.8 * self.target.depth)
        known = self.lens.layers if self.lens else range(1, depth)
        self.exit = min(known, key=lambda n: abs(n - near)) if self.method.exit is None else self.method.exit
        if self.exit not in known:
            raise ArgumentError(f"exit={self.exit}: one of {', '.join(map(str, known))}; lens='none' allows any layer")
        self.threshold = 0.9 if isinstance(self.method.threshold, str) else self.method.threshold

    def shallow(self, token: int, parent: int, ahead: int) -> tuple[_Exit, bool]:
        """What the exit says after a token, and whether it is sure."""
        run = self.run
        run.progress.check()
        logits = self.target.shallow([token], self.exit, self.lens).logits[-1]
        run.trace.draft_forwards += 1
        two = np.partition(softmax(logits), -2)[-2:]
        confidence = float(two[1] - two[0])
        sure = confidence > self.threshold and len(self.target.waiting) <= self.method.longest
        guess = run.sampler.choose(logits, run.random) if sure else int(np.argmax(logits))
        row = -1
        if sure:
            where: dict[str, Any] = {
                "position": len(run.tokens) + ahead,
                "layer": self.exit,
                "step": run.trace.step + 1,
            }
            row = run.trace.add("exit", token=guess, value=confidence, parent=parent, **where)
        return _Exit(guess, confidence, row, run.sampler.probabilities(logits)), sure

    def said(self) -> None:
        """The paper's round: sure tokens are said at once and stay."""
        run, guesses = self.run, list[_Exit]()
        before = len(run.tokens)
        while True:
            found, sure = self.shallow(run.tokens[-1], guesses[-1].row if guesses else -1, 0)
            guesses.append(found)
            if not sure:
                break
            self.exited += 1
            if not run.emit(found.token, found.row):
                return
        run.trace.step += 1
        forward = run.forward(self.target.waiting)
        row = run.trace.add("verify", value=len(guesses), position=before, layer=self.target.depth)
        self.learn(guesses, forward.logits)
        logits = forward.logits[-1]
        run.emit(run.sampler.choose(logits, run.random), row, logits=logits)

    def checked(self) -> None:
        """Sure tokens are a draft, which the deep layers check."""
        run, guesses = self.run, list[_Exit]()
        while len(guesses) < min(run.room, self.method.longest):
            token = guesses[-1].token if guesses else run.tokens[-1]
            found, sure = self.shallow(token, guesses[-1].row if guesses else -1, len(guesses))
            if not sure:
                break
            guesses.append(found)
        greedy = run.sampler.greedy
        tree = DraftTree.of(
            (g.token for g in guesses),
            log_q=(float(np.log(max(g.p[g.token], 1e-300))) for g in guesses),
            q={} if greedy else {n - 1: g.p for n, g in enumerate(guesses)},
        )
        verified = verify(run, tree, Greedy() if greedy else SpeculativeSampling())
        self.exited += len(verified.verdict.path)
        self.learn(guesses, verified.forward.logits)

    def learn(self, guesses: list[_Exit], logits: np.ndarray) -> None:
        """Which confidences agreed with the deep layers."""
        self.pairs += [(g.confidence, g.token == int(np.argmax(x))) for g, x in zip(guesses, logits, strict=False)]
        if self.method.threshold == "adaptive":
            self.threshold = agreement_threshold(self.pairs, self.method.zeta, self.threshold)

    def note(self) -> None:
        """What was saved, for the trace."""
        agreed = [a for _, a in self.pairs]
        self.run.trace.notes |= {
            "layers": self.target.depth,
            "exit": self.exit,
            "layers_run": self.target.layers_run,
            "heads_run": self.target.heads_run,
            "head_layers": head_layers(self.target),
            "exited": self.exited,
            "threshold": float(self.threshold),
            "agreement": float(np.mean(agreed)) if agreed else None,
        }
