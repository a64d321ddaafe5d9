"""One round of speculation: the target looks at a whole draft in one pass, a rule decides, the cache follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.decode.acceptance import Rule, Trial, Verdict
from workbench.decode.run import Run
from workbench.decode.target import Forward
from workbench.decode.tree import ROOT, DraftTree


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """What became of a draft.

    Attributes
    ----------
    root : int
        The token that the draft hung on.
    tree : DraftTree
    forward : Forward
        Row 0 is after the root, row n + 1 after node n.
    verdict : Verdict
    """

    root: int
    tree: DraftTree
    forward: Forward
    verdict: Verdict

    @property
    def last_row(self) -> int:
        """Row of ``forward`` after the last accepted token: what spoke about ``verdict.token``."""
        return self.verdict.path[-1] + 1 if self.verdict.path else 0


def verify(run: Run, tree: DraftTree, rule: Rule, *, hidden: bool = False) -> Verified:
    """Verify a draft that hangs on ``run.tokens[-1]``, which is not in the cache yet, and emit what comes of it.

    Afterwards the cache holds all tokens but the newest again. An empty draft is a plain step.

    Parameters
    ----------
    hidden
        Whether ``forward`` shall have hidden states.
    """
    root, trace = run.tokens[-1], run.trace
    place = len(run.tokens)
    trace.step += 1
    drafted = _record_draft(run, tree, place)
    parents = np.concatenate([[-1], tree.parents + 1])
    forward = run.forward(np.concatenate([[root], tree.tokens]), parents, hidden=hidden)
    looked = trace.add("verify", value=1 + len(tree), position=place)
    verdict = rule.judge(tree, lambda node: forward.logits[node + 1], run.sampler, run.random)
    found = Verified(root, tree, forward, verdict)
    accepted: dict[int, int] = {}
    for trial in verdict.trials:
        row = _record_trial(run, tree, forward, trial, drafted, place)
        if trial.accepted:
            accepted[trial.node] = row
    run.target.keep([0, *(n + 1 for n in verdict.path)])
    if len(tree) > len(verdict.path):
        trace.add("rollback", value=len(tree) - len(verdict.path), parent=looked, position=place + len(verdict.path))
    for node in verdict.path:
        before = forward.logits[int(tree.parents[node]) + 1]
        if not run.emit(int(tree.tokens[node]), accepted[node], logits=before):
            return found
    kind = "bonus" if verdict.bonus else "residual"
    parent = accepted[verdict.path[-1]] if verdict.path else looked
    if len(tree):
        at = place + len(verdict.path)
        parent = trace.add(kind, token=verdict.token, parent=parent, position=at, u=verdict.u)
    run.emit(verdict.token, parent, logits=forward.logits[found.last_row])
    return found


def _record_draft(run: Run, tree: DraftTree, place: int) -> dict[int, int]:
    """Record the nodes; their rows."""
    rows = {ROOT: -1}
    for n, (token, parent) in enumerate(zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True)):
        position = place + int(tree.depth[n])
        rows[n] = run.trace.add(
            "draft", token=token, parent=rows[parent], position=position, log_q=float(tree.log_q[n])
        )
    return rows


def _record_trial(run: Run, tree: DraftTree, forward: Forward, trial: Trial, rows: dict[int, int], place: int) -> int:
    """Record one look at a drafted token; its row."""
    token = int(tree.tokens[trial.node])
    known = {} if np.isnan(trial.p) else {"log_p": _log(trial.p)}
    known |= {} if np.isnan(trial.q) else {"log_q": _log(trial.q)}
    logits = forward.logits[int(tree.parents[trial.node]) + 1]
    return run.trace.add(
        "accept" if trial.accepted else "reject",
        token=token,
        parent=rows[trial.node],
        position=place + int(tree.depth[trial.node]),
        u=trial.u,
        logits=None if known else logits,
        **known,
    )


def _log(p: float) -> float:
    return float(np.log(p)) if p > 0 else -np.inf
