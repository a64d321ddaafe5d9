"""Training of drafting heads on a CPU, in minutes: `train_heads`.

    prompts --the model answers--> text, hidden states h --Adam--> W_k, b_k of `workbench.decode.speculative._heads`

    head:  h_k = h + U_k drop(SiLU(W_k x_k + b_k)), a tenth of the entries dropped while training
    loss = mean over heads and places of - sum_x p(x) log softmax(E h_k)[x],    p = softmax(E h') over the vocabulary

E are the output head's rows of the most frequent tokens of that text: the softmax runs over them only, at training and
at drafting, and places whose next token is another are left out. p is what the model itself said there (h' is its
hidden state one token before the guessed one), half of it, the other half is the token that it wrote. Products with E
are taken in bfloat16. Embeddings are brought to the size of hidden states, so that one rate suits both; the factor is
part of the weights in the end.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from workbench.decode.speculative._heads import KINDS, Heads, described
from workbench.decode.training._questions import questions
from workbench.decode.training.own_text import OwnText, own_text
from workbench.errors import ArgumentError, DataError, ResourceError, unknown
from workbench.jobs import Progress
from workbench.models import LM, as_lm
from workbench.weights import cache_dir

RANKS = 10
SAID = 16  # tokens of the model's own distribution that are targets
DROPPED = 0.1
HELD_BACK = 0.05  # of the sequences: on them ranks are counted


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
    seed: int


def train_heads(
    model: Any,
    kind: str = "medusa",
    heads: int = 3,
    *,
    text: OwnText | None = None,
    prompts: int | Sequence[Sequence[int]] = 1152,
    batches: int | None = 16,
    tokens: int = 144,
    vocabulary: int = 8192,
    epochs: int = 2,
    batch: int = 256,
    rate: float = 1e-3,
    soft: float = 0.5,
    seed: int = 0,
    folder: str | Path | None = None,
    every: int = 50,
    progress: Progress | None = None,
) -> Heads:
    """Train heads for the methods ``"medusa"`` and ``"hydra"``.

    Parameters
    ----------
    model
        A model handle, or what holds one; it is not changed.
    kind
        ``"medusa"`` or ``"hydra"``.
    heads
        Tokens that a draft is long.
    text
        To learn from; by default the model answers ``prompts`` with at most ``tokens`` tokens each.
    prompts
        How many of the built-in ones, or token ids.
    batches
        Of 48 prompts, of those in an order drawn by the seed; None answers all.
    vocabulary
        Tokens that may be drafted.
    epochs, batch, rate
        Of Adam; the rate falls to 0 along a cosine.
    soft
        Share of the model's own distribution in the targets.
    seed
        Same seed, same bits.
    folder
        Where text and the state of the training are kept, so that a killed one goes on; by default in the cache.
    every
        Steps between two states that are kept.

    Raises
    ------
    ArgumentError
        If an argument is out of range, or the model has no tokenizer and no prompts are given.
    Cancelled
        If the job was cancelled; the next call goes on.

    Examples
    --------
    >>> train_heads(lm, "hydra").save("hydra.safetensors")                           # doctest: +SKIP
    """
    lm, progress = as_lm(model), progress or Progress()
    if kind not in KINDS:
        raise unknown("kind of heads", kind, KINDS)
    for name, value in (("heads", heads), ("vocabulary", vocabulary), ("epochs", epochs), ("batch", batch)):
        if value < 1:
            raise ArgumentError(f"{name}={value}: at least 1")
    if rate <= 0 or not 0 <= soft <= 1:
        raise ArgumentError(f"rate={rate}, soft={soft}: a positive number, and a share from 0 to 1")
    recipe = Recipe(kind, heads, vocabulary, epochs, batch, rate, soft, seed)
    fingerprint = lm.fingerprint
    place = cache_dir() / "heads" / fingerprint[:16] if folder is None else Path(folder)
    if text is None:
        asked = _prompts(lm, prompts, seed)
        text = own_text(lm, asked, place, tokens=tokens, batches=batches, seed=seed, progress=progress)
    work = _Work(lm, text, recipe)
    key = hashlib.sha256(json.dumps([asdict(recipe), text.hash, fingerprint]).encode()).hexdigest()[:16]
    work.run(place / f"{kind}-{key}.state.safetensors", every, progress)
    about = {
        "recipe": json.dumps(asdict(recipe)),
        "seed": str(seed),
        "text": text.hash,
        "tokens": str(len(text.tokens)),
    }
    return work.finish(about | described(lm))


def _prompts(lm: LM, prompts: int | Sequence[Sequence[int]], seed: int) -> Sequence[Sequence[int]]:
    if not isinstance(prompts, int):
        return prompts
    if lm.tokenizer is None:
        raise ArgumentError("the model has no tokenizer: give prompts as token ids")
    return questions(lm.tokenizer, prompts, seed)


class _Work:
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
        border = text.ends[max(0, int(len(text.ends) * (1 - HELD_BACK)) - 1)] if len(text.ends) > 1 else len(where)
        self.train, self.held = (torch.from_numpy(x) for x in (where[where < border], where[where >= border]))
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
        if chance is not None:
            inner = inner * (torch.rand(inner.shape, generator=chance) >= DROPPED) / (1 - DROPPED)
        state = x[:, : self.hidden.shape[1]] + F.linear(inner, U)
        return F.linear(state.to(torch.bfloat16), self.E).float()

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
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(state, part, {"step": str(self.step)})
            part.replace(path)
        except OSError as error:
            raise ResourceError(f"cannot write {path} ({error}): name a folder that can be written") from error

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
