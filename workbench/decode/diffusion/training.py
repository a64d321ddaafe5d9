"""The recipe of the shipped model: `train_diffusion`, minutes on one core.

The loss of absorbing diffusion (Sahoo et al., "Simple and Effective Masked Diffusion Language Models", 2024, arXiv
2406.07524; Ou et al., 2024, arXiv 2406.03736): draw t ~ U(0, 1), mask each of the A places of the answer with chance t,

    L = E_t (1/t) sum over masked i of -log p(x_i | what is not masked)

For k masked places all choices are equally likely, k = 1..A have the weight E[1/t; k masked] = 1/k each, and for k = 0
there is no loss, so that exactly the same expectation is

    L = E_k (A/k) sum over masked i of -log p(x_i | what is not masked),     k uniform on 1..A

whose weights are bounded by A where 1/t is not; this is what is drawn here, k in equal shares within a batch. The
prompt is never masked. Step s draws its batch from (seed, s), so that a run resumes from its file with the same bits.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from workbench import render
from workbench._files import whole
from workbench.decode.diffusion.network import Network, Sizes
from workbench.decode.diffusion.tasks import ANSWER, END, MASK, PAD, PROMPT, TASKS, answers, sample
from workbench.errors import ArgumentError, DataError
from workbench.jobs import Progress
from workbench.results import Provenance, Result

WARM_UP = 100
_FORMAT = "sparse-workbench diffusion training"


@dataclass(frozen=True, eq=False, repr=False)
class Trained(Result):
    """What `train_diffusion` returns.

    Attributes
    ----------
    network : Network
        In float32, in evaluation mode.
    losses : ndarray of float32 [steps]
        The loss above of every step, nats per answer.
    seconds : float
        Of this call alone.
    provenance : Provenance
    """

    network: Network = field(repr=False)
    losses: np.ndarray
    seconds: float
    provenance: Provenance = field(repr=False)

    def _headline(self) -> str:
        first, last = (float(part.mean()) for part in (self.losses[:20], self.losses[-100:]))
        return f"Trained({len(self.losses)} steps, loss {first:.3g} to {last:.3g} nats per answer)"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, without the weights."""
        return {"losses": self.losses.tolist(), "seconds": self.seconds, "provenance": self.provenance.to_dict()}

    def _sections(self) -> tuple[render.Section, ...]:
        every = max(1, len(self.losses) // 10)
        rows = [
            (f"{n} to {n + len(part)}", float(part.mean()))
            for n, part in ((n, self.losses[n : n + every]) for n in range(0, len(self.losses), every))
        ]
        return (render.section("Loss", rows, ("steps", "nats per answer")),)


def train_diffusion(
    *,
    steps: int = 9000,
    batch: int = 64,
    sizes: Sizes | None = None,
    rate: float = 2e-3,
    decay: float = 0.01,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    every: int = 250,
    progress: Progress | None = None,
) -> Trained:
    """Train the small masked-diffusion model on list tasks.

    Parameters
    ----------
    steps, batch
        Optimizer steps, answers per step.
    sizes
        Of the network; None for those of the shipped one.
    rate, decay
        AdamW's highest learning rate (warmed up, then lowered to 0 by a cosine) and weight decay.
    seed
        Of the weights and of all that is drawn.
    checkpoint
        File that is written every so many steps and resumed from if it is there; None keeps none.
    progress
        Hears after every step, the loss as partial result; cancelling leaves the newest checkpoint.

    Raises
    ------
    ArgumentError
        If a number is out of range.
    DataError
        If the checkpoint is damaged or of other settings.

    Examples
    --------
    The shipped file was made so, in ten minutes of one core:

    >>> trained = train_diffusion(checkpoint="run.safetensors")                        # doctest: +SKIP
    >>> ListModel(trained.network).save("diffusion.safetensors", repr(trained))        # doctest: +SKIP
    """
    if steps < 1 or batch < 1 or every < 1:
        raise ArgumentError(f"steps={steps}, batch={batch}, every={every}: each at least 1")
    sizes, progress, began = sizes or Sizes(), progress or Progress(), time.perf_counter()
    settings = {"steps": steps, "batch": batch, "rate": rate, "decay": decay, "seed": seed, "sizes": sizes.to_dict()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(sizes)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=decay)
    losses: list[float] = []
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.exists():
        losses = _resume(path, network, optimizer, settings)
    while len(losses) < steps:
        losses.append(_step(network, optimizer, len(losses), settings))
        if path is not None and (len(losses) % every == 0 or len(losses) == steps):
            _keep(path, network, optimizer, settings, losses)
        progress.step("training the diffusion model", len(losses), steps, losses[-1])
    seconds = time.perf_counter() - began
    where = Provenance.here(seed=seed, method=f"train_diffusion({settings})")
    return Trained(network.eval(), np.array(losses, np.float32), seconds, where)


def _step(network: Network, optimizer: torch.optim.Optimizer, step: int, settings: dict[str, Any]) -> float:
    whole, weight = draw_batch(settings["batch"], np.random.default_rng([settings["seed"], step]))
    for group in optimizer.param_groups:
        group["lr"] = settings["rate"] * _shape(step, settings["steps"])
    loss = diffusion_loss(network, torch.from_numpy(whole), torch.from_numpy(weight))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def _shape(step: int, steps: int) -> float:
    """The learning rate's share of its highest."""
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def draw_batch(batch: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of prompt and answer, int64 [B, T], and the weight of each place's loss, 0 where it stays seen."""
    whole = np.full((batch, PROMPT + ANSWER), END, np.int64)
    weight = np.zeros((batch, PROMPT + ANSWER), np.float32)
    for row, name in enumerate(random.permutation(np.resize(TASKS, batch))):
        task = sample(str(name), random)
        right = answers(task) if name != "shuffle" else random.permutation(np.array(task.line))[None]
        chosen = right[random.integers(len(right))]
        whole[row, :PROMPT] = PAD
        whole[row, PROMPT - len(task.prompt) : PROMPT] = task.prompt
        whole[row, PROMPT : PROMPT + len(chosen)] = chosen
    counts = random.permutation(np.resize(np.arange(1, ANSWER + 1), batch))
    order = np.argsort(random.random((batch, ANSWER)), axis=1)
    weight[:, PROMPT:] = np.where(order < counts[:, None], ANSWER / counts[:, None], 0)
    return whole, weight


def diffusion_loss(network: Network, whole: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean over sequences of the weighted cross entropy; what has a weight is masked."""
    hidden = weight > 0
    logits = network(torch.where(hidden, MASK, whole))[hidden]
    each = torch.nn.functional.cross_entropy(logits, whole[hidden], reduction="none")
    return (each * weight[hidden]).sum() / len(whole)


def _keep(path: Path, network: Network, optimizer: Any, settings: dict[str, Any], losses: list[float]) -> None:
    """Write network, both moments and losses, whole or not at all."""
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    for n, state in optimizer.state_dict()["state"].items():
        tensors |= {f"moment.{n}.{k}": torch.as_tensor(v).reshape(-1) for k, v in state.items()}
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    with whole(path) as part:
        save_file(tensors, part, metadata={"format": _FORMAT, "settings": json.dumps(settings, sort_keys=True)})


def _resume(path: Path, network: Network, optimizer: Any, settings: dict[str, Any]) -> list[float]:
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {}).get("settings", "{}"))
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - it is no dictionary
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"checkpoint {path} cannot be read ({error}): remove it to begin anew") from error
    if found != json.loads(json.dumps(settings)):
        raise DataError(f"checkpoint {path} is of other settings ({found}): remove it, or ask for the same")
    network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network.")})
    parameters = list(network.parameters())
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("moment."):
            _, n, name = key.split(".")
            shape = () if name == "step" else parameters[int(n)].shape
            state.setdefault(int(n), {})[name] = value.reshape(shape)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    losses: list[float] = tensors["losses"].tolist()
    return losses
