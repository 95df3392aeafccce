"""Voice activity detectors (WebRTC, Silero): a frame of audio in, the probability of speech out."""

from __future__ import annotations

import functools
import importlib.metadata
import pathlib
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import webrtcvad
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS
from timar_common.pcm import int16_to_float

from timar_audio.background import Background, BackgroundConfig
from timar_audio.levels import level_dbfs

WEBRTC_FRAMES_MS = (10, 20, 30)
SILERO_FRAME = 512
"""Silero takes frames of 32 ms and no others [samples]."""
_SILERO_CONTEXT = 64
_SILERO_FILE = "silero_vad_16k_op15.onnx"


class VoiceDetector(Protocol):
    """What voice activity asks of a detector; one instance per voice, for detectors remember."""

    frame_samples: int
    """Length of the frames it takes [samples at 16 kHz]."""

    def probability(self, frame: npt.NDArray[np.int16]) -> float:
        """Return the probability that a frame is speech, 0 or 1 from a detector that only decides.

        Args:
            frame: (frame_samples,) int16; frames come in order, without gaps.
        """


class WebRtcDetector:
    """WebRTC's detector: Gaussian mixtures over six bands, less than 1 ms of work per second of sound.

    By itself it takes babble and the ring of a knock for speech; so what does not stand out of the background
    is none. docs/audio.md has what either does.

    Args:
        aggressiveness: 0 (hears the most, and the most noise) to 3 (only what is clearly speech).
        frame_ms: 10, 20 or 30 [ms].
        background: By how much speech stands out; None leaves every decision to WebRTC's.
    """

    def __init__(
        self, aggressiveness: int = 2, frame_ms: int = 20, background: BackgroundConfig | None = None
    ) -> None:
        if frame_ms not in WEBRTC_FRAMES_MS:
            raise ValueError(
                f"frame_ms is {frame_ms}, expected 10, 20 or 30: webrtcvad takes no other frames"
            )
        if aggressiveness not in range(4):
            raise ValueError(f"aggressiveness is {aggressiveness}, expected 0 (lenient) to 3 (strict)")
        self.frame_samples = frame_ms * SAMPLES_PER_MS
        self._vad = webrtcvad.Vad(aggressiveness)
        self._background = None if background is None else Background(background, frame_ms / 1000)

    def probability(self, frame: npt.NDArray[np.int16]) -> float:
        """Return 1 for speech and 0 for anything else."""
        if frame.shape != (self.frame_samples,) or frame.dtype != np.int16:
            raise ValueError(
                f"a frame is {self.frame_samples} int16 samples, got {frame.dtype} of shape {frame.shape}"
            )
        is_speech = bool(self._vad.is_speech(frame.tobytes(), SAMPLE_RATE_HZ))
        if self._background is not None:
            is_speech = self._background.stands_out(level_dbfs(frame), is_speech)
        return float(is_speech)


class SileroDetector:
    """Silero's network, by onnxruntime alone: neither torch nor the package's own code is imported.

    Raises:
        OSError: The package silero-vad or onnxruntime is not installed; the message says how to get it.
    """

    frame_samples = SILERO_FRAME

    def __init__(self) -> None:
        self._session = _silero_session()
        self._rate = np.array(SAMPLE_RATE_HZ, np.int64)
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self._state = np.zeros((2, 1, 128), np.float32)
        self._input = np.zeros((1, _SILERO_CONTEXT + SILERO_FRAME), np.float32)

    def probability(self, frame: npt.NDArray[np.int16]) -> float:
        """Return the probability that a frame is speech, 0..1."""
        if frame.shape != (SILERO_FRAME,) or frame.dtype != np.int16:
            raise ValueError(
                f"a frame is {SILERO_FRAME} int16 samples, got {frame.dtype} of shape {frame.shape}"
            )
        # The network wants the end of the frame before in front of each frame.
        self._input[0, :_SILERO_CONTEXT] = self._input[0, -_SILERO_CONTEXT:]
        self._input[0, _SILERO_CONTEXT:] = int16_to_float(frame)
        inputs = {"input": self._input, "state": self._state, "sr": self._rate}
        probability, self._state = self._session.run(None, inputs)
        return float(probability[0, 0])


@functools.cache
def _silero_session() -> Any:
    """Open the network once; it keeps no state of its own, so both voices share it."""
    try:
        import onnxruntime

        path = _silero_path()
    except (ImportError, importlib.metadata.PackageNotFoundError, FileNotFoundError) as error:
        raise OSError(
            f"detector is 'silero' and cannot be used: {error}; pip install onnxruntime, and "
            "pip install --no-deps silero-vad (its torch is not needed)"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _silero_path() -> pathlib.Path:
    """Find the network's file without importing its package, which would import torch."""
    distribution = importlib.metadata.distribution("silero-vad")
    for file in distribution.files or []:
        if file.name == _SILERO_FILE:
            return pathlib.Path(str(distribution.locate_file(file)))
    raise FileNotFoundError(f"silero-vad {distribution.version} holds no {_SILERO_FILE}; version 6 does")
