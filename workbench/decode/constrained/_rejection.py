"""One token under a constraint, without a mask: tokens are tried in random order until one is allowed.

    keys g_i = log p_i + Gumbel noise, tried from the largest down: draws from p without replacement, so that the first
    allowed token has the distribution p restricted to what is allowed, renormalised;

and an unbiased estimate of the mass that is allowed, Z = sum over allowed i of p_i, from the tokens tried:

    recursive    Z = prod over refused i of (1 - q_i), times 1 - q if the token tried after the allowed one is refused,
                 q_i = p_i / (1 - mass refused before), q that of the allowed one
    geometric    the run with replacement is restored: before each try Geometric(1 - mass refused) - 1 tries would have
                 hit refused tokens again; stopped at the second hit, Z = 1 / (hits + refusals - 1)

See `workbench.decode.constrained.awrs` for the source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

PEAKED = 2 / 3  # above it two hits come sooner with replacement than one more try costs
FIRST = 64  # keys that are sorted before all are


@dataclass(frozen=True, slots=True)
class Drawn:
    """What came of it.

    Attributes
    ----------
    token
        The first allowed one; -1 if none is.
    log_weight
        Logarithm of the estimate of Z; -inf if there is none, or it came out as nothing.
    tried
        Tokens that the constraint was asked about, in order, and its answers.
    """

    token: int
    log_weight: float
    tried: tuple[tuple[int, bool], ...]


def draw(p: np.ndarray, allowed: Callable[[int], bool], random: np.random.Generator) -> Drawn:
    """Draw an allowed token with a proper weight: E[weight 1(token = x)] = p_x for allowed x, else 0.

    Parameters
    ----------
    p : ndarray of float64 [V]
        Sums to 1.
    allowed
        Asked at most once per token.
    """
    return _geometric(p, allowed, random) if p.max() >= PEAKED else _recursive(p, allowed, random)


def best(logits: np.ndarray, allowed: Callable[[int], bool]) -> Drawn:
    """The most likely allowed token; its weight is 1."""
    tried: list[tuple[int, bool]] = []
    for token in descending(logits.astype(np.float64)):
        tried.append((token, allowed(token)))
        if tried[-1][1]:
            return Drawn(token, 0.0, tuple(tried))
    return Drawn(-1, -np.inf, tuple(tried))


def descending(keys: np.ndarray) -> Iterator[int]:
    """Indices from the largest key down, those at -inf left out; a few are sorted before all are."""
    if keys.size > 4 * FIRST:
        top = np.argpartition(-keys, FIRST)[:FIRST]
        top = top[np.argsort(-keys[top], kind="stable")]
        yield from (int(t) for t in top if keys[t] > -np.inf)
        rest = keys.copy()
        rest[top] = -np.inf
    else:
        rest = keys
    yield from (int(t) for t in np.argsort(-rest, kind="stable") if rest[t] > -np.inf)


def _keys(log_p: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return log_p - np.log(-np.log1p(-random.random(log_p.size)))


def _log(p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        logs: np.ndarray = np.log(p)
    return logs


def _recursive(p: np.ndarray, allowed: Callable[[int], bool], random: np.random.Generator) -> Drawn:
    tried: list[tuple[int, bool]] = []
    refused, log_weight = 0.0, 0.0
    order = descending(_keys(_log(p), random))
    for token in order:
        q = min(1.0, p[token] / max(1.0 - refused, p[token]))
        tried.append((token, allowed(token)))
        if tried[-1][1]:
            after = next(order, None)
            if after is not None:
                tried.append((after, allowed(after)))
                log_weight += 0.0 if tried[-1][1] else float(np.log(q))
            return Drawn(token, log_weight, tuple(tried))
        refused += p[token]
        log_weight += float(np.log1p(-q)) if q < 1 else -np.inf
    return Drawn(-1, -np.inf, tuple(tried))


def _geometric(p: np.ndarray, allowed: Callable[[int], bool], random: np.random.Generator) -> Drawn:
    log_p = _log(p)
    known: dict[int, bool] = {}
    refused, refusals, first, hits = 0.0, 0, -1, 0
    for _ in range(2):
        for token in descending(_keys(log_p, random)):
            if 1 - refused <= 0:
                return Drawn(-1, -np.inf, tuple(known.items()))
            if refused > 0:
                refusals += int(random.geometric(1 - refused)) - 1
            if token not in known:
                known[token] = allowed(token)
            if known[token]:
                first, hits = (token if hits == 0 else first), hits + 1
                break
            refusals += 1
            refused += p[token]
            log_p[token] = -np.inf
        else:
            return Drawn(-1, -np.inf, tuple(known.items()))
    return Drawn(first, -float(np.log(hits + refusals - 1)), tuple(known.items()))
