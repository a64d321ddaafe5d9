"""Drafting heads that are tied to the output head: the file that holds them, whom they fit, and how they score.

    head k:   h_k = h + U_k SiLU(W_k x_k + b_k),   logits = E h_k        only U_k, W_k and b_k are trained

E are the output head's rows of a vocabulary of frequent tokens, others are never drafted: on a CPU the product with all
of them would cost more than the draft gains. E is not stored, it is read from the model at hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench._files import whole
from workbench.decode.target import CompiledTarget, Target, TransformersTarget
from workbench.errors import ArgumentError, DataError, ModelError, unknown

NAMES = ("W", "b", "U")
KINDS = ("medusa", "hydra")
SHIPPED = Path(__file__).resolve().parents[1] / "weights"
FORMAT = "sparse-workbench drafting heads 1"


@dataclass(frozen=True, eq=False)
class Heads:
    """Trained heads.

    Attributes
    ----------
    kind : str
        ``"medusa"``: x_k = h; ``"hydra"``: x_k = h and the embeddings of the newest k tokens.
    blocks : tuple of tuples of float32 arrays
        W_k ``[H, inputs]``, b_k ``[H]`` and U_k ``[H, H]`` of every head.
    vocabulary : ndarray of int32
        Tokens that may be drafted, the most frequent first.
    accuracy : ndarray of float32 [heads, ranks]
        Share of places, of text held back, where the head's guess of this rank was right (and all guesses before it,
        for Hydra).
    about : mapping of str to str
        Recipe, seed, fingerprint of the model, hash of the text.
    """

    kind: str
    blocks: tuple[tuple[np.ndarray, ...], ...]
    vocabulary: np.ndarray
    accuracy: np.ndarray
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind of heads", self.kind, KINDS)
        if not self.blocks or len(self.accuracy) != len(self.blocks):
            raise DataError(
                f"{len(self.blocks)} heads, accuracies of {len(self.accuracy)}: at least one head, all known"
            )
        H = self.size
        for n, block in enumerate(self.blocks, 1):
            wanted = [(H, H * (1 + n if self.kind == "hydra" else 1)), (H,), (H, H)]
            if [x.shape for x in block] != wanted:
                raise DataError(f"head {n} has arrays {[x.shape for x in block]}: want {wanted}")

    def __len__(self) -> int:
        return len(self.blocks)

    def __repr__(self) -> str:
        sizes = f"{len(self)} of size {self.size}, {len(self.vocabulary)} tokens"
        return f"Heads({self.kind}, {sizes}, for {self.trained_for!r})"

    @property
    def size(self) -> int:
        """H."""
        return len(self.blocks[0][1])

    @property
    def trained_for(self) -> str:
        """What their model was loaded from."""
        return self.about.get("source", "")

    @classmethod
    def blank(cls, lm: Any, kind: str, heads: int = 3, vocabulary: int = 8192) -> Heads:
        """Heads as they are before training (U = 0): every one guesses what the output head says."""
        module = lm.module
        size, count = int(module.config.hidden_size), int(module.get_output_embeddings().weight.shape[0])
        wide = [size * (1 + k) if kind == "hydra" else size for k in range(1, heads + 1)]
        random = np.random.default_rng(0)
        blocks = tuple(
            (
                random.standard_normal((size, w), np.float32),
                np.zeros(size, np.float32),
                np.zeros((size, size), np.float32),
            )
            for w in wide
        )
        return cls(
            kind, blocks, np.arange(min(vocabulary, count), dtype=np.int32), np.full((heads, 8), 0.1), described(lm)
        )

    def states(self, head: int, inputs: np.ndarray) -> np.ndarray:
        """``h + U SiLU(W x + b)`` for x ``[n, inputs]``, whose first H entries are h; float32 ``[n, H]``."""
        W, b, U = self.blocks[head]
        a = inputs @ W.T + b
        return inputs[:, : self.size] + (a / (1 + np.exp(-a))) @ U.T

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file (float16), whole or not at all.

        Raises
        ------
        ResourceError
            If it cannot be written.
        """
        from safetensors.numpy import save_file

        path = Path(path)
        arrays = {"vocabulary": self.vocabulary.astype(np.int32), "accuracy": self.accuracy.astype(np.float32)}
        for n, block in enumerate(self.blocks):
            arrays |= {f"{n}.{name}": x.astype(np.float16) for name, x in zip(NAMES, block, strict=True)}
        with whole(path) as part:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(arrays, part, {"format": FORMAT, "kind": self.kind, "about": json.dumps(dict(self.about))})
        return path

    @classmethod
    def load(cls, path: str | Path) -> Heads:
        """Read a file that `save` wrote.

        Raises
        ------
        DataError
            If there is none, or it holds something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "np") as file:
                known = file.metadata() or {}
                if known.get("format") != FORMAT:
                    raise DataError(f"{path} holds no drafting heads: workbench.decode.train_heads makes some")
                get = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            count = sum(name.endswith(".W") for name in get)
            blocks = tuple(tuple(get[f"{n}.{x}"].astype(np.float32) for x in NAMES) for n in range(count))
            return cls(known["kind"], blocks, get["vocabulary"], get["accuracy"], json.loads(known["about"]))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DataError(f"{path} cannot be read as drafting heads ({error}): train_heads writes them") from error

    def check(self, target: Target, same_base: bool = False) -> None:
        """Refuse a model that these heads were not trained for.

        A compiled model shows its embeddings and norms only: one that was pruned before is not told from the right one.

        Parameters
        ----------
        same_base
            The model descends from the right one (pruned, other number format): only sizes must fit.

        Raises
        ------
        ModelError
        """
        fits = target.hidden_size == self.size and int(self.vocabulary.max()) < target.vocabulary
        if fits and (same_base or self._made_for(target)):
            return
        advice = "; or say same_base=True if it is a pruned or converted form of that model" if fits else ""
        raise ModelError(
            f"these {self.kind} heads were trained for {self.trained_for or 'a model'!r} of the fingerprint "
            f"{self.about.get('fingerprint', '')[:12]}, the model at hand ({target.source!r}) is another: train own "
            f"ones with workbench.decode.train_heads(model, {self.kind!r}){advice}"
        )

    def _made_for(self, target: Target) -> bool:
        if isinstance(target, TransformersTarget):
            return sampled_fingerprint(target.module) == self.about.get("sampled")
        if isinstance(target, CompiledTarget):
            return _compiled_fingerprint(target.compiled.decoder.weights) == self.about.get("shared")
        return False


def described(lm: Any) -> dict[str, str]:
    """What says for which model heads are."""
    return {
        "source": lm.source,
        "fingerprint": lm.fingerprint,
        "sampled": sampled_fingerprint(lm.module),
        "shared": shared_fingerprint(lm.module),
    }


def sampled_fingerprint(module: Any) -> str:
    """SHA-256 over names, shapes and some thousand evenly spread values of every parameter: quick, for every run."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        flat = tensor.detach().reshape(-1)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(flat[:: 1 + flat.numel() // 4096].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def shared_fingerprint(module: Any) -> str:
    """Of embeddings and norms: what a model and its compiled form have in common."""
    norms = [p for n, p in module.named_parameters() if p.ndim == 1 and n.endswith("norm.weight")]
    norms = [p.detach().float().cpu().numpy() for p in norms]
    embedding = module.get_input_embeddings().weight.detach()[::16].float().cpu().numpy()
    return _digest(embedding, [n for n in norms if n.size == embedding.shape[1]])


