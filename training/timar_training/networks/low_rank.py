"""Low-rank fine-tuning: each layer's matrix stays as it is, and a product of two thin ones is added to it.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

DOWN, UP = "low_rank_down", "low_rank_up"


class LowRankLinear(nn.Linear):
    """A frozen layer with a learned change of low rank; at first the change is nothing.

    Args:
        layer: The layer, whose parameters it takes over.
        rank: Inner width of the change.
    """

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight = layer.weight
        self.bias = layer.bias
        # As long as one of them is zero, the layer is what it was.
        self.register_parameter(
            DOWN, nn.Parameter(torch.randn(rank, layer.in_features) * layer.in_features**-0.5)
        )
        self.register_parameter(UP, nn.Parameter(torch.zeros(layer.out_features, rank)))

    def forward(self, x: Tensor) -> Tensor:
        """Take (…, in) to (…, out)."""
        change = nn.functional.linear(nn.functional.linear(x, getattr(self, DOWN)), getattr(self, UP))
        return super().forward(x) + change


def add_low_rank(network: nn.Module, rank: int) -> None:
    """Freeze a network, and give each of its layers a change of low rank to learn.

    Args:
        network: Changed in place; layers no wider than the rank stay frozen as they are.
        rank: Inner width of the changes.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Linear and min(layer.weight.shape) > rank:
                setattr(module, name, LowRankLinear(layer, rank))


def merged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with the changes of low rank added to their layers: those of the plain network."""
    found = {name: tensor for name, tensor in weights.items() if not name.endswith((DOWN, UP))}
    for name, down in weights.items():
        if name.endswith(DOWN):
            layer = name.removesuffix(DOWN)
            found[f"{layer}weight"] = found[f"{layer}weight"] + weights[f"{layer}{UP}"] @ down
    return found
