"""What methods know of a layer's inputs: collected once, layer by layer, and kept on disk.

Kinds (each is collected and cached on its own; a pass collects all that are asked for and missing):

    norm         mean of x_j^2 over tokens                              Wanda, RIA, Wanda-sp, OWL
    moments      mean and variance of x_j over tokens                   FLAP, bias repair
    absolute     mean of |x_j| over tokens
    gram         mean of x x^T over tokens                              SparseGPT, least squares
    similarity   cosine between a layer's input and output              ShortGPT
    gradient     sum over sequences of dLoss/dW of every linear         Taylor

Memory holds one hidden state per token and one layer's statistics. A layer's statistics are written, whole, as soon
as they are known, and the hidden states every few seconds, so that a killed run goes on where it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from workbench._files import whole
from workbench.architecture import Architecture, matrix
from workbench.data import Tokens
from workbench.errors import unknown
from workbench.jobs import Progress
from workbench.prune._collector import KINDS, Collector, LayerStatistics, SiteStatistics
from workbench.prune._runner import LayerRunner

__all__ = [
    "KINDS",
    "VERSION",
    "Collector",
    "LayerStatistics",
    "SiteStatistics",
    "Statistics",
    "checkpoint_due",
    "collect",
    "home",
    "write",
]

CHECKPOINT_SECONDS = 15.0
CACHE_BYTES = 6 * 1024**3
VERSION = 1  # of what is on disk, journals of unfinished runs included


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of all layers of one model on one text, read from disk one layer at a time."""

    folders: Mapping[str, Path]
    layers: int
    device: str = "cpu"

    def layer(self, index: int) -> LayerStatistics:
        """The statistics of layer ``index``, on ``device``."""
        merged = LayerStatistics()
        for kind, folder in self.folders.items():
            for name, tensor in load_file(folder / f"layer_{index:03d}.safetensors", self.device).items():
                _put(merged, kind, name, tensor)
        return merged

    def __len__(self) -> int:
        return self.layers


def _put(layer: LayerStatistics, kind: str, name: str, tensor: torch.Tensor) -> None:
    if kind == "similarity":
        setattr(layer, name, float(tensor))
    elif kind == "gradient":
        layer.gradients[name] = tensor
    else:
        site, _, attribute = name.partition("/")
        setattr(layer.sites.setdefault(site, SiteStatistics()), attribute, tensor)


_PARTS = {"norm": ("square",), "moments": ("mean", "variance"), "absolute": ("absolute",), "gram": ("gram",)}


def _tensors(layer: LayerStatistics, kind: str) -> dict[str, torch.Tensor]:
    if kind == "similarity":
        return {n: torch.tensor(getattr(layer, n), dtype=torch.float64) for n in ("cosine", "angle")}
    if kind == "gradient":
        return layer.gradients
    return {
        f"{site}/{part}": getattr(values, part).cpu().contiguous()
        for site, values in layer.sites.items()
        for part in _PARTS[kind]
    }


