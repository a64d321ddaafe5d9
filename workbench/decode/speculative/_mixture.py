"""One distribution of drafted tokens out of three free tables: what OPT-Tree takes its trees from.

    chance of x after a path = the largest of
        prompt lookup     by the length of the match, for the token that followed it
        n-grams           what the table holds of x, times how far tables of that length can be trusted
        last token        by the rank of x among the last token's remembered successors

Chances of siblings are scaled down where they exceed 1 together. The constants were measured on the prompts of
`workbench.decode.prompts` with the default model; the gate learns in every run how far the sums can be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workbench.decode.run import Run
from workbench.decode.speculative._ngrams import Ngrams, likeliest
from workbench.decode.speculative._templates import template
from workbench.decode.speculative.prompt_lookup import CHANCES, Lookup
from workbench.decode.speculative.stand import learn_prompt
from workbench.decode.speculative.token_recycling import WIDTH, Recycled
from workbench.decode.target import Forward
from workbench.decode.tree import ROOT
from workbench.decode.verify import Verified

TRUST = {2: 0.75, 3: 0.8, 4: 0.9}
LONE = tuple(
    c for r, p, c in zip(*[getattr(template(1), a) for a in ("ranks", "parents", "chances")], strict=True) if p == ROOT
)


class Mixture:
    """The tables of one run."""

    def __init__(self, run: Run) -> None:
        self.run, self.lookup, self.recycled, self.ngrams = run, Lookup(), Recycled(), Ngrams()
        self._text: list[int] = []

    def begin(self, forward: Forward) -> None:
        """Learn the prompt, and what comes after it."""
        prompt = self.run.prompt
        learn_prompt(self.ngrams, prompt)
        for n in range(len(prompt) - 1):
            self.recycled.follow(-1, prompt[n], prompt[n + 1], 1)
        tokens, chances = likeliest(forward.logits[-1:], self.ngrams.width)
        self._learn(prompt, tokens[0], chances[0])

    def _learn(self, text: Sequence[int], tokens: object, chances: object) -> None:
        self.ngrams.learn(text, tokens, chances)  # type: ignore[arg-type]
        self.recycled.put(-1, text[-1], tokens[:WIDTH].tolist(), 1)  # type: ignore[index]

    def children(self, context: Sequence[int]) -> Callable[[int, Sequence[int]], list[tuple[int, float]]]:
        """For `best_tree`: what may follow a path behind a text."""
        self._text = list(context[-4:])
        length, end = self.lookup.find(context)
        copied = list(context[end : end + 15]) if length else []

        def below(_: int, path: Sequence[int]) -> list[tuple[int, float]]:
            text, depth = [*self._text, *path][-4:], len(path)
            found = dict(zip(self.recycled.children(-1, text[-1]), LONE, strict=False))
            row = self.ngrams.find(text)
            if row is not None:
                for token, chance in zip(row[1].tolist(), row[2].tolist(), strict=True):
                    found[token] = max(found.get(token, 0.0), TRUST[row[0]] * chance)
            if depth < len(copied) and list(path) == copied[:depth]:
                chance = CHANCES[max(n for n in CHANCES if n <= length + depth)]
                found[copied[depth]] = max(found.get(copied[depth], 0.0), chance)
            total = max(1.0, sum(found.values()))
            return [(token, chance / total) for token, chance in found.items()]

        return below

    def observe(self, verified: Verified) -> None:
        """Every node's rows learn what the target said there; accepted nodes last."""
        if self._text[-1:] != [verified.root]:
            return
        tree = verified.tree
        tokens, chances = likeliest(verified.forward.logits, self.ngrams.width)
        kept = set(verified.verdict.path)
        for node in (*(n for n in range(len(tree)) if n not in kept), ROOT, *verified.verdict.path):
            self._learn([*self._text, *tree.texts(node)], tokens[node + 1], chances[node + 1])
