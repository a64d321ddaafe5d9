"""The traits of a studio as a real model gives them, made up: a page can show one without any model."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LAYERS, TILE = 30, 16
WEIGHTS, CHANNELS, WHOLE = "Weights: zeroed by a mask", "Neurons and heads: removed", "Layers: removed"
PATTERNS = ["2:4", "4:8", "16x1"]


def method(name: str, title: str, family: str, units: list[str], formula: str) -> dict[str, Any]:
    text = f"Sun, Liu, Bair, Kolter (2023). About {title} as a way of pruning."
    return {
        "name": name,
        "title": title,
        "family": family,
        "units": units,
        "patterns": PATTERNS if family == WEIGHTS else [],
        "formula": formula,
        "citation": {"text": text, "url": "arXiv:2306.11695"},
        "needs": "Needs calibration text, forward passes only.",
        "allocation": "uniform",
        "repair": "none",
    }


CATALOGUE = [
    method("magnitude", "Magnitude", WEIGHTS, ["weight"], "S = |W|"),
    method("wanda", "Wanda", WEIGHTS, ["weight"], "S[o,i] = |W[o,i]| · ‖X[:,i]‖₂"),
    method("flap", "FLAP", CHANNELS, ["neuron", "kv_group"], "S[i] = var(X[:,i]) · ‖W[:,i]‖₂²"),
    method("shortgpt", "ShortGPT", WHOLE, ["layer"], "S[l] = 1 − cos(X[l], X[l+1])"),
]
CHOICE = {
    "method": "wanda",
    "units": None,
    "pattern": None,
    "allocation": None,
    "repair": None,
    "propagate": False,
}


def frame(sparsity: float, request: int = 0) -> dict[str, Any]:
    """A picture in which later layers lose more."""
    draw = np.random.default_rng(1)
    depth = np.linspace(-0.12, 0.12, LAYERS)[:, None, None, None]
    columns = draw.normal(0, 0.10, (LAYERS, len(NAMES), 1, TILE))
    noise = draw.normal(0, 0.06, (LAYERS, len(NAMES), TILE, TILE))
    cells = np.clip(1 - sparsity - depth + columns + noise, 0, 1)
    header = {"request": request, "sparsity": sparsity, "layers": LAYERS, "names": NAMES, "tile": TILE}
    header |= {"removed": int(106_200_000 * sparsity), "total": 106_200_000}
    kept = cells.mean(axis=(2, 3)).astype("<f4")
    return {"frame": header, "cells": _bytes((cells * 255).astype(np.uint8)), "kept": _bytes(kept)}


def curve(perplexity: float, windows: int, seed: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    values = np.log(perplexity) + draw.normal(0, 0.25, windows)
    values += np.log(perplexity) - values.mean()
    points = []
    for n in range(1, windows + 1):
        mean, half = values[:n].mean(), 2.2 * values[:n].std() / np.sqrt(max(n - 1, 1))
        ends = [float(np.exp(mean - half)), float(np.exp(mean + half))] if n > 1 else [None, None]
        points.append([511 * n, float(np.exp(mean)), *ends])
    return {"perplexity": points[-1][1], "low": points[-1][2], "high": points[-1][3], "curve": points}


def variant(number: int, name: str, sparsity: float, perplexity: float | None, **more: Any) -> dict[str, Any]:
    figures = {"bytes": 538_060_032, "prefill": None, "decode": None, "current": False}
    return {"id": number, "name": name, "sparsity": sparsity, "perplexity": perplexity, **figures, **more}


def beginning() -> dict[str, Any]:
    """A studio that has just been opened and scored."""
    facts = {"name": "SmolLM2-135M-Instruct", "parameters": 134_515_008, "layers": LAYERS}
    return {
        "catalogue": CATALOGUE,
        "options": {
            "allocations": ["uniform", "global", "owl"],
            "repairs": ["none", "bias", "least-squares"],
        },
        "facts": {**facts, "of": "all but the embeddings"},
        "choice": CHOICE,
        "sparsity": 0.5,
        "request": 0,
        **frame(0.5),
        "job": {"kind": "", "state": "idle", "text": "", "fraction": 0.0},
        "error": {},
        **{name: {} for name in ("quality", "size", "speed", "samples", "exported")},
        "prompt": "The capital of France is",
        "variants": [variant(-1, "dense", 0.0, None, current=True)],
        "selected": -1,
        "history": {"can_undo": False, "can_redo": False, "current": ""},
        "live": True,
    }


def pruned() -> dict[str, Any]:
    """What a pruning adds."""
    dense = {"parameters": 134_515_008, "nonzero": 134_515_008, "bytes": 538_060_032}
    same = {"ratio": 1.01, "low": 0.97, "high": 1.05, "verdict": "the same"}
    said = " Paris.\n\nThe capital of France is Paris. It is a city of light."
    other = " a city of the French Republic, and the city of Paris is the capital of the"
    protocol = "pydoc_data.topics of Python 3.11.7; windows of 512 tokens, no overlap, float32; [95 % interval]"
    return {
        "quality": {"before": curve(25.4, 8, 1), "after": curve(38.2, 8, 1), "protocol": protocol},
        "size": {"dense": dense, "pruned": {**dense, "nonzero": 81_400_000}},
        "speed": {
            "prefill": same,
            "decode": {**same, "ratio": 0.99},
            "note": "128 tokens in, 8 out, 2 threads; above 1 is faster",
        },
        "samples": {"prompt": "The capital of France is", "dense": said, "pruned": other},
        "variants": [
            variant(-1, "dense", 0.0, 25.4, current=True),
            variant(1, "1: magnitude 50 %", 0.5, 131.2, prefill=1.0, decode=1.01),
            variant(2, "2: wanda 50 %", 0.5, 38.2, prefill=1.01, decode=0.99),
        ],
        "selected": 2,
        "job": {"kind": "prune", "state": "done", "text": "Done", "fraction": 1.0, "seconds": 41.2},
    }


def _bytes(array: np.ndarray) -> dict[str, str]:
    return {"__b64__": base64.b64encode(array.tobytes()).decode()}