def collect(
    architecture: Architecture,
    tokens: Tokens,
    kinds: Iterable[str],
    *,
    fingerprint: str,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Statistics:
    """Statistics of every layer of a model on a text; what is on disk already is not collected again.

    Parameters
    ----------
    kinds
        Some of `KINDS`.
    fingerprint
        Of the model, as `workbench.models.fingerprint` gives it: with the tokens' hash it is the cache's key.
    cache
        Folder of the cache; default: WORKBENCH_STATISTICS, else ``statistics`` in the workbench's cache folder.

    Raises
    ------
    ArgumentError
        On an unknown kind.
    ResourceError
        If the disk is too small for what will be written.
    Cancelled
        If the job was cancelled; what is known so far stays cached.
    """
    progress = progress or Progress()
    wanted = sorted(set(kinds))
    for kind in wanted:
        if kind not in KINDS:
            raise unknown("statistic", kind, KINDS)
    place = home(cache) / fingerprint[:20] / f"{tokens.hash[:20]}-v{VERSION}"
    folders = {kind: place / kind for kind in wanted}
    count = architecture.num_layers
    missing = [k for k in wanted if _done(folders[k]) < count]
    if missing:
        _make_room(place, architecture, missing)
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    os.utime(place)
    streamed = [k for k in missing if k != "gradient"]
    if streamed:
        _stream(architecture, tokens, streamed, folders, progress)
    if "gradient" in missing:
        from workbench.prune._gradients import gradients

        for index, layer in gradients(architecture, tokens, progress):
            write(folders["gradient"] / f"layer_{index:03d}.safetensors", layer)
    return Statistics(folders, count, str(architecture.module.device))


def _stream(
    architecture: Architecture,
    tokens: Tokens,
    kinds: list[str],
    folders: Mapping[str, Path],
    progress: Progress,
) -> None:
    """One forward pass, layer by layer; goes on from the last hidden states on disk."""
    count = architecture.num_layers
    runner = LayerRunner(architecture, tokens, progress)
    saved = folders[kinds[0]].parent / f"hidden-{'-'.join(kinds)}.safetensors"
    start = _resume(saved, runner, min(_done(folders[k]) for k in kinds))
    collector, last = Collector(architecture, kinds), time.monotonic()
    for index in range(start, count):
        progress.step("statistics", index, count)
        with collector.watching(index):
            runner.run(index, each=collector.pair)
        layer = collector.result()
        for kind in kinds:
            write(folders[kind] / f"layer_{index:03d}.safetensors", _tensors(layer, kind))
        del layer  # before the next one grows
        if checkpoint_due(last) and index + 1 < count:
            write(saved, {"hidden": runner.hidden}, {"layer": str(index + 1)})
            last = time.monotonic()
    saved.unlink(missing_ok=True)
    progress.step("statistics", count, count)


def _resume(saved: Path, runner: LayerRunner, known: int) -> int:
    """Restore hidden states that a killed run left; the layer to go on with."""
    if not saved.is_file():
        return 0
    try:
        with safe_open(saved, "pt") as file:
            layer = int(file.metadata()["layer"])
            hidden = file.get_tensor("hidden")
    except (SafetensorError, KeyError, ValueError, OSError):
        return 0  # a damaged checkpoint only costs its time
    if layer > known or hidden.shape != runner.hidden.shape:
        return 0
    runner.hidden.copy_(hidden)
    return layer


def write(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file whole or not at all."""
    with whole(path, "free some space, or name another cache") as part:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, metadata=metadata)


def checkpoint_due(last: float) -> bool:
    """Whether it is time to write hidden states again; ``last`` is of `time.monotonic`."""
    return time.monotonic() - last > CHECKPOINT_SECONDS


def home(cache: Path | None = None) -> Path:
    """The folder of everything that statistics and unfinished runs leave on disk."""
    chosen = cache or os.environ.get("WORKBENCH_STATISTICS")
    if chosen:
        return Path(chosen)
    from workbench.weights import cache_dir

    return cache_dir() / "statistics"


def _done(folder: Path) -> int:
    """Layers known without a gap; a file that was cut short ends them."""
    done = 0
    while _whole(folder / f"layer_{done:03d}.safetensors"):
        done += 1
    return done


def _whole(path: Path) -> bool:
    try:
        with safe_open(path, "pt"):  # reads the header and checks the file's length against it
            return True
    except (SafetensorError, OSError):
        return False


def _make_room(place: Path, architecture: Architecture, kinds: list[str]) -> None:
    """Check the disk, and forget the statistics used longest ago when the cache has grown past its bound."""
    from workbench.measure.memory import require_disk

    widths = [int(matrix(architecture.linear(0, paths[0])).shape[1]) for paths in architecture.sites.values()]
    per_layer = sum(4 * w * (w if "gram" in kinds else 4) for w in widths)
    if "gradient" in kinds:
        per_layer += 4 * architecture.layer_parameters(0)
    place.parent.parent.mkdir(parents=True, exist_ok=True)
    need = per_layer * architecture.num_layers
    require_disk(place.parent.parent, need)
    entries = [d for d in place.parent.parent.glob("*/*") if d.is_dir() and d != place]
    sizes = {d: sum(f.stat().st_size for f in d.rglob("*") if f.is_file()) for d in entries}
    for entry in sorted(entries, key=lambda d: d.stat().st_mtime):
        if sum(sizes.values()) + need <= CACHE_BYTES:
            return
        with contextlib.suppress(OSError):
            shutil.rmtree(entry)
        sizes.pop(entry)
