"""The traits of a kernel lab as timing gives them, made up: a page can show one without timing anything."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

FORMATS = ["bitmap", "2:4", "16x1", "4x1", "bsr16", "bsr32", "csr", "csr-panels", "condensed"]
SUITS = ["dense", "bitmap", "16x1", "4x1", "csr", "csr-panels", "condensed"]
SPEED = {
    "torch": 1.0, "torch-bf16": 1.2, "torch-csr": 0.8, "dense": 2.4, "bitmap": 4.1, "16x1": 10.3, "4x1": 6.8,
    "csr": 2.8, "csr-panels": 1.3, "condensed": 2.9, "16x1-bf16": 12.9, "16x1-int8": 14.2,
}  # fmt: skip
BYTES = {"bf16": 2, "int8": 1}
ROOF = {"fp32": 270.0, "bf16": 542.0, "int8": 1074.0, "dram": 30.0, "cache_l3": 80.0, "cache_l2": 130.0}
CHOICE = {
    "model": "", "layer": "", "rows": 1536, "columns": 576, "pattern": "16x1", "sparsity": 0.8, "formats": None,
    "values": ["fp32"], "tokens": [1, 16], "threads": 1, "repeats": 9, "cold": False, "break_even": False,
}  # fmt: skip


def row(name: str, tokens: int) -> dict[str, Any]:
    form, _, values = name.rpartition("-")
    form, values = (form, values) if values in BYTES else (name, "fp32")
    sparse = form not in ("torch", "dense")
    stored = 1536 * 576 // 5 if sparse else 1536 * 576
    size = stored * BYTES.get(values, 4) + (30_000 if sparse else 0)
    ratio = SPEED[name] * (1 if name.startswith("torch") else tokens**0.1)
    ms, moved = 0.16 * tokens**0.5 / ratio, size + 4 * tokens * (1536 + 576)
    gflops = 2 * stored * tokens / ms / 1e6
    return {
        "name": name, "format": form, "values": values, "tokens": tokens, "ms": ms, "ratio": ratio,
        "low": 0.8 * ratio if name != "torch" else 1.0, "high": 1.3 * ratio if name != "torch" else 1.0,
        "own_ratio": ratio / 2.4 if sparse else None, "gflops": gflops, "gbytes": moved / ms / 1e6,
        "roofline": gflops / ROOF["fp32"], "intensity": 2 * stored * tokens / moved,
        "computes": "bf16" if values == "bf16" else "fp32", "bytes_moved": moved, "weight_bytes": size,
        "stored": stored, "error": None if name.startswith("torch") else 0.003,
    }  # fmt: skip


def pattern(sparsity: float = 0.8, request: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    strips = np.repeat(draw.random((4, 64)) >= sparsity, 16, axis=0)
    whole = draw.integers(0, 255 - int(200 * sparsity), (128, 116))
    header = {
        "request": request, "title": f"1536 x 576, 16x1, {100 * sparsity:.0f} % zero", "rows": 1536, "columns": 576,
        "pattern": "16x1", "zeros": sparsity, "suits": SUITS, "whole": [128, 116], "corner": [64, 64],
    }  # fmt: skip
    return {"frame": header, "whole": _bytes(whole), "corner": _bytes(255 * strips)}


def beginning() -> dict[str, Any]:
    """A lab that has just been opened."""
    options = {
        "models": ["dense", "1: wanda 50 %"],
        "layers": [],
        "patterns": ["unstructured", "2:4", "16x1"],
        "presets": [["SmolLM2-135M, up", 1536, 576], ["Llama-3.1-8B, query", 4096, 4096]],
        "formats": FORMATS,
        "values": ["fp32", "bf16", "int8"],
        "tokens": [1, 4, 16, 128],
        "cores": 2,
    }
    idle = {"kind": "", "state": "idle", "text": "", "fraction": 0.0}
    empty: dict[str, Any] = {name: {} for name in ("error", "timings", "listing")}
    return {"options": options, "choice": CHOICE, "request": 0, **pattern(), "job": idle, **empty,
            "controls": True, "live": True}  # fmt: skip


def timed() -> dict[str, Any]:
    """What a run adds."""
    rows = [row(name, tokens) for tokens in (1, 16) for name in SPEED]
    densities = [0.7, 0.5, 0.3, 0.15, 0.05]
    lines = [
        {"name": n, "format": n, "values": "fp32", "tokens": 1, "sparsity": s, "fixed": f, "slope": m,
         "densities": densities, "times": [f + m * d for d in densities]}
        for n, s, f, m in (("16x1", 0.0, 0.08, 0.2), ("csr-panels", 0.59, 0.56, 1.07), ("csr", None, 1.1, 2.0))
    ]  # fmt: skip
    protocol = "9 interleaved rounds, medians with 95 % intervals, 1 thread, thread time, weights warm"
    figures = {
        "title": "1536 x 576, 16x1, 80 % zero", "pattern": "16x1", "sparsity": 0.8, "threads": 1, "cold": False,
        "seconds": 3.0, "rows": rows, "tokens": [1, 16], "skipped": [["2:4", "2:4 allows 2 of 4 weights"]],
        "roof": ROOF, "break_even": {"peer": "torch", "rows": lines}, "protocol": protocol,
        "provenance": "a processor, 1 of 2 cores", "complete": True,
    }  # fmt: skip
    done = {"kind": "time", "state": "done", "text": "Done", "fraction": 1.0, "seconds": 3.0}
    return {"timings": figures, "job": done}


def _bytes(values: np.ndarray) -> dict[str, str]:
    return {"__b64__": base64.b64encode(np.ascontiguousarray(values, np.uint8).tobytes()).decode()}