def _compiled_fingerprint(weights: Any) -> str:
    norms = [n for x in weights.layers for n in (x.attention_norm, x.mlp_norm)]
    return _digest(weights.embedding[::16], [*norms, weights.norm])


def _digest(embedding: np.ndarray, norms: list[np.ndarray]) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(embedding, "<f4").tobytes())
    for norm in sorted(np.ascontiguousarray(n, "<f4").tobytes() for n in norms):  # models name them in various orders
        digest.update(norm)
    return digest.hexdigest()


_shipped: dict[str, Heads] = {}


def as_heads(value: Any, kind: str) -> Heads:
    """Heads from None (those of the default model, which come with the workbench), a file, or heads.

    Raises
    ------
    ArgumentError
        If they are of another kind, or nothing of that.
    """
    if value is None:
        if kind not in _shipped:
            _shipped[kind] = Heads.load(SHIPPED / f"{kind}.safetensors")
        value = _shipped[kind]
    found = Heads.load(value) if isinstance(value, str | Path) else value
    if not isinstance(found, Heads):
        raise ArgumentError(f"heads={value!r}: None, a file, or what workbench.decode.train_heads returned")
    if found.kind != kind:
        raise ArgumentError(f"heads are of the kind {found.kind!r}, this method wants {kind!r}")
    return found
