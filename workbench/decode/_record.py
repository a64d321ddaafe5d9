"""What every trace keeps, whatever made it, and what a model must look like afterwards: for the battery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.decode.trace import KINDS, Trace
from workbench.models import LM

WITH_TOKEN = ("draft", "accept", "bonus", "residual", "exit", "unmask", "constrain", "expand")


def check_record(trace: Trace, tokens: np.ndarray, prompt: Sequence[int], passes: int) -> list[str]:
    """What is wrong with a trace, in words; an empty list if nothing is.

    Parameters
    ----------
    tokens, prompt
        The answer and the prompt that it must tell of.
    passes
        Of the target, as the target itself counted them.
    """
    said = [
        (len(trace) > 0 and np.array_equal(trace.prompt, prompt), "the prompt in the trace is another"),
        (np.array_equal(trace.tokens, tokens), f"emitted {trace.tokens.tolist()}, answered {tokens.tolist()}"),
        (trace.cost.tokens == len(tokens), "the cost counts other tokens"),
        (int(trace.target_forwards[-1]) == passes, f"{int(trace.target_forwards[-1])} passes recorded, {passes} made"),
    ]
    said += [(bool((np.diff(trace.columns[c]) >= 0).all()), f"{c} do not ascend")
             for c in ("step", "seconds", "target_forwards", "draft_forwards")]  # fmt: skip
    said += _parents(trace) + _figures(trace) + _places(trace, len(prompt))
    return [words for held, words in said if not held]


def _parents(trace: Trace) -> list[tuple[bool, str]]:
    rows, parents = np.arange(len(trace)), trace.columns["parent"]
    if not ((parents >= -1) & (parents < rows)).all():
        return [(False, "an event follows from one that comes after it")]
    found = []
    for row in trace.rows("emit", "accept", "reject"):
        above = int(parents[row])
        if above < 0 or KINDS[trace.kind[above]] not in WITH_TOKEN:
            continue
        held = trace.token[above] == trace.token[row]
        words = f"{KINDS[trace.kind[row]]} of token {trace.token[row]} follows from token {trace.token[above]}"
        found.append((bool(held), words))
    judged = trace.rows("accept", "reject")
    drafted = all(parents[r] >= 0 and KINDS[trace.kind[parents[r]]] == "draft" for r in judged)
    return [*found, (drafted, "a token was judged that had not been drafted")]


def _figures(trace: Trace) -> list[tuple[bool, str]]:
    def within(name: str, low: float, high: float) -> tuple[bool, str]:
        values = trace.columns[name]
        known = values[~np.isnan(values)]
        return bool(((known >= low) & (known <= high)).all()), f"{name} beyond {low:g} to {high:g}"

    found = [within("log_p", -np.inf, 1e-5), within("log_q", -np.inf, 1e-5), within("u", 0, 1)]
    found += [within("entropy", -1e-5, np.inf)]
    top = trace.columns["top"]
    found.append((bool(((top >= -1) & (top < len(trace.top_token))).all()), "top points behind the table"))
    sizes = trace.value[trace.rows("verify")]
    found.append((bool((sizes >= 1).all()), "a pass that verified nothing"))
    acceptance = trace.acceptance
    found.append((acceptance.accepted <= acceptance.drafted, "more was accepted than drafted"))
    known = {*trace.prompt.tolist(), *trace.token.tolist()} - {-1}
    found.append((known <= set(trace.pieces), "a token has no text in the trace"))
    return found


def _places(trace: Trace, prompt: int) -> list[tuple[bool, str]]:
    places = sorted({int(p) for p in trace.position[trace.rows("emit")]})
    whole = places == list(range(prompt, prompt + len(places)))
    return [(whole, f"tokens were emitted at the places {places}, behind a prompt of {prompt}")]


def state_of(model: Any) -> tuple[Any, ...]:
    """Fingerprint, hooks, mode."""
    if not isinstance(model, LM):
        return ()
    modules = list(model.module.modules())
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)
    return model.fingerprint, hooks, any(m.training for m in modules)
