"""Successor heads: heads that turn "Monday" into "Tuesday", 3 into 4, B into C, by what they carry, wherever they look.

Rhys Gould, Euan Ong, George Ogden, Arthur Conmy. Successor Heads: Recurring, Interpretable Attention Heads In The
Wild. 2023. arXiv:2312.09230.

    x_t = E_t + MLP_0(E_t)                    the embedding of token t behind the first layer, its attention left out
    u_t = W_U norm(W_O^h W_V^h norm_l(x_t))   what head h of layer l writes where it looks at t, read by the output head
    score(h) = share of ordinals t with  argmax_{c in class of t} u_t[c] = successor of t

Classes: numbers from 0 to 200, number words, ordinal words, days, months, both shortened, capital letters; days and
months go round. Of each those that are one token, with a blank before them or without, whichever gives more.

Departs from the paper: the model's own norms stand before the head and before the output head, and x_t is the whole
residual stream (the paper's code takes the output of MLP_0 alone); shortened days and months go round as well. Norms
that some families have between a head and the residual stream are left out.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.architecture import matrix
from workbench.decode.depth.training import normed
from workbench.errors import ModelError
from workbench.models import LM, as_lm
from workbench.prune._runner import stubbed

LEAST = 4  # pairs that a class must have: ours

_NAMES = """
number words: one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen \
seventeen eighteen nineteen twenty
ordinal words: first second third fourth fifth sixth seventh eighth ninth tenth
days: Monday Tuesday Wednesday Thursday Friday Saturday Sunday
months: January February March April May June July August September October November December
short days: Mon Tue Wed Thu Fri Sat Sun
short months: Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec
"""
CLASSES: Mapping[str, tuple[str, ...]] = {
    "numbers": tuple(map(str, range(201))),
    **{name: tuple(words.split()) for name, words in (line.split(":") for line in _NAMES.strip().splitlines())},
    "letters": tuple(string.ascii_uppercase),
}
CYCLIC = ("days", "months", "short days", "short months")


@dataclass(frozen=True, slots=True)
class Ordinals:
    """One class of a tokenizer: token ids, and pairs (place of a token, place of its successor) among them."""

    name: str
    ids: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]


def ordinals(tokenizer: Any) -> tuple[Ordinals, ...]:
    """The classes of `CLASSES` of which a tokenizer has `LEAST` pairs or more as single tokens."""
    found = (max((_class(tokenizer, n, blank) for blank in (" ", "")), key=lambda c: len(c.pairs)) for n in CLASSES)
    return tuple(c for c in found if len(c.pairs) >= LEAST)


def _class(tokenizer: Any, name: str, blank: str) -> Ordinals:
    words, cyclic = CLASSES[name], name in CYCLIC
    coded = [tokenizer(blank + word, add_special_tokens=False)["input_ids"] for word in words]
    single = [n for n, ids in enumerate(coded) if len(ids) == 1]
    place = {n: at for at, n in enumerate(single)}
    following = ((n, (n + 1) % len(words) if cyclic else n + 1) for n in single)
    pairs = tuple((place[n], place[m]) for n, m in following if m in place)
    return Ordinals(name, tuple(int(coded[n][0]) for n in single), pairs)


@torch.no_grad()
def successor(model: Any, classes: Sequence[Ordinals] | None = None) -> np.ndarray:
    """Share of ordinals that a head turns into their successor: float32 ``[layers, heads]``.

    Guessing gives about one over the size of a class.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM, of a described family.
    classes
        What is tested; by default `ordinals` of its tokenizer.

    Raises
    ------
    ModelError
        If the family is not described, or there is no tokenizer, or none of the classes is in its vocabulary.
    """
    lm = as_lm(model)
    if classes is None:
        if lm.tokenizer is None:
            raise ModelError(f"{lm.source} has no tokenizer: name the tokens of the classes")
        classes = ordinals(lm.tokenizer)
    if not classes:
        raise ModelError(f"{lm.source}: its tokenizer has no days, months, numbers or letters as single tokens")
    tokens = sorted({t for c in classes for t in c.ids})
    place = {t: n for n, t in enumerate(tokens)}
    unembedding: Any = lm.module.get_output_embeddings()
    weight = unembedding.weight[tokens].float()
    bias = unembedding.bias[tokens].float() if getattr(unembedding, "bias", None) is not None else torch.zeros(())
    scores = []
    for written in _writings(lm, tokens):
        logits = normed(lm, written.flatten(0, 1)).float() @ weight.T + bias
        scores.append(_hits(logits.unflatten(0, written.shape[:2]), classes, place))
    return np.asarray(scores, np.float32)


def _hits(logits: torch.Tensor, classes: Sequence[Ordinals], place: Mapping[int, int]) -> np.ndarray:
    """Shares of successors ``[H]`` by logits ``[N, H, N]`` of what each of the N tokens becomes."""
    found = []
    for each in classes:
        own = [place[t] for t in each.ids]
        best = logits[own][:, :, own].argmax(2)
        found += [best[at] == then for at, then in each.pairs]
    return torch.stack(found).float().mean(0).numpy()


def _writings(lm: LM, tokens: Sequence[int]) -> Iterator[torch.Tensor]:
    """What every head of a layer writes where it looks at a token, ``[N, H, hidden]``, layer by layer.

    Each token is a text of its own: attention to the only key there is gives its value, whatever the query.
    """
    arch, values = lm.architecture, dict[int, torch.Tensor]()
    start: list[torch.Tensor] = []

    def run(index: int, state: torch.Tensor, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
        layer: Any = arch.layers[index]
        if not start:
            with _reading(arch.linear(0, arch.family.o), torch.zeros_like):
                out = type(layer).forward(layer, state, *args, **kwargs)
            start.append(out[0] if isinstance(out, tuple) else out)
        with _reading(arch.linear(index, arch.family.o), lambda x: values.__setitem__(index, x[:, 0].float())):
            type(layer).forward(layer, start[0], *args, **kwargs)
        return start[0]

    ids = torch.tensor(tokens, device=lm.device)[:, None]
    with stubbed(arch.layers, run):
        lm.module.base_model(ids, use_cache=False)
    for index in range(arch.num_layers):
        out = matrix(arch.linear(index, arch.family.o)).float()
        heads = arch.query_heads(index)
        parts = values[index].unflatten(1, (heads, -1))
        yield torch.einsum("nhd,ohd->nho", parts, out.unflatten(1, (heads, -1)))


@contextmanager
def _reading(linear: Any, hear: Callable[[torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """Within the block ``hear`` gets what the linear map reads, and may put something else in its place."""

    def hook(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        other = hear(args[0])
        return None if other is None else (other, *args[1:])

    handle = linear.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
