"""Pre-norm transformer blocks with turn-level causal attention, over a sequence or on top of a cache."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6


class LayerCache(Protocol):
    """One layer's cache: it takes the new tokens in and lets the queries see what may be seen."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store keys and values (B, L, H, W / H) of new tokens; return what queries of that shape find."""


@dataclasses.dataclass(frozen=True)
class RingLayerCache:
    """A layer's preallocated ring, written in place: history is neither copied nor joined."""

    keys: Tensor
    """(B, H, C, W / H)."""
    values: Tensor
    """(B, H, C, W / H)."""
    slots: Tensor
    """(B, L) where the new tokens go."""
    bias: Tensor
    """(B, 1, 1, C) 0 where a slot may be seen and -inf where not."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write the new tokens into their slots, then attend to the ring."""
        for row in range(self.keys.shape[0]):
            self.keys[row].index_copy_(1, self.slots[row], k[row].transpose(0, 1))  # (H, L, W / H)
            self.values[row].index_copy_(1, self.slots[row], v[row].transpose(0, 1))
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2), self.keys, self.values, attn_mask=self.bias.to(q.dtype)
        )  # (B, H, L, W / H)
        return mixed.transpose(1, 2)  # (B, L, H, W / H)


@dataclasses.dataclass(frozen=True)
class SlidingWindowAttention:
    """A whole sequence cut into chunks that each attend to themselves and to the chunks just before.

    With a window much shorter than the sequence most of a full (L, L) attention is masked; this computes only
    what may be seen. It keeps nothing, so all layers share it.
    """

    bias: Tensor
    """(chunks, size, reach * size) 0 where a query may look and far below all scores where not."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within the window; L is chunks * size."""
        batch, length, heads, width = q.shape
        chunks, size, keys = self.bias.shape

        def cut(x: Tensor) -> Tensor:
            return x.view(batch, chunks, size, heads, width).transpose(2, 3)  # (B, chunks, H, size, W / H)

        def with_chunks_before(x: Tensor) -> Tensor:
            # A sequence may have fewer chunks than are seen.
            steps = [min(before, chunks) for before in range(keys // size - 1, -1, -1)]
            parts = [F.pad(x[:, : chunks - step], (0, 0, 0, 0, 0, 0, step, 0)) for step in steps]
            return torch.cat(parts, dim=3)  # (B, chunks, H, reach * size, W / H)

        q = cut(q) * width**-0.5
        scores = q @ with_chunks_before(cut(k)).transpose(-1, -2)  # (B, chunks, H, size, reach * size)
        scores = scores + self.bias[:, None].to(scores.dtype)
        # Narrow scores stay narrow: autocast would widen them, which is most of the time of a training step.
        with torch.autocast(scores.device.type, enabled=False):
            weights = scores.softmax(dim=-1)
        mixed = weights.to(v.dtype) @ with_chunks_before(cut(v))  # (B, chunks, H, size, W / H)
        return mixed.transpose(2, 3).reshape(batch, length, heads, width)


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Cosine and sine of each token's rotary angles, (L, W / H / 2) or (B, L, W / H / 2) each."""

    cos: Tensor
    sin: Tensor


def apply_rotary(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate (B, L, H, W / H) by the tokens' positions in time.

    Source: Su et al., RoFormer, 2021.
    """
    cos, sin = (part[..., None, :].to(x.dtype) for part in (rotary.cos, rotary.sin))  # (.., L, 1, W / H / 2)
    first, second = x.chunk(2, dim=-1)  # (B, L, H, W / H / 2) each
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """Multi-head attention whose mask is given from outside."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, rotary: Rotary | None, attention_mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """Attend from (B, L, W) to itself as far as the mask allows, or to a cache that takes it in."""
        batch, length, width = x.shape
        # Each (B, L, H, W / H).
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).unbind(2)
        if rotary is not None:
            q, k = apply_rotary(q, rotary), apply_rotary(k, rotary)
        if cache is not None:
            mixed = cache.attend(q, k, v)
        else:
            q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H, L, W / H)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask).transpose(1, 2)
        return self.out(mixed.reshape(batch, length, width))


class TransformerBlock(nn.Module):
    """One pre-norm block: attention, then a feed-forward of four times the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(
        self, x: Tensor, rotary: Rotary | None, attention_mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """Return the block's output (B, L, W)."""
        x = x + self.attention(self.norm1(x), rotary, attention_mask, cache)
        return x + self.contract(F.gelu(self.expand(self.norm2(x))))
