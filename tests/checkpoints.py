"""Checkpoint folders for tests, and ways to damage them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def edit_tensors(folder: Path, change: Callable[[Tensors], Any]) -> None:
    """Rewrite model.safetensors after ``change`` had its way with the tensors."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def edit_config(folder: Path, **changes: Any) -> None:
    """Rewrite config.json with other values; None removes a key."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


class Trap:
    """Unpickling it writes a file: proof that somebody did."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "a pickle was opened")


def write_trap(file: Path, marker: Path) -> None:
    """A booby-trapped pickle under any name."""
    file.write_bytes(pickle.dumps(Trap(marker)))
