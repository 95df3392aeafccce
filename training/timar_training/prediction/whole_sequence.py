"""Predictors beside the live session: whole-sequence networks window by window, the regressing TIMAR."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from timar_common.motion_file import PART_SIZES
from timar_common.user_motion import MOTION_CHANNELS
from timar_model.architecture.inputs import speech_features
from timar_model.architecture.model import TrainingBatch
from timar_model.architecture.schedule import respaced
from timar_model.architecture.sequences import lead_frames
from timar_model.engines.engine import Engine
from timar_model.engines.torch_engine import TorchEngine
from timar_model.loading import LoadedModel
from timar_model.model_folder import ModelFolder
from torch import Tensor, nn

from ..corpora.dyads import SPEAKERS, Dyad, FloatArray
from ..networks.dualtalk import DualTalkNetwork
from ..networks.variants import FullAttentionTimar, RegressingTimar
from ..preparation.prepare import voice_features


def load_weights(network: nn.Module, folder: ModelFolder) -> None:
    """Put the weights of a model folder into a network of the same shapes."""
    network.load_state_dict({name: torch.from_numpy(array) for name, array in folder.weights().items()})


class RegressingModel(LoadedModel):
    """TIMAR with a regression head through the ordinary session; only the torch engine knows this head."""

    def _engine(self, name: str, threads: int) -> Engine:
        network = RegressingTimar(self.config)
        load_weights(network, self)
        return TorchEngine(network, threads)


class WholeSequencePredictor:
    """A network over overlapping windows of the length it was trained on, blended; it sees ahead.

    Args:
        folder: Of the model.
        window_frames: It was trained on [frames].
        sampling: Options that differ from the model's own.
    """

    turn_frames = 1

    def __init__(self, folder: ModelFolder, window_frames: int, sampling: dict[str, Any]) -> None:
        self.name = folder.path.name
        # Its motion could be shown only after the whole window's audio has arrived.
        self.delay_frames = window_frames
        self.config = folder.config
        self.lead = lead_frames([folder.config.turn_frames], folder.config)
        self._window = window_frames
        self._statistics = folder.statistics
        self._features = speech_features(folder.config)

    def predict(self, dyad: Dyad, seed: int) -> FloatArray:
        """Return (T, 56)."""
        streams = self._streams(dyad)
        total = np.zeros((dyad.frames, MOTION_CHANNELS))
        weight = np.zeros((dyad.frames, 1))
        step = max(1, self._window // 2)
        blend = np.hanning(self._window + 2)[1:-1, None]
        for number, start in enumerate(range(0, max(1, dyad.frames - self._window + step), step)):
            first = max(0, min(start, dyad.frames - self._window))
            length = min(self._window, dyad.frames - first)
            rows = slice(first, first + self.lead + length)
            made = self._draw({name: array[None, rows] for name, array in streams.items()}, seed + number)
            total[first : first + length] += blend[:length] * made[:length]
            weight[first : first + length] += blend[:length]
        return self._statistics.restore((total / weight).astype(np.float32)).astype(np.float32)

    def _draw(self, window: dict[str, Tensor], seed: int) -> FloatArray:
        """Return (frames, 56) normalised motion of one window; its streams begin with the lead."""
        raise NotImplementedError

    def _streams(self, dyad: Dyad) -> dict[str, Tensor]:
        seen = np.pad(dyad.user_motion.valid.astype(np.float32), ((self.lead, 0), (0, 0)))
        motion = np.pad(self._statistics.normalise(dyad.user_motion.vector), ((self.lead, 0), (0, 0)))
        streams = {
            f"{side}_speech": voice_features(self._features, self.config, voice, side, self.lead)
            for side, voice in zip(SPEAKERS, (dyad.user_voice, dyad.agent_voice), strict=True)
        }
        streams |= {"user_motion": motion * np.repeat(seen, PART_SIZES, axis=1), "user_motion_seen": seen}
        return {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in streams.items()}


class DualTalkPredictor(WholeSequencePredictor):
    """The DualTalk-like network."""

    def __init__(self, folder: ModelFolder, window_frames: int, sampling: dict[str, Any]) -> None:
        super().__init__(folder, window_frames, sampling)
        self._network = DualTalkNetwork(folder.config).eval()
        load_weights(self._network, folder)

    @torch.inference_mode()
    def _draw(self, window: dict[str, Tensor], seed: int) -> FloatArray:
        names = ("user_speech", "user_motion", "user_motion_seen", "agent_speech")
        made: Tensor = self._network(*(window[name][:, self.lead :] for name in names))
        return made[0].numpy()


class FullAttentionPredictor(WholeSequencePredictor):
    """TIMAR whose turns see later ones: a window at once, by the diffusion head."""

    def __init__(self, folder: ModelFolder, window_frames: int, sampling: dict[str, Any]) -> None:
        super().__init__(folder, window_frames, sampling)
        self._temperature = float(sampling.get("temperature", folder.config.sampling.temperature))
        self._steps = int(sampling.get("steps", folder.config.sampling.steps))
        self._network = FullAttentionTimar(folder.config).eval()
        load_weights(self._network, folder)

    def _draw(self, window: dict[str, Tensor], seed: int) -> FloatArray:
        turn, length = self.config.turn_frames, window["agent_speech"].shape[1] - self.lead
        frames = length // turn * turn
        batch = TrainingBatch(
            turn_frames=[turn] * (frames // turn),
            lead=self.lead,
            agent_motion=torch.zeros(1, self.lead + frames, MOTION_CHANNELS),
            **{name: value[:, : self.lead + frames] for name, value in window.items()},
        )
        generator = torch.Generator().manual_seed(seed)
        # (steps + 1, frames, 56): the start, then each step's own.
        noise = torch.randn(self._steps + 1, frames, MOTION_CHANNELS, generator=generator)
        noise[1:] *= self._temperature
        schedule = respaced(self.config.diffusion_steps, self._steps)
        drawn = self._network.draw_window(batch, noise, schedule)[0].numpy()
        # A remainder of less than a turn holds still.
        return np.concatenate([drawn, np.repeat(drawn[-1:], length - frames, axis=0)])


WHOLE_SEQUENCE: dict[str, type[WholeSequencePredictor]] = {
    "dualtalk": DualTalkPredictor,
    "timar-full-attention": FullAttentionPredictor,
}
"""By architecture, those that need a whole window at once."""
