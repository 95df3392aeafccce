"""Predictors beside the live session: whole-sequence networks window by window, the regressing TIMAR."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from timar_model.architecture.inputs import speech_features
from timar_model.architecture.model import TrainingBatch
from timar_model.architecture.schedule import respaced
from timar_model.architecture.sequences import lead_frames
from timar_model.engines.engine import Engine
from timar_model.engines.torch_engine import TorchEngine
from timar_model.loading import LoadedModel
from timar_model.model_folder import ModelFolder
from torch import Tensor

from ..corpora.dyads import MOTION_SIZE
from ..networks.dualtalk import DualTalkNetwork
from ..networks.variants import FullAttentionTimar, RegressingTimar
from ..preparation.prepare import voice_features
from .predictor import Dyad, Predictor

FloatArray = npt.NDArray[np.float32]


class RegressingModel(LoadedModel):
    """TIMAR with a regression head through the ordinary session; only the torch engine knows this head."""

    def _engine(self, name: str, threads: int) -> Engine:
        network = RegressingTimar(self.config)
        network.load_state_dict(
            {key: torch.from_numpy(array) for key, array in self._folder.weights().items()}
        )
        return TorchEngine(network, threads)


class WholeSequence:
    """A network over overlapping windows of the length it was trained on, blended; it sees ahead.

    Args:
        folder: Of the model.
        window_frames: It was trained on [frames].
    """

    turn_frames = 1

    # Its motion could be shown only after the whole window was heard.
    def __init__(self, folder: ModelFolder, window_frames: int) -> None:
        self.name = folder.path.name
        self.delay_frames = window_frames
        self.config = folder.config
        self._window = window_frames
        self._statistics = folder.statistics
        self._features = speech_features(folder.config)

    def predict(self, dyad: Dyad, seed: int) -> FloatArray:
        """Return (T, 56)."""
        lead = lead_frames([self.config.turn_frames], self.config)
        streams = self._streams(dyad, lead)
        total = np.zeros((dyad.frames, MOTION_SIZE))
        weight = np.zeros((dyad.frames, 1))
        step = max(1, self._window // 2)
        blend = np.hanning(self._window + 2)[1:-1, None]
        for number, start in enumerate(range(0, max(1, dyad.frames - self._window + step), step)):
            first = max(0, min(start, dyad.frames - self._window))
            length = min(self._window, dyad.frames - first)
            rows = slice(first, first + lead + length)
            made = self._draw({name: array[None, rows] for name, array in streams.items()}, seed + number)
            total[first : first + length] += blend[:length] * made[:length]
            weight[first : first + length] += blend[:length]
        return self._statistics.restore((total / weight).astype(np.float32)).astype(np.float32)

    def _draw(self, window: dict[str, Tensor], seed: int) -> FloatArray:
        """Return (frames, 56) normalised motion of one window; its streams begin with the lead."""
        raise NotImplementedError

    def _streams(self, dyad: Dyad, lead: int) -> dict[str, Tensor]:
        seen = np.concatenate([np.zeros((lead, 3), np.float32), dyad.user_motion.valid.astype(np.float32)])
        motion = self._statistics.normalise(dyad.user_motion.vector)
        motion = np.concatenate([np.zeros((lead, MOTION_SIZE), np.float32), motion])
        motion *= np.repeat(seen, (50, 3, 3), axis=1)
        voices = {
            side: voice_features(self._features, self.config, voice, side, lead)
            for side, voice in (("user", dyad.user_voice), ("agent", dyad.agent_voice))
        }
        streams = {
            "user_speech": voices["user"],
            "agent_speech": voices["agent"],
            "user_motion": motion,
            "user_motion_seen": seen,
        }
        return {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in streams.items()}


class DualTalkPredictor(WholeSequence):
    """The DualTalk-like network."""

    def __init__(self, folder: ModelFolder, window_frames: int) -> None:
        super().__init__(folder, window_frames)
        self._network = DualTalkNetwork(folder.config).eval()
        self._network.load_state_dict(
            {name: torch.from_numpy(array) for name, array in folder.weights().items()}
        )

    @torch.inference_mode()
    def _draw(self, window: dict[str, Tensor], seed: int) -> FloatArray:
        lead = lead_frames([self.config.turn_frames], self.config)
        own = {name: value[:, lead:] for name, value in window.items()}
        made: Tensor = self._network(
            own["user_speech"], own["user_motion"], own["user_motion_seen"], own["agent_speech"]
        )
        return made[0].numpy()


class FullAttentionPredictor(WholeSequence):
    """TIMAR whose turns see later ones: a window at once, by the diffusion head."""

    def __init__(self, folder: ModelFolder, window_frames: int, sampling: dict[str, Any]) -> None:
        super().__init__(folder, window_frames)
        self._temperature = float(sampling.get("temperature", folder.config.sampling.temperature))
        self._steps = int(sampling.get("steps", folder.config.sampling.steps))
        self._network = FullAttentionTimar(folder.config).eval()
        self._network.load_state_dict(
            {name: torch.from_numpy(array) for name, array in folder.weights().items()}
        )

    def _draw(self, window: dict[str, Tensor], seed: int) -> FloatArray:
        turn = self.config.turn_frames
        lead = lead_frames([turn], self.config)
        frames = (window["agent_speech"].shape[1] - lead) // turn * turn
        batch = TrainingBatch(
            turn_frames=[turn] * (frames // turn),
            lead=lead,
            agent_motion=torch.zeros(1, lead + frames, MOTION_SIZE),
            **{name: value[:, : lead + frames] for name, value in window.items()},
        )
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(self._steps + 1, frames, MOTION_SIZE, generator=generator)
        noise[1:] *= self._temperature
        schedule = respaced(self.config.diffusion_steps, self._steps)
        drawn = self._network.draw_window(batch, noise, schedule)[0].numpy()
        # A remainder of less than a turn holds still.
        rest = window["agent_speech"].shape[1] - lead - frames
        return np.concatenate([drawn, np.repeat(drawn[-1:], rest, axis=0)])


def open_whole_sequence(
    folder: ModelFolder, architecture: str, settings: dict[str, Any], sampling: dict[str, Any]
) -> Predictor:
    """Return the predictor of a whole-sequence model folder."""
    window = int(settings["window_frames"])
    if architecture == "dualtalk":
        return DualTalkPredictor(folder, window)
    return FullAttentionPredictor(folder, window, sampling)
