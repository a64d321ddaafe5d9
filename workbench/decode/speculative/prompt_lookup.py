"""Prompt lookup: what followed the same few tokens earlier in the text may follow them again.

Apoorv Saxena. Prompt Lookup Decoding. 2023. github.com/apoorvumang/prompt-lookup-decoding. (No paper.)

    for n = N, ..., 1: if the last n tokens stand earlier in the context, draft the k tokens that followed there

Departs from the original: N = 12 and not 3, because the length of the match tells best how far the draft will hold (on
our prompts 3 of 10 drafted tokens are accepted behind a match of 1 token, 9 behind 6 or more); k = 15 and not 10, but
the gate chooses how many of them a pass is worth; of equally long matches the latest is taken (``match="first"`` takes
the first, as the original does); what follows may be shorter than k.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.claims import FasterThan
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter, Speculative
from workbench.decode.speculative.gate import ChainYield, Yield, gated
from workbench.decode.tree import DraftTree
from workbench.errors import ArgumentError

CHANCES = {1: 0.3, 2: 0.6, 3: 0.6, 4: 0.8, 6: 0.9, 10: 0.9}  # accepted of what was looked at, by length of the match


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
        ``"latest"`` or ``"first"`` of the longest matches.
    gate
        Whether drafts that do not pay are left out, and the others cut to what pays.
    costs
        A `VerifyCosts` for the gate; None to measure them.
    """

    name: ClassVar[str] = "prompt-lookup"
    title: ClassVar[str] = "Prompt lookup"
    formula: ClassVar[str] = (
        "draft = the k tokens behind an earlier occurrence of the last n tokens, n as large as can be"
    )
    citation: ClassVar[Citation] = Citation("Apoorv Saxena", "Prompt Lookup Decoding", 2023, "", "GitHub")
    claim: ClassVar[Claim] = Claim(
        "Where the answer says again what stands in the prompt, at least twice as many tokens a second, the same text.",
        "2 to 4 times where the input grounds the answer, 2.4 on average over summaries and questions about a context; "
        "a model of 7 billion parameters on a GPU.",
        FasterThan(at_least=2.0, kinds=("repeat", "echo", "edit", "extract")),
    )

    draft_tokens: int = 15
    max_ngram: int = 12
    min_ngram: int = 1
    match: str = "latest"
    gate: bool = True
    costs: Any = None

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
        lookup = Lookup(self.draft_tokens, self.max_ngram, self.min_ngram, first=self.match == "first")
        return gated(run, lookup, self.costs) if self.gate else lookup


class Lookup(Drafter):
    """Finds where the end of a text stood before; see `PromptLookup` for the numbers."""

    def __init__(self, most: int = 15, max_ngram: int = 12, min_ngram: int = 1, *, first: bool = False) -> None:
        self.most, self.longest, self.shortest, self.first = most, max_ngram, min_ngram, first
        self._seen = 0
        self._ends: dict[tuple[int, ...], list[int]] = {}

    def kind(self, context: Sequence[int]) -> Hashable | None:
        """The class of the match's length; None without a match."""
        length, _ = self.find(context)
        return max((n for n in CHANCES if n <= length), default=None)

    def prior(self, kind: Hashable) -> Yield:
        """What such a match is worth at first."""
        return ChainYield(CHANCES.get(kind, 0.6) if isinstance(kind, int) else 0.6)

    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        """What followed the longest match."""
        length, end = self.find(context)
        return DraftTree.of(context[end : end + min(self.most, room)] if length else ())

    def find(self, context: Sequence[int]) -> tuple[int, int]:
        """The longest match's length, 0 for none, and where it ends in the context."""
        self._learn(context)
        best, at, last = 0, 0, len(context)
        ends = self._ends.get(tuple(context[-self.shortest :]), ())
        for end in ends if self.first else reversed(ends):
            if end == last:
                continue
            length, most = self.shortest, min(self.longest, end)
            while length < most and context[end - 1 - length] == context[last - 1 - length]:
                length += 1
            if length > best:
                best, at = length, end
            if best == self.longest:
                break
        return best, at

    def _learn(self, context: Sequence[int]) -> None:
        """Remember where the shortest keys end."""
        for end in range(max(self._seen + 1, self.shortest), len(context) + 1):
            self._ends.setdefault(tuple(context[end - self.shortest : end]), []).append(end)
        self._seen = len(context)
