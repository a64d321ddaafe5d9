"""The network of the small masked-diffusion model: a transformer that sees both ways, and no time.

    canvas:  [pad] [pad] reverse : Ada Ben ->  |  [mask] Ada [end] [mask] ...      prompt right-aligned, then the answer
    output:  for every place the distribution of its token, given all that is not masked

In absorbing diffusion the reverse process needs p(x_i | what is not masked) only, without the time (Ou et al., 2024,
arXiv 2406.03736), so the network takes none. Positions are learned; the answer always begins at the same one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from workbench.decode.diffusion.tasks import ANSWER, MASK, PAD, PROMPT, WORDS


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a network; the shipped one has the defaults."""

    hidden: int = 96
    layers: int = 4
    heads: int = 4
    vocabulary: int = len(WORDS)
    prompt: int = PROMPT
    answer: int = ANSWER

    def to_dict(self) -> dict[str, int]:
        """Ready for JSON."""
        return asdict(self)


class Block(nn.Module):
    """Attention and an MLP of four times the width, each after a layer norm, each added to its input."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """``x [B, T, H]``; ``seen [B, 1, 1, T]``, which places may be looked at."""
        b, t, h = x.shape
        q, k, v = self.qkv(self.before(x)).view(b, t, 3, self.heads, h // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, h))
        return x + self.down(F.gelu(self.up(self.between(x))))


class Network(nn.Module):
    """Token ids ``[B, prompt + answer]`` to logits ``[B, prompt + answer, vocabulary]``; the head is the embedding."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.token = nn.Embedding(sizes.vocabulary, sizes.hidden)
        self.position = nn.Embedding(sizes.prompt + sizes.answer, sizes.hidden)
        self.blocks = nn.ModuleList(Block(sizes.hidden, sizes.heads) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.hidden)
        for embedding in (self.token, self.position):
            nn.init.normal_(embedding.weight, std=sizes.hidden**-0.5)
        for name, weight in self.named_parameters():  # the stream's variance should not grow with depth
            if name.endswith(("out.weight", "down.weight")):
                weight.data /= (2 * sizes.layers) ** 0.5

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """See the class; a masked place is never the answer, nor is padding."""
        x = self.token(ids) + self.position.weight
        seen = (ids != PAD)[:, None, None, :]
        for block in self.blocks:
            x = block(x, seen)
        logits: torch.Tensor = self.norm(x) @ self.token.weight.T
        return logits.index_fill(-1, torch.tensor([PAD, MASK], device=ids.device), -torch.inf)
