"""What the theatre's front end gets: arrays as one run of bytes, the rest as JSON; made once, before the curtain."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from workbench.decode.replay import ORIGINS, SPENT, Replay
from workbench.decode.trace import KINDS
from workbench.errors import ArgumentError
from workbench.results import json_ready
from workbench_widgets._arrays import pack as packed

_EVENTS = ("token", "position", "branch", "layer", "top", "log_p", "log_q", "u", "entropy", "value")
_PRUNED = re.compile(r"Pruned\((.+?), ([\d.]+)% of ")  # a model among the settings is there as its repr
LONG = 60  # signs of a setting
LIMIT = 96 << 20  # bytes; a front end gives up long before Python does


def stage(replay: Replay) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of one trace."""
    trace = replay.trace
    pieces = {int(t): trace.piece(int(t)) for t in trace.pieces}
    header = {
        "method": trace.method,
        "settings": _settings(trace.parameters),
        "prompt": [trace.piece(int(t)) for t in trace.prompt],
        "pieces": {str(k): v for k, v in pieces.items()},
        "kinds": list(KINDS),
        "origins": list(ORIGINS),
        "spent": list(SPENT),
        "panels": list(replay.panels),
        "passes": [[n, v] for n, v in replay.passes],
        "measured": replay.measured,
        "layers": replay.layers,
        "loose": replay.loose,
        "depths": int(replay.drafts.accepted.shape[1]) if len(replay.drafts) else 0,
        "tops": int(trace.top_token.shape[1]),
    }
    return json_ready(header), _arrays(replay)


def _arrays(replay: Replay) -> dict[str, np.ndarray]:
    trace = replay.trace
    found = {f"events.{name}": trace.columns[name] for name in _EVENTS}
    found["events.kind"] = trace.columns["kind"]
    for table in ("frames", "changes", "drafts", "search"):
        value = getattr(replay, table)
        found |= {f"{table}.{name}": getattr(value, name) for name in value.__slots__}
    found["spent"] = replay.spent.astype(np.float32)
    found |= {"top_token": trace.top_token, "top_log_p": trace.top_log_p}
    return found


def pack(stages: list[tuple[dict[str, Any], dict[str, np.ndarray]]]) -> tuple[list[dict[str, Any]], bytes]:
    """Headers that say where their arrays lie, and the bytes of all arrays."""
    headers, parts, at = [], [], 0
    for header, arrays in stages:
        places, data = packed(arrays, at)
        parts.append(data)
        at += len(data)
        headers.append({**header, "arrays": places})
    if at > LIMIT:
        raise ArgumentError(
            f"the trace has {at >> 20} MB, more than the {LIMIT >> 20} a page holds: decode with detail=False"
        )
    return headers, b"".join(parts)


def _settings(parameters: Any) -> str:
    quiet = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "model": None, "max_new_tokens": None}
    shown = {k: v for k, v in parameters.items() if v is not None and (k not in quiet or quiet[k] not in (None, v))}
    said = [_words(k.replace("_", " "), v) for k, v in sorted(shown.items(), key=lambda item: item[0] == "seed")]
    return " · ".join(said)


def _words(name: str, value: Any) -> str:
    """A setting as a person would say it: "draft tokens 7", "early stopping off", "draft wanda 50 %"."""
    if isinstance(value, bool):
        return f"{name} {'on' if value else 'off'}"
    if isinstance(value, float):
        return f"{name} {value:.3g}"
    if isinstance(value, list | tuple):
        return f"{name} {', '.join(f'{v:.3g}' if isinstance(v, float) else str(v) for v in value)}"
    text = str(value)
    pruned = _PRUNED.match(text)
    if pruned is not None:
        text = f"{pruned[1]} {float(pruned[2]):.3g} %"
    elif len(text) > LONG:
        text = f"{text[:LONG].rstrip()}…"
    return f"{name} {text}"
