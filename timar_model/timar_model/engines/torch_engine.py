"""The torch engine: float32 or bfloat16 on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timar_model.architecture.attention import RingLayerCache
from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import TokenLayout, TurnInputs
from timar_model.architecture.model import TimarModel, TokenPositions, group_matrix
from timar_model.architecture.schedule import drawing_schedule
from timar_model.architecture.turn_head import TurnHead, constants
from timar_model.engines.engine import Array, Past, is_whole_batch, token_positions
from timar_model.session.cache import RingMemory, TokenRing


class TorchMemory(RingMemory):
    """Rings in torch tensors."""

    def __init__(self, dtype: torch.dtype, *shape: int) -> None:
        self._dtype = dtype
        super().__init__(*shape)

    def _new_keys(self, capacity: int) -> Any:
        return torch.zeros(self.rows, self.heads, capacity, self.head_dim, dtype=self._dtype)

    def _new_values(self, capacity: int) -> Any:
        return self._new_keys(capacity)


class TorchEngine:
    """Run a network in this process.

    Args:
        model: The network; it becomes the engine's own and is narrowed to `dtype`.
        threads: Of torch, which has one setting for the whole process.
        dtype: float32, or bfloat16 for half the memory (the diffusion head stays float32).

    Raises:
        ValueError: The number of threads is not positive.
    """

    couples_rows = False

    def __init__(self, model: TimarModel, threads: int = 1, dtype: torch.dtype = torch.float32) -> None:
        if threads < 1:
            raise ValueError(f"the torch engine was given {threads} threads, expected at least 1")
        torch.set_num_threads(threads)
        self.config: ModelConfig = model.config
        self.name = "torch" if dtype == torch.float32 else "torch-bf16"
        self.label = "torch-float32" if dtype == torch.float32 else "torch-bfloat16"
        self._dtype = dtype
        self._model = model.eval()
        if dtype != torch.float32:
            for name, child in model.named_children():
                if name != "head":
                    child.to(dtype)
            for parameter in model.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
            model.group_of_value = model.group_of_value.to(dtype)

    @classmethod
    def from_weights(
        cls,
        config: ModelConfig,
        weights: dict[str, np.ndarray],
        threads: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> TorchEngine:
        """Build the network of a configuration around weights by name.

        Raises:
            ValueError: The weights belong to another configuration.
        """
        return cls(load_network(config, weights), threads, dtype)

    def init_state(self, batch: int, capacity: int) -> RingMemory:
        """Return memory without history; see `Engine.init_state`."""
        config = self.config
        return TorchMemory(self._dtype, config.blocks, batch, config.heads, config.head_dim, capacity)

    @torch.inference_mode()
    def encode(
        self,
        inputs: TurnInputs[Array],
        layouts: Sequence[TokenLayout],
        rings: Sequence[TokenRing],
        from_tokens: Sequence[int],
        first_indices: Sequence[int],
    ) -> Tensor:
        """Run the backbone; see `Engine.encode`."""
        memory = rings[0].memory
        slots = np.stack([ring.reserve(len(layouts[0])) for ring in rings])
        seen = np.stack(
            [ring.visible(token, new) for ring, token, new in zip(rings, from_tokens, slots, strict=True)]
        )
        bias = torch.zeros(seen.shape).masked_fill_(torch.from_numpy(~seen), -torch.inf)[:, None, None]
        rows = slice(None) if is_whole_batch(rings) else slice(rings[0].row, rings[0].row + 1)
        history = [
            RingLayerCache(keys[rows], values[rows], torch.from_numpy(slots), bias)
            for keys, values in zip(memory.keys, memory.values, strict=True)
        ]
        streams = {name: self._tensor(array) for name, array in vars(inputs).items()}
        where = {
            name: self._tensor(array)
            for name, array in token_positions(layouts, first_indices, self.config).items()
        }
        z: Tensor = self._model.encode(TurnInputs(**streams), TokenPositions(**where), None, history)
        return z.float()

    @torch.inference_mode()
    def draw(
        self, conditions: Tensor | Array, noise: Array, steps: int, guidance: float, past: Past
    ) -> Array:
        """Draw motion; see `Engine.draw`."""
        schedule = drawing_schedule(self.config, steps)
        given = (torch.as_tensor(conditions), torch.from_numpy(noise), schedule, torch.tensor(guidance))
        head = self._model.head
        if isinstance(head, TurnHead):
            return head.sample(*given, *(torch.from_numpy(array) for array in past)).numpy()
        return head.sample(*given).numpy()

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor


def load_network(config: ModelConfig, weights: dict[str, np.ndarray] | dict[str, Tensor]) -> TimarModel:
    """Build the network of a configuration around weights by name, which it takes over without a copy.

    Raises:
        ValueError: The weights belong to another configuration.
    """
    with torch.device("meta"):
        model = TimarModel(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(array.shape) for name, array in weights.items()}
    if wanted != found:
        name = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))[0]
        raise ValueError(
            f"the weights have {name} of shape {found.get(name)}, the config wants {wanted.get(name)}; "
            "config.json and model.safetensors belong to different models"
        )
    tensors = {name: torch.as_tensor(array) for name, array in weights.items()}
    model.load_state_dict(tensors, assign=True)
    model.group_of_value = group_matrix()
    if isinstance(model.head, TurnHead):
        for name, values in constants(config).items():
            setattr(model.head, name, values)
    return model
