"""The torch engine: float32 on the CPU, its cache in numpy memory that torch reads in place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from timar_model.attention import History
from timar_model.cache import TokenRing
from timar_model.config import ModelConfig
from timar_model.engine import Array, Encoded, empty_ring
from timar_model.inputs import TurnInputs
from timar_model.model import TimarModel
from timar_model.schedule import respaced
from timar_model.turns import Layout


class TorchEngine:
    """Run a network in this process."""

    name = "torch"
    label = "torch-float32"

    def __init__(self, model: TimarModel, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"the torch engine was given {threads} threads, expected at least 1")
        torch.set_num_threads(threads)
        self.config: ModelConfig = model.config
        self._model = model.eval()

    @classmethod
    def from_weights(
        cls, config: ModelConfig, weights: dict[str, np.ndarray], threads: int = 1
    ) -> TorchEngine:
        """Build the network of a configuration around weights by name.

        Raises:
            ValueError: The weights belong to another configuration.
        """
        return cls(load_network(config, weights), threads)

    def init_state(self, batch: int, capacity: int) -> TokenRing:
        """Return an empty ring."""
        return empty_ring(self.config, batch, capacity)

    @torch.inference_mode()
    def encode(
        self,
        inputs: TurnInputs[Array],
        layout: Layout,
        ring: TokenRing | None,
        from_token: int = 0,
        visible: npt.NDArray[np.bool_] | None = None,
        first_index: int = 0,
    ) -> Encoded:
        """Run the backbone; see `Engine.encode`."""
        z, keys, values = self._model.encode(
            _tensors(inputs),
            self._model.places(layout, first_index=first_index),
            None if visible is None else torch.from_numpy(visible),
            None if ring is None else _history(ring, from_token),
        )
        return Encoded(z, keys.numpy(), values.numpy())

    @torch.inference_mode()
    def draw(self, conditions: Tensor, noise: Array, steps: int, guidance: float) -> Array:
        """Draw motion; see `Engine.draw`."""
        schedule = respaced(self.config.diffusion_steps, steps)
        motion = self._model.head.sample(
            conditions, torch.from_numpy(noise), schedule, torch.tensor(guidance)
        )
        return motion.numpy()


def load_network(config: ModelConfig, weights: dict[str, np.ndarray]) -> TimarModel:
    """Build the network of a configuration around weights by name.

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
    model = TimarModel(config)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    return model


def _tensors(inputs: TurnInputs[Array]) -> TurnInputs[Tensor]:
    return TurnInputs(**{name: torch.from_numpy(array) for name, array in vars(inputs).items()})


def _history(ring: TokenRing, from_token: int) -> list[History]:
    bias = torch.from_numpy(ring.bias(from_token))
    keys, values = torch.from_numpy(ring.keys), torch.from_numpy(ring.values)
    return [History(keys[block], values[block], bias) for block in range(keys.shape[0])]
