"""Text that a model writes itself, with its hidden states: what drafting heads have to predict (self-distillation).

    prompts --batches, each a file--> tokens [N] and final hidden states [N, H] of what was written

A batch is written whole, so that what was killed goes on where it stopped and comes to the same bits.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from workbench._files import whole
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.models import LM


@dataclass(frozen=True, eq=False)
class OwnText:
    """Sequences behind each other.

    Attributes
    ----------
    tokens : ndarray of int32 [N]
        Each sequence begins with the last token of its prompt.
    hidden : ndarray of float16 [N, H]
        What the output head multiplies after each token; zero after the last token of a sequence.
    ends : ndarray of int64 [S]
        Where each sequence ends.
    """

    tokens: np.ndarray
    hidden: np.ndarray
    ends: np.ndarray

    @property
    def hash(self) -> str:
        """SHA-256 over the tokens."""
        return hashlib.sha256(self.tokens.astype("<i4").tobytes() + self.ends.astype("<i8").tobytes()).hexdigest()

    def starts(self, ahead: int) -> np.ndarray:
        """Positions that have ``ahead`` tokens of their sequence behind them."""
        begins = np.concatenate([[0], self.ends[:-1]])
        pieces = [np.arange(b, e - ahead) for b, e in zip(begins, self.ends, strict=True)]
        return np.concatenate(pieces) if pieces else np.empty(0, np.int64)

    @classmethod
    def joined(cls, parts: Sequence[OwnText]) -> OwnText:
        """One text of several."""
        before = np.cumsum([0, *(len(p.tokens) for p in parts)])
        ends = [p.ends + b for p, b in zip(parts, before, strict=False)]
        return cls(
            np.concatenate([p.tokens for p in parts]),
            np.concatenate([p.hidden for p in parts]),
            np.concatenate(ends),
        )


def own_text(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    folder: Path,
    *,
    tokens: int = 144,
    batch: int = 48,
    batches: int | None = None,
    temperatures: Sequence[float] = (0.0, 0.0, 0.7),
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    progress: Progress | None = None,
) -> OwnText:
    """Let a model answer prompts.

    Parameters
    ----------
    folder
        Where batches are kept; those that are there already, of the same settings, are not made again.
    tokens
        Each answer has at most so many.
    batch
        Prompts at a time, of similar length.
    batches
        Only so many, in an order drawn by the seed; None for all.
    temperatures
        Taken in turns by the prompts of a batch; 0 takes the most likely token.
    dtype
        That the model computes in.

    Raises
    ------
    Cancelled
        If the job was cancelled; finished batches stay.
    """
    if tokens < 2 or batch < 1 or not prompts or not temperatures:
        raise ArgumentError(f"tokens={tokens}, batch={batch}, {len(prompts)} prompts: at least 2, 1 and 1")
    progress, module = progress or Progress(), None
    ordered = sorted(prompts, key=len)  # little is wasted on filling up
    groups = [ordered[n : n + batch] for n in range(0, len(prompts), batch)]
    np.random.default_rng(seed).shuffle(groups)
    groups = groups[:batches]
    parts, known = [], lm.fingerprint
    for n, group in enumerate(groups):
        progress.step("writing text to learn from", n, len(groups))
        settings = [known, [list(p) for p in group], tokens, list(temperatures), seed + n, str(dtype)]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
        path = folder / f"text-{n:03d}-{key}.npz"
        if not path.exists():
            module = module or _copy(lm, dtype)
            _write(path, _answers(module, group, tokens, temperatures, seed + n, progress))
        with np.load(path) as found:
            parts.append(OwnText(found["tokens"], found["hidden"], found["ends"]))
    return OwnText.joined(parts)


def _copy(lm: LM, dtype: torch.dtype) -> Any:
    module: Any = lm.module
    return module if module.dtype == dtype else copy.deepcopy(module).to(dtype)


@torch.no_grad()
def _answers(
    module: Any,
    prompts: Sequence[Sequence[int]],
    limit: int,
    temperatures: Sequence[float],
    seed: int,
    progress: Progress,
) -> OwnText:
    """Answers of one batch; a sequence that has ended leaves it."""
    generator = torch.Generator().manual_seed(seed)
    heat = torch.tensor([temperatures[n % len(temperatures)] for n in range(len(prompts))])
    ids, mask = _padded(prompts)
    cache, alive, heard = DynamicCache(), np.arange(len(prompts)), []
    written = [[int(p[-1])] for p in prompts]
    states: list[list[np.ndarray]] = [[] for _ in prompts]
    ends = _ends(module)
    hook = module.get_output_embeddings().register_forward_pre_hook(lambda _m, args: heard.append(args[0]))
    try:
        for _ in range(limit):
            progress.check()
            place = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            out = module(
                ids, attention_mask=mask, position_ids=place, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            state = heard.pop()[:, -1].to(torch.float16).numpy()
            chosen = _choose(out.logits[:, -1].float(), heat, generator)
            for row, who in enumerate(alive):
                states[who].append(state[row])
                written[who].append(int(chosen[row]))
            stay = torch.tensor([n for n, t in enumerate(chosen.tolist()) if t not in ends], dtype=torch.long)
            if not len(stay):
                break
            if len(stay) < len(alive):
                cache.batch_select_indices(stay)
                alive, chosen, mask, heat = alive[stay.numpy()], chosen[stay], mask[stay], heat[stay]
            ids, mask = chosen[:, None], torch.cat([mask, torch.ones(len(alive), 1, dtype=mask.dtype)], 1)
    finally:
        hook.remove()
    hidden = [np.stack([*s, np.zeros_like(s[0])]) for s in states]
    lengths = np.cumsum([len(w) for w in written])
    return OwnText(np.concatenate(written).astype(np.int32), np.concatenate(hidden), lengths.astype(np.int64))


def _padded(prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, filled up on the left."""
    longest = max(len(p) for p in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, longest - len(prompt) :] = 1
    return ids, mask


def _choose(logits: torch.Tensor, heat: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The most likely token where ``heat`` is 0, else one drawn."""
    chances = torch.softmax(logits / heat.clamp(min=1e-3)[:, None], -1)
    drawn = torch.multinomial(chances, 1, generator=generator)[:, 0]
    return torch.where(heat > 0, drawn, logits.argmax(-1))


def _ends(module: Any) -> set[int]:
    found: Any = getattr(module.generation_config, "eos_token_id", None)
    return set(found) if isinstance(found, list | tuple) else {-1 if found is None else int(found)}


def _write(path: Path, text: OwnText) -> None:
    """The whole file or none."""
    with whole(path, "name a folder that can be written") as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, tokens=text.tokens, hidden=text.hidden, ends=text.ends)
