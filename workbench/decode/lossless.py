"""Whether a way of decoding keeps what it promises: `check_lossless`.

    greedy         the same tokens as plain greedy decoding on the same runtime, or the first divergence and its cause
    distribution   on a tiny vocabulary, the frequencies of whole texts against their exact probabilities (a G-test)

A divergence is a *tie* where rounding explains it. A method reads a logit from a pass of another shape than plain
decoding does; let d be the largest difference between logits of such passes at that place, as observed. Greedy
decoding chose a over the method's b with l_a - l_b = g. Both logits may move by d, so only g <= 2 d can turn over;
beyond that it is a *bug*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from workbench import render
from workbench.decode._exact import Fit, g_test_passes, sampled_fit
from workbench.decode._method import Decoder, resolve
from workbench.decode.generation import generate
from workbench.decode.prompts import Prompt
from workbench.decode.prompts import prompts as our_prompts
from workbench.decode.target import Target
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.results import Provenance, Result

CHUNKS = (2, 4, 8, 16)
BEHIND = 32


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first token of an answer that differs from greedy decoding's.

    Attributes
    ----------
    prompt
        Which.
    position
        Of the token in the answer, from 0.
    wanted, found
        Greedy decoding's token and the method's; -1 where an answer ended.
    gap
        How far the first lies above the second in the logits of plain decoding, g.
    top_gap
        Between the two largest of these logits.
    difference
        d, the largest difference of a logit between passes of one token and of several there.
    verdict
        ``"tie"`` or ``"bug"``.
    """

    prompt: str
    position: int
    wanted: int
    found: int
    gap: float
    top_gap: float
    difference: float
    verdict: Literal["tie", "bug"]

    def cells(self) -> tuple[Any, ...]:
        """For a table."""
        return (
            self.prompt,
            self.position,
            self.wanted,
            self.found,
            self.gap,
            self.top_gap,
            self.difference,
            self.verdict,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Losslessness(Result):
    """What `check_lossless` found.

    Attributes
    ----------
    method, promises : str
    model : str
        On which greedy answers were compared.
    prompts, tokens : int
        Answers compared, and their tokens up to the first divergence of each.
    divergences : tuple of Divergence
        At most one per prompt.
    fit : Fit or None
        Of sampled texts to their exact distribution; None where nothing is promised of it.
    provenance : Provenance
    """

    method: str
    promises: str
    model: str
    prompts: int
    tokens: int
    divergences: tuple[Divergence, ...]
    fit: Fit | None
    provenance: Provenance = field(repr=False)

    @property
    def bugs(self) -> int:
        """Divergences that rounding does not explain."""
        return sum(d.verdict == "bug" for d in self.divergences)

    @property
    def held(self) -> bool:
        """Whether the promise is kept; a lossy method promises nothing."""
        if self.promises == "lossy":
            return True
        return not self.bugs and (self.fit is None or g_test_passes(self.fit))

    @property
    def verdict(self) -> str:
        """In words."""
        if self.promises == "lossy":
            return "lossy, as it says"
        if not self.held:
            return "broken"
        return "kept, but for ties" if self.divergences else "kept"

    def _headline(self) -> str:
        same = f"{self.prompts - len(self.divergences)} of {self.prompts} answers as greedy ({self.tokens} tokens)"
        fit = f", texts p = {render.number(self.fit.p_value)}" if self.fit else ""
        return (
            f"{self.method}: {self.verdict} ({same}, {len(self.divergences) - self.bugs} ties, {self.bugs} bugs{fit})"
        )

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [("promises", self.promises), ("verdict", self.verdict), ("model", self.model)]
        header = ("prompt", "at", "wanted", "found", "gap", "top-2 gap", "difference of passes", "verdict")
        table = render.section("Divergences", [d.cells() for d in self.divergences], header)
        fit = render.section("Texts on a tiny vocabulary", self.fit.rows()) if self.fit else None
        given = render.section("Promise", rows), table if self.divergences else None, fit
        return (*(s for s in given if s is not None), render.prose("Provenance", str(self.provenance)))


def check_lossless(
    method: str | Decoder,
    model: Any,
    prompts: Iterable[Prompt | str | Sequence[int]] | None = None,
    *,
    max_new_tokens: int = 64,
    samples: int = 4000,
    seed: int = 0,
    progress: Progress | None = None,
    **parameters: Any,
) -> Losslessness:
    """Hold a way of decoding to what it promises.

    Parameters
    ----------
    method
        A registered name, with its hyper-parameters as further arguments; or a `Decoder`.
    model
        On which greedy answers are compared: a model handle or what `workbench.compile` returned.
    prompts
        Texts, token ids or `Prompt` objects; None for the 20 of `workbench.decode.prompts`.
    max_new_tokens
        At most, of each answer.
    samples
        Texts to draw on a tiny random model with 7 tokens, if the method promises the distribution; 0 for none.
    seed
        Of the draws.
    progress
        Hears of every answer.

    Returns
    -------
    Losslessness

    Examples
    --------
    >>> check_lossless("prompt-lookup", lm, ["One, two, three, one, two,"])           # doctest: +SKIP
    prompt-lookup: kept (1 of 1 answers as greedy (64 tokens), 0 ties, 0 bugs, texts p = 0.41)
    """
    chosen, progress = resolve(method, parameters), progress or Progress()
    given = list(our_prompts() if prompts is None else prompts)
    if not given or max_new_tokens < 1 or samples < 0:
        raise ArgumentError(f"{len(given)} prompts, max_new_tokens={max_new_tokens}, samples={samples}: too few")
    target = chosen.target(model)
    tokens, divergences = 0, []
    for n, prompt in enumerate(given):
        progress.step(f"check {chosen.name}", n, len(given))
        ids = _ids(target, prompt)
        name = prompt.name if isinstance(prompt, Prompt) else f"prompt {n + 1}"
        count, found = compare(chosen, target, ids, max_new_tokens, name)
        tokens += count
        divergences += [found] if found else []
    fit = None
    if chosen.promises == "distribution" and samples:
        fit = sampled_fit(chosen, samples=samples, seed=seed, progress=progress)
    where = Provenance.here(seed=seed, method=chosen.name)
    return Losslessness(chosen.name, chosen.promises, target.source, len(given), tokens, tuple(divergences), fit, where)


def compare(
    method: Decoder, target: Target, ids: Sequence[int], new_tokens: int, name: str = "prompt"
) -> tuple[int, Divergence | None]:
    """Tokens in which a method's greedy answer agrees with plain decoding's, and where it does not, why."""
    options: Mapping[str, Any] = {"max_new_tokens": new_tokens, "detail": False}
    plain = generate(target, ids, "greedy", **options)
    own = generate(target, ids, method, **options)
    wanted, found = plain.tokens.tolist(), own.tokens.tolist()
    same = next((n for n, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), None)
    if same is None:
        if len(wanted) == len(found):
            return len(wanted), None
        same = min(len(wanted), len(found))
    pair = [texts[same] if same < len(texts) else -1 for texts in (wanted, found)]
    return same, _judged(target, list(ids), wanted[:same], (pair[0], pair[1]), name)


def _judged(target: Target, ids: list[int], said: list[int], pair: tuple[int, int], name: str) -> Divergence:
    """Look at the logits behind what both said, from passes of one token and of several."""
    target.crop()
    logits = target.forward(ids, last=True).logits[-1]
    for token in said:
        logits = target.forward([token]).logits[-1]
    difference = max((_difference(target, ids + said, chunk, logits) for chunk in CHUNKS), default=0.0)
    target.crop()
    ranked = np.sort(logits.astype(np.float64))
    top = float(ranked[-1] - ranked[-2])
    # where one answer ended, the token that ended it is unknown: the runner-up is the one most easily taken for it
    gap = float(logits[pair[0]]) - float(logits[pair[1]]) if min(pair) >= 0 else top
    verdict: Literal["tie", "bug"] = "tie" if 0 <= gap <= 2 * difference else "bug"
    return Divergence(name, len(said), *pair, gap, top, difference, verdict)


def _difference(target: Target, ids: list[int], chunk: int, logits: np.ndarray) -> float:
    """How far logits after the last token move if the last tokens come ``chunk`` at a time, also as a tree."""
    found = [0.0]
    start = max(1, len(ids) - BEHIND)
    rest = ids[start:]
    if not rest:
        return 0.0
    target.crop()
    target.forward(ids[:start], last=True)
    for n in range(0, len(rest) - chunk, chunk):
        target.forward(rest[n : n + chunk])
    last = rest[(len(rest) - 1) // chunk * chunk :] if len(rest) > chunk else rest
    before = len(ids) - len(last)
    target.crop(before)
    found.append(float(np.abs(target.forward(last).logits[-1] - logits).max()))
    target.crop(before)
    if target.length + len(last) + 1 <= target.context:  # the same, with a sibling of the last one beside it
        parents = [*range(-1, len(last) - 1), len(last) - 2]
        tree = target.forward([*last, (last[-1] + 1) % target.vocabulary], parents).logits[len(last) - 1]
        found.append(float(np.abs(tree - logits).max()))
    return max(found)


def _ids(target: Target, prompt: Prompt | str | Sequence[int]) -> list[int]:
    if isinstance(prompt, Prompt):
        return prompt.ids(target.tokenizer)
    if isinstance(prompt, str):
        if target.tokenizer is None:
            raise ArgumentError("prompts are texts, but the model has no tokenizer: give token ids")
        return list(target.tokenizer(prompt)["input_ids"])
    return [int(t) for t in prompt]
