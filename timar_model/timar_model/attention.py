"""Pre-norm transformer blocks with turn-level causal attention, over a sequence or on top of a cache."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class History:
    """Keys and values of earlier turns, as one layer sees them."""

    keys: Tensor
    """(B or 1, H, C, W / H)."""
    values: Tensor
    """(B or 1, H, C, W / H)."""
    bias: Tensor
    """(C,) 0 where a slot may be seen and -inf where not."""
    new_bias: Tensor | None = None
    """(L, L) the same for the new tokens among themselves; None: all see all."""


@dataclasses.dataclass(frozen=True)
class Rotation:
    """Cosine and sine of each token's angles, (L, W / H / 2) each."""

    cos: Tensor
    sin: Tensor

    def turn(self, x: Tensor) -> Tensor:
        """Rotate (B, H, L, W / H) by the tokens' places in time."""
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1)


class Attention(nn.Module):
    """Multi-head attention whose visibility is given from outside."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, rotation: Rotation | None, visible: Tensor | None, history: History | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend; return the output (B, L, W) and the new keys and values (B, H, L, W / H)."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if rotation is not None:
            q, k = rotation.turn(q), rotation.turn(k)
        if history is None:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        else:
            mixed = _attend_with_history(q, k, v, history)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width)), k, v


def _attend_with_history(q: Tensor, k: Tensor, v: Tensor, history: History) -> Tensor:
    """Attend to a cache and to the new tokens without joining their keys: only scores are joined."""
    capacity = history.keys.shape[2]
    q = q * q.shape[-1] ** -0.5
    old = q @ history.keys.transpose(-1, -2) + history.bias
    new = q @ k.transpose(-1, -2)
    if history.new_bias is not None:
        new = new + history.new_bias
    weights = torch.cat([old, new], dim=-1).softmax(dim=-1)
    return weights[..., :capacity] @ history.values + weights[..., capacity:] @ v


class Block(nn.Module):
    """One pre-norm block: attention, then a feed-forward of four times the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(
        self, x: Tensor, rotation: Rotation | None, visible: Tensor | None, history: History | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the block's output (B, L, W) and the new keys and values (B, H, L, W / H)."""
        mixed, k, v = self.attention(self.norm1(x), rotation, visible, history)
        x = x + mixed
        return x + self.contract(F.gelu(self.expand(self.norm2(x)))), k, v
