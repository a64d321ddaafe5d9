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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from workbench.architecture import Architecture, matrix
from workbench.data import Tokens
from workbench.errors import ArgumentError, unknown
from workbench.jobs import Progress
from workbench.prune._runner import LayerRunner, Stop

KINDS = ("norm", "moments", "absolute", "gram", "similarity", "gradient")
CHECKPOINT_SECONDS = 15.0
CACHE_BYTES = 6 * 1024**3
VERSION = 1


@dataclass(slots=True, eq=False)
class SiteStatistics:
    """Statistics of one input of a layer, over all calibration tokens.

    Attributes
    ----------
    square, mean, variance, absolute : Tensor [in], float32, or None
        Means over tokens of x^2, x, (x - mean)^2 and |x|.
    gram : Tensor [in, in], float32, or None
        Mean over tokens of x x^T.
    """

    square: torch.Tensor | None = None
    mean: torch.Tensor | None = None
    variance: torch.Tensor | None = None
    absolute: torch.Tensor | None = None
    gram: torch.Tensor | None = None

    def get(self, name: str) -> torch.Tensor:
        """The statistic called ``name``; ArgumentError if it was not collected."""
        value = getattr(self, name)
        if value is None:
            raise ArgumentError(f"the statistic {name!r} was not collected: name its kind in the method's needs")
        return value

    @property
    def rms(self) -> torch.Tensor:
        """Root mean square of every input, ``[in]``: the L2 norm over tokens up to a constant."""
        return self.get("square").sqrt()


@dataclass(slots=True, eq=False)
class LayerStatistics:
    """All that was collected of one layer.

    Attributes
    ----------
    sites
        By the names of `Architecture.sites`.
    cosine, angle : float
        Mean over tokens of the cosine between the layer's input and output, and of the angle over pi.
    gradients
        dLoss/dW in the weight's own layout, by parameter name within the layer.
    """

    sites: dict[str, SiteStatistics] = field(default_factory=dict)
    cosine: float = float("nan")
    angle: float = float("nan")
    gradients: dict[str, torch.Tensor] = field(default_factory=dict)


