"""The torch engine: float32 or narrower, on the CPU or a CUDA device."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timar_model.architecture.attention import RingLayerCache
from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import Array, SpeechFeatures, TokenPositions, TurnInputs, speech_features
from timar_model.architecture.model import TimarModel, group_matrix
from timar_model.architecture.schedule import drawing_schedule
from timar_model.architecture.turn_head import TurnHead, constants
from timar_model.engines.engine import Past
from timar_model.model_folder import WEIGHTS, ModelFolder, current_name
from timar_model.session.cache import CacheMemory, TokenRing


class TorchMemory(CacheMemory):
    """The cache in torch tensors."""

    def __init__(self, dtype: torch.dtype, device: str, *shape: int) -> None:
        self._dtype, self._device = dtype, device
        super().__init__(*shape)

    def _copied(self, array: Any) -> Any:
        return array.clone()

    def _allocate(self, capacity: int) -> Any:
        shape = (self.rows, self.heads, capacity, self.head_dim)
        return torch.zeros(shape, dtype=self._dtype, device=self._device)


class TorchEngine:
    """Run a network in this process.

    Args:
        model: The network; it becomes the engine's own and is narrowed to `dtype`.
        threads: Of torch, which has one setting for the whole process.
        dtype: float32, or a narrower one for half the memory (the diffusion head stays float32).
        device: Where it computes, by torch's name.

    Raises:
        ValueError: The number of threads is not positive.
    """

    is_batch_dependent = False

    def __init__(
        self,
        model: TimarModel,
        threads: int = 1,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        if threads < 1:
            raise ValueError(f"the torch engine was given {threads} threads, expected at least 1")
        torch.set_num_threads(threads)
        self.config: ModelConfig = model.config
        self.name = "torch" if dtype == torch.float32 else "torch-bf16"
        on_device = "" if device == "cpu" else f"{device}-"
        self.label = f"torch-{on_device}{str(dtype).removeprefix('torch.')}"
        self._dtype, self._device = dtype, device
        self._model = model.eval().to(device)
        if dtype != torch.float32:
            for name, child in model.named_children():
                if name != "head":
                    child.to(dtype)
            for parameter in model.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
            model.group_of_value = model.group_of_value.to(dtype)

    @classmethod
    def from_folder(
        cls, folder: ModelFolder, threads: int = 1, dtype: torch.dtype = torch.float32
    ) -> TorchEngine:
        """Build the network of a model folder.

        Raises:
            ValueError: The weights belong to another configuration.
        """
        from safetensors.torch import load_file

        # Torch maps the file into memory: weights of gigabytes are neither copied nor read before their use.
        return cls(load_network(folder.config, load_file(folder.path / WEIGHTS)), threads, dtype)

    def speech_features(self) -> SpeechFeatures:
        """Return the features of the model's configuration; see `Engine.speech_features`."""
        return self._features

    @functools.cached_property
    def _features(self) -> SpeechFeatures:
        return speech_features(self.config)

    def init_state(self, batch: int, capacity: int) -> CacheMemory:
        """Return memory without history; see `Engine.init_state`."""
        config = self.config
        shape = (config.blocks, batch, config.heads, config.head_dim, capacity)
        return TorchMemory(self._dtype, self._device, *shape)

    @torch.inference_mode()
    def encode(
        self,
        inputs: TurnInputs[Array],
        positions: TokenPositions[Any],
        rings: Sequence[TokenRing],
        from_tokens: Sequence[int],
    ) -> Tensor:
        """Run the backbone; see `Engine.encode`."""
        memory = rings[0].memory
        rows, slots, seen = memory.reserve(rings, from_tokens, positions.source.size)
        bias = torch.zeros(seen.shape).masked_fill_(torch.from_numpy(~seen), -torch.inf)  # (B, C)
        where_to, bias = torch.from_numpy(slots).to(self._device), bias[:, None, None].to(self._device)
        cache = [
            RingLayerCache(keys[rows], values[rows], where_to, bias)
            for keys, values in zip(memory.keys, memory.values, strict=True)
        ]
        streams = {name: self._tensor(array) for name, array in vars(inputs).items()}
        where = {name: self._tensor(array) for name, array in vars(positions).items()}
        z: Tensor = self._model.encode(TurnInputs(**streams), TokenPositions(**where), None, cache)
        return z.float().cpu()  # (B, F, W)

    @torch.inference_mode()
    def sample(
        self, conditions: Tensor | Array, noise: Array, steps: int, guidance: float, past: Past
    ) -> Array:
        """Sample motion; see `Engine.sample`."""
        schedule = drawing_schedule(self.config, steps)
        z, draws, *before = (torch.as_tensor(array).to(self._device) for array in (conditions, noise, *past))
        given = (z, draws, schedule, torch.tensor(guidance, device=self._device))
        head = self._model.head
        if isinstance(head, TurnHead):
            return head.sample(*given, *before).cpu().numpy()
        return head.sample(*given).cpu().numpy()

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array).to(self._device)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor


def load_network(config: ModelConfig, weights: dict[str, np.ndarray] | dict[str, Tensor]) -> TimarModel:
    """Build the network of a configuration around weights by name, which it takes over without a copy.

    Args:
        config: Of the weights.
        weights: By the names of this release or of an earlier one.

    Raises:
        ValueError: The weights belong to another configuration.
    """
    with torch.device("meta"):
        model = TimarModel(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors = {current_name(name): torch.as_tensor(array) for name, array in weights.items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        name = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))[0]
        raise ValueError(
            f"the weights have {name} of shape {found.get(name)}, the config wants {wanted.get(name)}; "
            "config.json and model.safetensors belong to different models"
        )
    model.load_state_dict(tensors, assign=True)
    # Buffers that are not in the file were made on the meta device.
    model.group_of_value = group_matrix()
    if isinstance(model.head, TurnHead):
        for name, values in constants(config).items():
            setattr(model.head, name, values)
    return model
