"""Prompt lookup: what followed the same few tokens earlier in the text may follow them again.

Apoorv Saxena. Prompt Lookup Decoding. 2023. github.com/apoorvumang/prompt-lookup-decoding. (No paper.)

    for n = N, ..., 1: if the last n tokens stand earlier in the context, draft the k tokens that followed there

Departs from the original: the latest earlier occurrence is taken by default (``match="first"`` takes the first, as it
does), and what follows may be shorter than k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.claims import FasterThan
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter, Speculative
from workbench.decode.tree import DraftTree
from workbench.errors import ArgumentError


@decoder
@dataclass(frozen=True)
class PromptLookup(Speculative):
    """Drafts from the text itself.

    Attributes
    ----------
    draft_tokens
        k, at most.
    max_ngram, min_ngram
        N, the longest key, and the shortest that is looked for.
    match
        ``"latest"`` or ``"first"`` earlier occurrence.
    """

    name: ClassVar[str] = "prompt-lookup"
    title: ClassVar[str] = "Prompt lookup"
    formula: ClassVar[str] = (
        "draft = the k tokens behind an earlier occurrence of the last n tokens, n as large as can be"
    )
    citation: ClassVar[Citation] = Citation("Apoorv Saxena", "Prompt Lookup Decoding", 2023, "", "GitHub")
    claim: ClassVar[Claim] = Claim(
        "Where the answer repeats much of the prompt, it decodes at least twice as fast as greedy decoding.",
        "Mistral-7B-Instruct on a GPU, greedy: summaries, questions on a given text, chat; 2x to 4x",
        FasterThan(at_least=2, kinds=("copy",)),
    )

    draft_tokens: int = 10
    max_ngram: int = 3
    min_ngram: int = 1
    match: str = "latest"

    def __post_init__(self) -> None:
        if self.draft_tokens < 1 or not 1 <= self.min_ngram <= self.max_ngram:
            raise ArgumentError(
                f"draft_tokens={self.draft_tokens}, min_ngram={self.min_ngram}, max_ngram={self.max_ngram}: "
                "at least 1, and min_ngram at most max_ngram"
            )
        if self.match not in ("latest", "first"):
            raise ArgumentError(f"match={self.match!r}: 'latest' or 'first'")

    def drafter(self, run: Run) -> Drafter:
        """A drafter over the run's own text."""
        del run
        return _Lookup(self)


class _Lookup(Drafter):
    def __init__(self, method: PromptLookup) -> None:
        self.method = method
        self._seen = 0
        self._places: dict[tuple[int, ...], list[int]] = {}

    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        m = self.method
        self._learn(context)
        for n in range(min(m.max_ngram, len(context) - 1), m.min_ngram - 1, -1):
            places = self._places.get(tuple(context[-n:]), [])
            places = [p for p in places[:1] + places[-2:] if p < len(context)]
            if places:
                at = places[-1] if m.match == "latest" else places[0]
                return DraftTree.of(context[at : at + min(m.draft_tokens, room)])
        return DraftTree.of()

    def _learn(self, context: Sequence[int]) -> None:
        """Remember where every run of up to N tokens ends."""
        for end in range(self._seen + 1, len(context) + 1):
            for n in range(self.method.min_ngram, min(self.method.max_ngram, end) + 1):
                self._places.setdefault(tuple(context[end - n : end]), []).append(end)
        self._seen = len(context)
