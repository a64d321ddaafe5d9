"""Best of n: draw n answers, say the one that a scorer likes best.

Nisan Stiennon, Long Ouyang, Jeff Wu, Daniel M. Ziegler, Ryan Lowe, Chelsea Voss, Alec Radford, Dario Amodei, Paul
Christiano. Learning to summarize from human feedback. 2020. arXiv:2009.01325 (the scorer is a learned reward there).
Xuezhi Wang, Jason Wei, Dale Schuurmans, Quoc Le, Ed Chi, Sharan Narang, Aakanksha Chowdhery, Denny Zhou.
Self-Consistency Improves Chain of Thought Reasoning in Language Models. 2022. arXiv:2203.11171 (``scorer="votes"``).

    y = argmax score(y_i),   y_1 ... y_n ~ p(. | x)           of equals the first

Departs from both: which scorer it is, is the user's choice. All grow in one batch.

Events: ``expand`` per drawn token (branch: the answer's number; value: its log-probability so
far), then ``score`` per answer, ``prune`` for those not taken, ``emit`` for the one that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.batch import say
from workbench.decode.run import Run
from workbench.decode.search._hypotheses import Pool, Search
from workbench.decode.search.checks import more_right, votes_and_greedy
from workbench.decode.search.scorers import as_scorer
from workbench.errors import ArgumentError


@decoder
@dataclass(frozen=True)
class BestOfN(Search):
    """The best of several answers.

    Attributes
    ----------
    n
        Answers.
    scorer
        ``"log-p"``, ``"mean-log-p"``, ``"pmi"``, ``"votes"``, a function of the text, or a `Scorer`.
    """

    name: ClassVar[str] = "best-of-n"
    title: ClassVar[str] = "Best of n"
    formula: ClassVar[str] = "argmax_i score(y_i), y_1 ... y_n ~ p(. | x)"
    citation: ClassVar[Citation] = Citation(
        "Xuezhi Wang et al.", "Self-Consistency Improves Chain of Thought Reasoning in Language Models", 2022,
        "2203.11171",
    )  # fmt: skip
    claim: ClassVar[Claim] = Claim(
        "The answer that most of several drawn answers come to is right more often than the greedy one.",
        "arithmetic and common sense, models of 20 to 540 billion parameters, 40 answers",
        more_right("right answers by votes of 16, less those of greedy decoding", votes_and_greedy, "add", 80),
    )

    n: int = 8
    scorer: Any = "mean-log-p"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ArgumentError(f"n={self.n}: at least 1 answer")
        object.__setattr__(self, "scorer", as_scorer(self.scorer))

    def decode(self, run: Run) -> None:
        """Draw all, score all, say one."""
        found = Pool(run, self.n).finish()
        scores = self.scorer.score(run, found)
        best = int(scores.argmax())
        for hypothesis, score in zip(found, scores.tolist(), strict=True):
            run.trace.add("score", parent=hypothesis.event, branch=hypothesis.branch, value=score)
        for n, hypothesis in enumerate(found):
            if n != best:
                run.trace.add("prune", parent=hypothesis.event, branch=n, value=float(scores[n]))
        self.note(run, found, scores.tolist())
        say(run, found[best].tokens, found[best].events, found[best].finished)
