"""What a killed pruning run leaves behind, so that the next one goes on where it was.

Only for runs that propagate (their statistics depend on what was pruned before, so the statistics' cache cannot
help). Every few seconds the finished layers and the hidden states are written; a finished run forgets them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from workbench.architecture import Architecture
from workbench.prune._runner import LayerRunner
from workbench.prune.statistics import VERSION, checkpoint_due, home, write

Removed = dict[str, torch.Tensor]


class Journal:
    """Layers that are done, and the hidden states behind them, in one folder.

    Parameters
    ----------
    fingerprint
        Of the dense model.
    settings
        Everything that decides the outcome: equal settings, equal run.
    """

    def __init__(self, fingerprint: str, settings: Mapping[str, Any]) -> None:
        text = json.dumps({"version": VERSION, **settings}, sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:20]
        self.folder: Path = home() / fingerprint[:20] / f"run-{key}"
        self._written = 0
        self._last = time.monotonic()

    def _layer(self, index: int) -> Path:
        return self.folder / f"layer_{index:03d}.safetensors"

    def restore(self, architecture: Architecture, runner: LayerRunner, removed: list[Removed]) -> int:
        """Bring back what is there: layers into the model, hidden states into the runner, units into ``removed``.

        Returns
        -------
        int
            The layer to go on with; 0 if there is nothing, or it is damaged.
        """
        saved = self.folder / "hidden.safetensors"
        if not saved.is_file():
            return 0
        try:
            with safe_open(saved, "pt") as file:
                done, hidden = int(file.metadata()["layer"]), file.get_tensor("hidden")
            found = [self._read(i) for i in range(done)]
        except (SafetensorError, KeyError, ValueError, OSError):
            return 0  # a damaged journal only costs its time
        if hidden.shape != runner.hidden.shape:
            return 0
        for index, (tensors, units) in enumerate(found):
            _fill(architecture.layers[index], tensors)
            architecture.resize(index)
            if len(removed) == index:  # chosen layer by layer, not for the whole model at once
                removed.append(units)
        runner.hidden.copy_(hidden)
        self._written = done
        return done

    def _read(self, index: int) -> tuple[dict[str, torch.Tensor], Removed]:
        with safe_open(self._layer(index), "pt") as file:
            units = json.loads(file.metadata()["removed"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return tensors, {k: torch.tensor(v, dtype=torch.int64) for k, v in units.items()}

    def note(self, architecture: Architecture, runner: LayerRunner, removed: list[Removed], done: int) -> None:
        """Write what is new, if it is time; a disk that is too full only costs the journal."""
        if not checkpoint_due(self._last):
            return
        with contextlib.suppress(OSError, SafetensorError):
            self.folder.mkdir(parents=True, exist_ok=True)
            for index in range(self._written, done):
                units = {k: v.tolist() for k, v in removed[index].items()} if index < len(removed) else {}
                write(self._layer(index), architecture.layers[index].state_dict(), {"removed": json.dumps(units)})
            write(self.folder / "hidden.safetensors", {"hidden": runner.hidden}, {"layer": str(done)})
            self._written = done
        self._last = time.monotonic()

    def forget(self) -> None:
        """Remove the folder: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _fill(layer: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give a layer other tensors, whatever their shapes."""
    own = dict(layer.named_parameters())
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        owner, old = layer.get_submodule(path), own.get(name)
        value = tensor.to(next(iter(own.values())).device)
        if leaf in owner._buffers:
            owner._buffers[leaf] = value
        else:
            owner.register_parameter(leaf, nn.Parameter(value, requires_grad=old is None or old.requires_grad))
