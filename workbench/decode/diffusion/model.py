"""Models that fill in what is masked, as methods of this family see them.

    model.evaluate(canvas)  ->  for every place the logits of its token, given all that is not masked

A `MaskedModel` stands where other methods have a causal target, so that `workbench.generate` takes one. `load()` is the
small model that our recipe trained (see `training`), on list tasks; `Oracle` knows their exact answers.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from workbench._files import whole
from workbench.decode.diffusion.network import Network, Sizes
from workbench.decode.diffusion.tasks import ANSWER, END, MASK, PAD, PROMPT, WORDS, Words, answers, read
from workbench.decode.target import Forward, Target
from workbench.errors import ArgumentError, ModelError

SHIPPED = Path(__file__).parents[1] / "weights" / "diffusion.safetensors"
_FORMAT = "sparse-workbench diffusion model"


class MaskedModel(Target):
    """Base of models that predict masked tokens; there is no cache and no next token.

    Attributes
    ----------
    mask
        The token that stands for "not yet known".
    """

    mask: int = MASK
    hidden_size = 0

    @abstractmethod
    def slots(self, prompt: Sequence[int]) -> int:
        """Places that an answer to this prompt has, its end included."""

    def evaluate(self, canvas: np.ndarray, prompt: int) -> np.ndarray:
        """Logits of every place after the prompt, float32 [slots, V]; -inf for tokens that cannot stand there.

        Parameters
        ----------
        canvas : ndarray of int64 [T]
            Prompt and answer, masked places with `mask`.
        prompt
            Tokens of the prompt.

        Raises
        ------
        ArgumentError
            If an id is no token.
        """
        if canvas.min() < 0 or canvas.max() >= self.vocabulary:
            raise ArgumentError(f"ids={canvas[:8].tolist()}...: each from 0 to {self.vocabulary - 1}")
        self.forwards += 1
        return self._evaluate(canvas, prompt)

    @abstractmethod
    def _evaluate(self, canvas: np.ndarray, prompt: int) -> np.ndarray: ...

    @property
    def length(self) -> int:
        """Tokens in the cache: there is none."""
        return 0

    def crop(self, length: int = 0) -> None:
        """Nothing to forget."""

    def _gather(self, rows: Sequence[int]) -> None:  # noqa: ARG002 - nothing is appended
        raise self._no_next_token()

    def _forward(self, *_: Any) -> Forward:
        raise self._no_next_token()

    def _no_next_token(self) -> ArgumentError:
        return ArgumentError(
            f"model={self.source!r} fills in masked tokens and has no next token: take a method of the family "
            "diffusion (workbench.decoders('diffusion')), or a causal model"
        )


class ListModel(MaskedModel):
    """A trained network on list tasks.

    Parameters
    ----------
    network
        What `train_diffusion` made.
    source
        What it is, for records.
    """

    def __init__(self, network: Network, source: str = "diffusion") -> None:
        sizes = network.sizes
        self.network, self.source, self.tokenizer = network.eval(), source, Words()
        self.vocabulary, self.hidden_size = sizes.vocabulary, sizes.hidden
        self.context, self.end_tokens = sizes.prompt + sizes.answer, frozenset({END})

    def slots(self, prompt: Sequence[int]) -> int:
        """Always the same, unless the prompt is longer than any that was seen; the end is repeated to fill them."""
        return min(self.network.sizes.answer, self.context - len(prompt))

    @torch.no_grad()
    def _evaluate(self, canvas: np.ndarray, prompt: int) -> np.ndarray:
        padded = np.full(self.context, PAD, np.int64)
        padded[self.context - len(canvas) :] = canvas
        logits: np.ndarray = self.network(torch.from_numpy(padded)[None])[0, -(len(canvas) - prompt) :].numpy()
        return logits

    def save(self, path: str | Path, recipe: str = "") -> Path:
        """Write the weights, float16, with the sizes and how they were made; whole or not at all."""
        path = Path(path)
        tensors = {k: v.half().contiguous() for k, v in self.network.state_dict().items()}
        metadata = {"format": _FORMAT, "sizes": json.dumps(self.network.sizes.to_dict()), "words": " ".join(WORDS)}
        metadata["recipe"] = recipe
        with whole(path) as part:
            save_file(tensors, part, metadata=metadata)
        return path


class Oracle(MaskedModel):
    """The exact conditionals of list tasks: all right answers are equally likely, and nothing is learned.

    A place's distribution is that of the right answers that agree with what is shown; where none does, as after an
    error, of those that agree in most places. Its answers have no end.
    """

    def __init__(self) -> None:
        self.source, self.tokenizer, self.vocabulary = "oracle", Words(), len(WORDS)
        self.context = PROMPT + ANSWER

    def slots(self, prompt: Sequence[int]) -> int:
        """Names in a right answer."""
        return read(prompt).length

    def _evaluate(self, canvas: np.ndarray, prompt: int) -> np.ndarray:
        right, shown = answers(read(canvas[:prompt].tolist())), canvas[prompt:]
        agree = (right == shown).sum(1)
        right = right[agree == agree.max()]
        counts = np.stack([np.bincount(place, minlength=self.vocabulary) for place in right.T])
        with np.errstate(divide="ignore"):
            logits: np.ndarray = np.log(counts / len(right)).astype(np.float32)
        return logits


def load(path: str | Path | None = None) -> ListModel:
    """The shipped model of list tasks, or one that `ListModel.save` wrote.

    Raises
    ------
    ModelError
        If the file cannot be read, or is of another vocabulary.

    Examples
    --------
    >>> model = load()
    >>> model.tokenizer("reverse : Ada Ben Cleo ->")["input_ids"][:2]
    [6, 3]
    """
    where = SHIPPED if path is None else Path(path)
    try:
        with safe_open(where, "pt") as file:
            about: dict[str, Any] = file.metadata() or {}
            tensors = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118 - it is no dictionary
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{where} cannot be read ({error}): name a file that ListModel.save wrote") from error
    if about.get("format") != _FORMAT or about.get("words") != " ".join(WORDS):
        raise ModelError(f"{where} is no diffusion model of this vocabulary: train it anew with train_diffusion")
    network = Network(Sizes(**json.loads(about["sizes"])))
    network.load_state_dict(tensors)
    return ListModel(network, "diffusion" if path is None else str(path))


def ended(answer: Sequence[int]) -> list[int]:
    """An answer up to its end."""
    found = list(answer)
    return found[: found.index(END)] if END in found else found