class Collector:
    """Sums statistics while a layer runs; `result` turns the sums into means."""

    def __init__(self, architecture: Architecture, kinds: Iterable[str]) -> None:
        self.architecture, self.kinds = architecture, frozenset(kinds)
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown("statistic", kind, KINDS)
        self._sums: dict[str, dict[str, torch.Tensor]] = {s: {} for s in architecture.sites}
        self._tokens = dict.fromkeys(architecture.sites, 0)
        self._pairs: list[tuple[float, float, int]] = []

    @contextmanager
    def watching(self, index: int, *, stop: bool = False) -> Iterator[None]:
        """Hook the four inputs of layer ``index``; ``stop``: leave the layer once the last was seen."""
        handles = []
        if self.kinds & {"norm", "moments", "absolute", "gram"}:
            for site, paths in self.architecture.sites.items():
                last = stop and site == "mlp_out"
                module = self.architecture.linear(index, paths[0])
                handles.append(module.register_forward_pre_hook(self._hook(site, last)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, site: str, last: bool) -> Any:
        def hook(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            self._add(site, args[0].detach().flatten(0, -2).float())
            if last:
                raise Stop

        return hook

    def _add(self, site: str, x: torch.Tensor) -> None:
        sums, before, new = self._sums[site], self._tokens[site], x.shape[0]

        def accumulate(name: str, value: torch.Tensor) -> None:
            sums[name] = sums[name].add_(value) if name in sums else value.clone()

        if "moments" in self.kinds:  # Chan's update: exact for inputs whose mean is far from zero
            mean = x.mean(0, dtype=torch.float64)
            accumulate("m2", (x - mean.float()).square().sum(0).double())
            if before:
                delta = mean - sums["mean"]
                sums["m2"] += delta.square() * (before * new / (before + new))
                sums["mean"] += delta * (new / (before + new))
            else:
                sums["mean"] = mean
        if "norm" in self.kinds:
            accumulate("square", torch.linalg.vector_norm(x, dim=0).double().square())
        if "absolute" in self.kinds:
            accumulate("absolute", x.abs().sum(0).double())
        if "gram" in self.kinds:
            if "gram" in sums:
                sums["gram"].addmm_(x.T, x)
            else:
                sums["gram"] = x.T @ x
        self._tokens[site] += new

    def pair(self, hidden: torch.Tensor, out: torch.Tensor) -> None:
        """Compare a layer's inputs with its outputs, ``[batch, seqlen, hidden]``."""
        if "similarity" in self.kinds:
            cosine = torch.cosine_similarity(hidden.float(), out.float(), dim=-1).double().clamp(-1, 1)
            angle = cosine.arccos() / torch.pi
            self._pairs.append((float(cosine.sum()), float(angle.sum()), cosine.numel()))

    def result(self) -> LayerStatistics:
        """The statistics of the layer that was watched; the sums are emptied."""
        layer = LayerStatistics()
        for site, sums in self._sums.items():
            n = max(self._tokens[site], 1)
            mean = sums.get("mean")
            layer.sites[site] = SiteStatistics(
                square=_mean(sums.get("square"), n),
                mean=None if mean is None else mean.float(),
                variance=_mean(sums.get("m2"), n),
                absolute=_mean(sums.get("absolute"), n),
                gram=_mean(sums.get("gram"), n),
            )
            self._sums[site], self._tokens[site] = {}, 0
        if self._pairs:
            count = sum(p[2] for p in self._pairs)
            layer.cosine = sum(p[0] for p in self._pairs) / count
            layer.angle = sum(p[1] for p in self._pairs) / count
            self._pairs = []
        return layer


def _mean(total: torch.Tensor | None, count: int) -> torch.Tensor | None:
    return None if total is None else (total / count).float()


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
    home = _home(cache) / fingerprint[:20] / f"{tokens.hash[:20]}-v{VERSION}"
    folders = {kind: home / kind for kind in wanted}
    count = architecture.num_layers
    missing = [k for k in wanted if _done(folders[k]) < count]
    if missing:
        _make_room(home, architecture, missing)
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    os.utime(home)
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
        if time.monotonic() - last > CHECKPOINT_SECONDS and index + 1 < count:
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
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, metadata=metadata)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _home(cache: Path | None) -> Path:
    chosen = cache or os.environ.get("WORKBENCH_STATISTICS")
    if chosen:
        return Path(chosen)
    from workbench.weights import cache_dir

    return cache_dir() / "statistics"


def _done(folder: Path) -> int:
    """Layers known without a gap."""
    done = 0
    while (folder / f"layer_{done:03d}.safetensors").is_file():
        done += 1
    return done


def _make_room(home: Path, architecture: Architecture, kinds: list[str]) -> None:
    """Check the disk, and forget the statistics used longest ago when the cache has grown past its bound."""
    from workbench.measure.memory import require_disk

    widths = [int(matrix(architecture.linear(0, paths[0])).shape[1]) for paths in architecture.sites.values()]
    per_layer = sum(4 * w * (w if "gram" in kinds else 4) for w in widths)
    if "gradient" in kinds:
        per_layer += 4 * architecture.layer_parameters(0)
    home.parent.parent.mkdir(parents=True, exist_ok=True)
    need = per_layer * architecture.num_layers
    require_disk(home.parent.parent, need)
    entries = [d for d in home.parent.parent.glob("*/*") if d.is_dir() and d != home]
    sizes = {d: sum(f.stat().st_size for f in d.rglob("*") if f.is_file()) for d in entries}
    for entry in sorted(entries, key=lambda d: d.stat().st_mtime):
        if sum(sizes.values()) + need <= CACHE_BYTES:
            return
        with contextlib.suppress(OSError):
            shutil.rmtree(entry)
        sizes.pop(entry)
