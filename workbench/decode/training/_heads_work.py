"""Steps, state and figures of the training that `workbench.decode.training.heads` describes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from workbench._files import whole
from workbench.decode.speculative._heads import Heads
from workbench.decode.training.own_text import OwnText
from workbench.errors import DataError
from workbench.jobs import Progress
from workbench.models import LM

RANKS = 10
SAID = 16  # tokens of the model's own distribution that are targets
HELD_BACK = 20  # one sequence of so many: on those ranks are counted


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a training; two of the same on the same text give the same bits."""

    kind: str
    heads: int
    vocabulary: int
    epochs: int
    batch: int
    rate: float
    soft: float
    drop: float
    seed: int


class Work:
    """Data, weights and optimiser of one training."""

    def __init__(self, lm: LM, text: OwnText, recipe: Recipe) -> None:
        self.recipe, r, module = recipe, recipe, cast("Any", lm.module)
        self.tokens = torch.from_numpy(text.tokens.astype(np.int64))
        self.hidden = torch.from_numpy(text.hidden)
        counts = np.bincount(text.tokens, minlength=len(module.get_output_embeddings().weight))
        self.vocabulary = np.argsort(-counts, kind="stable")[: r.vocabulary].astype(np.int32)
        self.place = torch.full((len(counts),), -1)
        self.place[torch.from_numpy(self.vocabulary.astype(np.int64))] = torch.arange(len(self.vocabulary))
        rows = torch.from_numpy(self.vocabulary.astype(np.int64))
        self.E = module.get_output_embeddings().weight.detach()[rows].to(torch.bfloat16)
        self.table = module.get_input_embeddings().weight.detach().float()
        self.factor = float(self.hidden[:4096].float().square().mean().sqrt() / self.table.square().mean().sqrt())
        where = text.starts(r.heads + 1)
        every = min(HELD_BACK, len(text.ends))
        held = (np.searchsorted(text.ends, where, "right") % every == every - 1) & (every > 1)
        self.train, self.held = torch.from_numpy(where[~held]), torch.from_numpy(where[held])
        if not len(self.train):
            raise DataError(f"a text of {len(text.ends)} sequences has no place with {r.heads + 1} tokens behind it")
        size = self.hidden.shape[1]
        wide = [size * (1 + k) if r.kind == "hydra" else size for k in range(1, r.heads + 1)]
        chance = torch.Generator().manual_seed(r.seed)
        self.blocks = [_block(size, w, chance) for w in wide]
        self.parameters = [p for block in self.blocks for p in block]
        self.adam = torch.optim.Adam(self.parameters, lr=r.rate, betas=(0.9, 0.99))
        self.steps_an_epoch = math.ceil(len(self.train) / r.batch)
        self.step = 0
        self.said = self._said()

    @torch.no_grad()
    def _said(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model itself said after each token: its `SAID` likeliest tokens, chances and places."""
        found = []
        for h in self.hidden.split(1024):
            p = F.linear(h.to(torch.bfloat16), self.E).float().softmax(-1)
            found.append(p.topk(min(SAID, p.shape[1]), -1))
        chances = torch.cat([f.values for f in found])
        return chances / chances.sum(-1, keepdim=True), torch.cat([f.indices for f in found])

    def inputs(self, at: torch.Tensor, head: int) -> torch.Tensor:
        """What a head (0 is the first) looks at, at places: x."""
        found = [self.hidden[at].float()]
        if self.recipe.kind == "hydra":
            found += [self.factor * self.table[self.tokens[at + n]] for n in range(1, head + 2)]
        return torch.cat(found, -1)

    def logits(self, at: torch.Tensor, head: int, chance: torch.Generator | None = None) -> torch.Tensor:
        """Of a head over the vocabulary, float32; with dropped entries if there is a generator."""
        x = self.inputs(at, head)
        W, b, U = self.blocks[head]
        inner = F.silu(F.linear(x, W, b))
        state = x[:, : self.hidden.shape[1]] + F.linear(self._dropped(inner, chance), U)
        return F.linear(state.to(torch.bfloat16), self.E).float()

    def _dropped(self, x: torch.Tensor, chance: torch.Generator | None) -> torch.Tensor:
        if chance is None or not self.recipe.drop:
            return x
        return x * (torch.rand(x.shape, generator=chance) >= self.recipe.drop) / (1 - self.recipe.drop)

    def loss(self, at: torch.Tensor, head: int, chance: torch.Generator | None = None) -> torch.Tensor:
        """Of one head, over places whose token is in the vocabulary."""
        goal = self.place[self.tokens[at + head + 2]]
        log_q = F.log_softmax(self.logits(at, head, chance), -1)
        known = (goal >= 0).float()
        hard = log_q.gather(1, goal.clamp(min=0)[:, None])[:, 0]
        if self.recipe.soft:
            p, which = self.said[0][at + head + 1], self.said[1][at + head + 1]
            hard = (1 - self.recipe.soft) * hard + self.recipe.soft * (p * log_q.gather(1, which)).sum(-1)
        return -(known * hard).sum() / known.sum().clamp(min=1)

    def run(self, path: Path, every: int, progress: Progress) -> None:
        """Train to the end, from the state in ``path`` if there is one."""
        self.resume(path)
        total = self.steps_an_epoch * self.recipe.epochs
        while self.step < total:
            epoch, n = divmod(self.step, self.steps_an_epoch)
            order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(self.recipe.seed + epoch))
            at = self.train[order[n * self.recipe.batch : (n + 1) * self.recipe.batch]]
            for group in self.adam.param_groups:
                group["lr"] = self.recipe.rate * 0.5 * (1 + math.cos(math.pi * self.step / total))
            self.adam.zero_grad()
            value, chance = 0.0, torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step)
            for head in range(self.recipe.heads):
                loss = self.loss(at, head, chance) / self.recipe.heads
                loss.backward()
                value += float(loss.detach())
            self.adam.step()
            self.step += 1
            if self.step % every == 0:
                self.keep(path)
            progress.step(f"training {self.recipe.kind} heads", self.step, total, value)
        self.keep(path)

    def keep(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        state = {f"p{n}": p.detach() for n, p in enumerate(self.parameters)}
        for n, p in enumerate(self.parameters):
            state |= {f"m{n}": self.adam.state[p]["exp_avg"], f"v{n}": self.adam.state[p]["exp_avg_sq"]}
        with whole(path, "name a folder that can be written") as part:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(state, part, {"step": str(self.step)})

    def resume(self, path: Path) -> None:
        """Read a state that `keep` wrote, if there is one."""
        if not path.exists():
            return
        with safe_open(str(path), "pt") as file:
            self.step = int(file.metadata()["step"])
            for n, p in enumerate(self.parameters):
                p.data.copy_(file.get_tensor(f"p{n}"))
                self.adam.state[p] = {
                    "step": torch.tensor(float(self.step)),
                    "exp_avg": file.get_tensor(f"m{n}"),
                    "exp_avg_sq": file.get_tensor(f"v{n}"),
                }

    @torch.no_grad()
    def ranks(self) -> np.ndarray:
        """How often the guess of each rank is right on what was held back: float32 [heads, RANKS]."""
        found = np.zeros((self.recipe.heads, RANKS), np.float32)
        held = self.held if len(self.held) else self.train[-512:]
        for head in range(self.recipe.heads):
            for at in held.split(1024):
                goal = self.place[self.tokens[at + head + 2]]
                guesses = self.logits(at, head).topk(min(RANKS, len(self.E)), -1).indices
                found[head, : guesses.shape[1]] += (guesses == goal[:, None]).sum(0).numpy()
        return found / len(held)

    def finish(self, about: dict[str, str]) -> Heads:
        """The heads as they are now."""
        size = self.hidden.shape[1]
        blocks = []
        for W, b, U in self.blocks:
            scaled = W.detach().clone()
            scaled[:, size:] *= self.factor
            arrays = (scaled, b.detach(), U.detach())
            blocks.append(
                tuple(x.numpy().astype(np.float16).astype(np.float32) for x in arrays)
            )  # as a file holds them
        return Heads(self.recipe.kind, tuple(blocks), self.vocabulary, self.ranks(), about)


def _block(size: int, inputs: int, generator: torch.Generator) -> list[torch.Tensor]:
    """W, b, U; U = 0: at first a head says what the output head says."""
    W = torch.randn(size, inputs, generator=generator) / math.sqrt(inputs)
    return [W.requires_grad_(), torch.zeros(size, requires_grad=True), torch.zeros(size, size, requires_grad=True)]
