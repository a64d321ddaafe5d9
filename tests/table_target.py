"""A language model that is a table: exact, instant, and enumerable."""

from __future__ import annotations

import itertools

import numpy as np

from workbench.decode.target import Forward, Target
from workbench.decode.tree import visible


class TableTarget(Target):
    """p(x | last two tokens) from a table of logits [V, V, V]; before the first token stands token 0."""

    def __init__(self, vocabulary=5, seed=0, scale=1.5, context=64):
        self.tokenizer, self.source = None, "table"
        self.vocabulary, self.hidden_size, self.context = vocabulary, vocabulary, context
        self.table = np.random.default_rng(seed).normal(0, scale, (vocabulary,) * 3).astype(np.float32)
        self.ids = []

    @property
    def length(self):
        return len(self.ids)

    def _forward(self, ids, parents, last, hidden):
        parents = np.arange(-1, len(ids) - 1) if parents is None else parents
        seen, _ = visible(parents)
        rows = []
        for n in range(len(ids)):
            text = [0, *self.ids, *ids[seen[n]]]
            rows.append(self.table[text[-2], text[-1]])
        self.ids += ids.tolist()
        self._newest = len(ids)
        rows = np.array(rows[-1:] if last else rows)
        return Forward(rows, rows.copy() if hidden else None)

    def _gather(self, rows):
        start = len(self.ids) - self._newest
        self.ids[start : start + len(rows)] = [self.ids[start + r] for r in rows]

    def crop(self, length=0):
        del self.ids[length:]

    def chances(self, prompt, length):
        """The probability of every continuation of a length."""
        found = {}
        for text in itertools.product(range(self.vocabulary), repeat=length):
            whole, p = [0, *prompt, *text], 1.0
            for k in range(len(prompt) + 1, len(whole)):
                logits = self.table[whole[k - 2], whole[k - 1]].astype(np.float64)
                p *= np.exp(logits[whole[k]]) / np.exp(logits).sum()
            found[text] = p
        return found
