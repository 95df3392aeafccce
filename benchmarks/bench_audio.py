"""Voice activity, turns and echo against the promises of docs/audio.md; writes benchmarks/results/audio.md.

    make bench-audio
    python benchmarks/bench_audio.py --minutes 4        # shorter echo scenes
    python benchmarks/bench_audio.py --echo --minutes 2 # only these, printed
    python benchmarks/bench_audio.py --development      # only: the other voices that defaults were chosen on

Voices: the shipped synthetic conversation, near and far, recordings with labels (TIMAR_EXTRA_DATA),
recorded prompts (Debian's asterisk-core-sounds-*-g722)
and espeak-ng, in white noise and in the babble of 24 voices at several levels, beside silence and music. A
prompt's label is where its clean sound lies within 35 dB of its own level, pauses under 200 ms included.
The two recordings were at hand when defaults were chosen; docs/audio.md says what was chosen on what. The
development set shares no voice, sentence or noise with the labelled one: flite's voices and espeak-ng's
variants, white and pink noise, babble of them, knocks, and the same kind of music.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.signal
from harness import RESULTS, parser_of, print_page, table, when, write_page
from labelled_speech import far, near, of_people
from timar_audio.activity import SpeakerActivity, Started, Stopped
from timar_audio.echo import EchoSuppressor
from timar_audio.floor import Kind, Speaker, TurnEvent
from timar_audio.turns import Turns
from timar_audio.turns_config import TurnsConfig
from timar_common.pcm import float_to_int16, int16_to_float
from timar_common.wav import read_wav

PROMPTS = Path("/usr/share/asterisk/sounds")
RATE_HZ = 16_000
FRAME = 320
TAIL_MS = 640
VOICES = ("en_US_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU", "es_MX_f_Allison")
OTHER_SENTENCES = (
    "Good morning, how are you today?",
    "I have been waiting for you since half past nine.",
    "Please put the blue cup next to the yellow plate.",
    "What a strange thing to say in the middle of dinner.",
    "She sells sea shells by the sea shore, they say.",
    "We went to the market, bought some bread, and came home late.",
    "If you turn left at the church, you will see the river.",
    "My sister has three cats and an old grey dog.",
    "Yes, of course.",
    "That is not quite what I wanted to tell you, but never mind.",
)
SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "Could you tell me how to get to the station, please?",
    "No, I do not think that this is what she meant.",
    "Yesterday it rained all day, and today the sun is shining.",
)


@dataclasses.dataclass(frozen=True)
class Scene:
    """Sound with labels."""

    name: str
    sound: np.ndarray
    """(n,) int16."""
    label: np.ndarray
    """(n / 320,) bool: somebody speaks in this 20 ms frame."""


@dataclasses.dataclass
class DetectorScore:
    """How one detector does on some scenes."""

    hits: int = 0
    speech: int = 0
    rejected: int = 0
    other: int = 0
    raw_hits: int = 0
    raw_rejected: int = 0
    false_alarms: int = 0
    starts_ms: list[float] = dataclasses.field(default_factory=list)
    ends_ms: list[float] = dataclasses.field(default_factory=list)
    cpu_s: float = 0.0

    def balanced(self) -> float:
        """Balanced accuracy of the stretches found."""
        return (self.hits / max(1, self.speech) + self.rejected / max(1, self.other)) / 2

    def raw_balanced(self) -> float:
        """The same of the detector's own decisions."""
        return (self.raw_hits / max(1, self.speech) + self.raw_rejected / max(1, self.other)) / 2

    def false_alarms_per_minute(self) -> float:
        """Stretches that touch no speech, per minute without speech."""
        return self.false_alarms / max(1e-9, self.other * 0.02 / 60)


def decoded(path: Path) -> np.ndarray:
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "s16le", "-ac", "1", "-ar", str(RATE_HZ), "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.int16) / 32_768


def synthesised(command: list[str]) -> np.ndarray:
    """Return what a synthesiser speaks into a file whose name ends its command, at 16 kHz."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run([*command, file.name], check=True, capture_output=True)
        return int16_to_float(read_wav(file.name)).astype(float)


def spoken(text: str, voice: str) -> np.ndarray:
    return synthesised(["espeak-ng", "-v", voice, text, "-w"])


def flite(text: str, voice: str) -> np.ndarray:
    return synthesised(["flite", "-voice", voice, "-t", text, "-o"])


def frame_power(sound: np.ndarray) -> np.ndarray:
    return (sound[: sound.size // FRAME * FRAME].reshape(-1, FRAME) ** 2).mean(axis=1)


def active_level(sound: np.ndarray) -> float:
    power = frame_power(sound)
    return float(np.sqrt(power[power > 1e-3 * power.max()].mean()))


def label_of(clean: np.ndarray) -> np.ndarray:
    is_speech = frame_power(clean) > active_level(clean) ** 2 * 10 ** (-35 / 10)
    places = np.flatnonzero(is_speech)
    for before, after in itertools.pairwise(places):
        if after - before <= 10:
            is_speech[before:after] = True
    return is_speech


def conversation(utterances: list[np.ndarray], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Utterances at one level with pauses of 0.5 to 2.5 s."""
    parts, length = [], 0
    for utterance in utterances:
        pause = np.zeros(round(rng.uniform(0.5, 2.5) * RATE_HZ))
        parts += [pause, utterance / active_level(utterance) * 0.05]
        length += pause.size + utterance.size
        if length > seconds * RATE_HZ:
            break
    sound = np.concatenate([*parts, np.zeros(RATE_HZ)])
    return sound[: sound.size // FRAME * FRAME]


def music(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Chords of plucked strings, four a second."""
    out = np.zeros(round(seconds * RATE_HZ))
    times = np.arange(RATE_HZ) / RATE_HZ
    for start in range(0, out.size - RATE_HZ, RATE_HZ // 4):
        for note in rng.choice([0, 2, 4, 7, 9, 12, 14, 16], 3, replace=False):
            hz = 220 * 2 ** (note / 12)
            pluck = sum(np.sin(2 * np.pi * hz * k * times) / k for k in (1, 2, 3)) * np.exp(-5 * times)
            out[start : start + RATE_HZ] += pluck
    return out / active_level(out) * 0.03


def prompts_of(folder: str, rng: np.random.Generator, least_s: float = 1.0) -> list[np.ndarray]:
    paths = sorted((PROMPTS / folder).glob("*.g722"))
    rng.shuffle(paths)
    return [sound for sound in map(decoded, paths[:60]) if sound.size > least_s * RATE_HZ]


def recordings() -> Iterator[Scene]:
    for name, sound, stretches in (near(), far(), *of_people()):
        spoken_at = np.zeros(sound.size, bool)
        for start_s, end_s, _ in stretches:
            spoken_at[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)] = True
        yield Scene(f"recording {name}", sound, spoken_at.reshape(-1, FRAME).mean(axis=1) > 0.5)


def scenes() -> Iterator[Scene]:
    rng = np.random.default_rng(2026)
    yield from recordings()
    voices = {folder: prompts_of(folder, rng) for folder in VOICES if (PROMPTS / folder).is_dir()}
    voices["espeak-ng"] = [spoken(text, voice) for voice in ("en", "de", "fr", "es") for text in SENTENCES]
    talk = [conversation(v, 60, rng) for v in voices.values()]
    babble = sum(np.resize(np.roll(talk[i % len(talk)], i * 77_777), 60 * RATE_HZ) for i in range(24))
    for utterances in voices.values():
        clean = conversation(utterances, 35, rng)
        label = label_of(clean)
        white = rng.standard_normal(clean.size)
        for noise_name, noise, snr_db in (
            ("white", white, 30), ("white", white, 15), ("white", white, 5),
            ("babble", np.resize(babble, clean.size), 15),
        ):  # fmt: skip
            noise = noise / np.sqrt((noise**2).mean()) * 0.05 * 10 ** (-snr_db / 20)
            yield Scene(f"{noise_name} {snr_db} dB", float_to_int16(clean + noise), label)
    nobody = np.zeros(60 * 50, bool)
    yield Scene("silence", float_to_int16(rng.standard_normal(60 * RATE_HZ) * 1e-3), nobody)
    yield Scene("music", float_to_int16(music(60, rng)), nobody)


def development_scenes() -> Iterator[Scene]:
    rng = np.random.default_rng(77)
    voices = {
        name: [flite(text, name) for text in OTHER_SENTENCES] for name in ("slt", "rms", "awb", "kal16")
    }
    for name in ("en-gb+f3", "it+m3", "nl+f2", "pl+m5"):
        voices[name] = [spoken(text, name) for text in OTHER_SENTENCES]
    talk = [np.resize(conversation(v, 60, rng), 60 * RATE_HZ) for v in voices.values()]
    babble = sum(np.resize(np.roll(talk[i % len(talk)], i * 55_333), 60 * RATE_HZ) for i in range(24))
    for utterances in voices.values():
        clean = conversation(utterances * 2, 35, rng)
        white = rng.standard_normal(clean.size)
        for noise_name, noise, snr_db in (
            ("white", white, 30), ("white", white, 15), ("white", white, 5), ("pink", pink(white), 15),
            ("babble", np.resize(babble, clean.size), 15),
        ):  # fmt: skip
            noise = noise / np.sqrt((noise**2).mean()) * 0.05 * 10 ** (-snr_db / 20)
            yield Scene(f"{noise_name} {snr_db} dB", float_to_int16(clean + noise), label_of(clean))
    nobody = np.zeros(60 * 50, bool)
    quiet = rng.standard_normal(60 * RATE_HZ) * 1e-3
    yield Scene("silence", float_to_int16(quiet), nobody)
    yield Scene("knocks", float_to_int16(quiet + knocks(60, rng)), nobody)
    yield Scene("music", float_to_int16(music(60, rng)), nobody)
    yield Scene("babble alone", float_to_int16(babble / np.sqrt((babble**2).mean()) * 0.01), nobody)


def pink(white: np.ndarray) -> np.ndarray:
    places = np.maximum(1, np.arange(white.size // 2 + 1))
    return np.fft.irfft(np.fft.rfft(white) / np.sqrt(places), white.size)


def knocks(seconds: int, rng: np.random.Generator) -> np.ndarray:
    """Knocks at a table, one a second."""
    out = np.zeros(seconds * RATE_HZ)
    times = np.arange(1600) / RATE_HZ
    for second in range(seconds):
        start = second * RATE_HZ + int(rng.uniform(0, 12_000))
        ring = np.exp(-60 * times) * np.sin(2 * np.pi * rng.uniform(150, 900) * times)
        strike = np.exp(-400 * times) * rng.standard_normal(times.size)
        out[start : start + times.size] += 0.1 * rng.uniform(0.3, 1.0) * ring + 0.05 * strike
    return out


def judge(scene: Scene, config: TurnsConfig, score: DetectorScore) -> None:
    """Run one detector over one scene."""
    voice = SpeakerActivity(config.make_detector(), config)
    began_s = time.process_time()
    frames = [f for i in range(0, scene.sound.size, FRAME) for f in voice.push(i, scene.sound[i : i + FRAME])]
    score.cpu_s += time.process_time() - began_s
    raw = np.zeros(scene.label.size, bool)
    found = np.zeros(scene.label.size, bool)
    for frame in frames:
        first, end = frame.first_sample // FRAME, -(-frame.end_sample // FRAME)
        raw[first:end] = frame.probability >= config.threshold
    starts = [f.change.first_sample for f in frames if isinstance(f.change, Started)]
    ends = [f.change.end_sample for f in frames if isinstance(f.change, Stopped)]
    ends += [scene.sound.size] * (len(starts) - len(ends))
    for start, end in zip(starts, ends, strict=True):
        part = slice(start // FRAME, -(-end // FRAME))
        found[part] = True
        near = slice(max(0, start // FRAME - 10), -(-end // FRAME) + 10)
        score.false_alarms += not scene.label[near].any()
    label = scene.label
    score.hits += int(found[label].sum())
    score.speech += int(label.sum())
    score.rejected += int((~found[~label]).sum())
    score.other += int((~label).sum())
    score.raw_hits += int(raw[label].sum())
    score.raw_rejected += int((~raw[~label]).sum())
    score.starts_ms += boundary_errors(label, np.array(starts) / FRAME, rising=True)
    score.ends_ms += boundary_errors(label, np.array(ends) / FRAME, rising=False)


def boundary_errors(label: np.ndarray, found: np.ndarray, *, rising: bool) -> list[float]:
    """Distance of each labelled boundary with 0.5 s of silence beside it to the nearest one found [ms]."""
    change = np.diff(np.r_[False, label, False].astype(int))
    places = np.flatnonzero(change == (1 if rising else -1))
    errors = []
    for place in places:
        beside = label[max(0, place - 25) : place] if rising else label[place : place + 25]
        if not beside.any() and found.size:
            errors.append(20 * float(np.abs(found - place).min()))
    return errors


def measure_detectors(everything: list[Scene]) -> list[str]:
    configs = {
        "webrtcvad": TurnsConfig(),
        "webrtcvad, background off": TurnsConfig(above_background_db=0.0, above_background_spreads=0.0),
        "Silero": TurnsConfig(detector="silero"),
    }
    minutes = sum(scene.sound.size for scene in everything) / RATE_HZ / 60
    rows = []
    for name, config in configs.items():
        groups: dict[str, DetectorScore] = {"all": DetectorScore()}
        for scene in everything:
            for group in ("all", scene.name):
                judge(scene, config, groups.setdefault(group, DetectorScore()))
        for group, score in groups.items():
            false_alarms, cells = f"{score.false_alarms_per_minute():.2f}", ["–"] * 6
            if score.speech:
                errors = [f"{np.median(ms):.0f} ms" for ms in (score.starts_ms, score.ends_ms)]
                cpu = f"{100 * score.cpu_s / ((score.speech + score.other) * 0.02):.2f} %"
                cells = [f"{score.balanced():.3f}", f"{score.raw_balanced():.3f}", "0.5", *errors, cpu]
            rows.append((name, group, *cells[:3], false_alarms, *cells[3:]))
    titles = ["detector", "scenes", "balanced accuracy", "raw frames", "always speech", "false alarms / min"]
    head = f"{minutes:.1f} minutes in {len(everything)} scenes; defaults of `turns`."
    return [head, *table([*titles, "start", "end", "CPU"], rows)]


def impulse_response(rng: np.random.Generator) -> np.ndarray:
    tail = rng.standard_normal(5600) * np.exp(-6.9 * np.arange(5600) / 5600) * 0.035
    return np.concatenate([np.zeros(500), [1.0], tail])


def measure_echo(minutes: float) -> list[str]:
    """The head's own voice 10 dB louder than the user's in the microphone, with and without interruptions."""
    rng = np.random.default_rng(7)
    agent = conversation(prompts_of("en_US_f_Allison", rng) * 8, 60 * minutes, rng)
    echo = np.convolve(agent, impulse_response(rng))[: agent.size]
    loud = active_level(echo)
    noise = rng.standard_normal(agent.size) * loud * 10 ** (-40 / 20)
    utterances = prompts_of("fr_CA_f_June", rng, 2.0)
    user, onsets = np.zeros(agent.size), []
    is_agent = label_of(agent)
    for frame in range(750, is_agent.size - 200, 600):
        talk = np.flatnonzero(
            [is_agent[f : f + 45].all() for f in range(frame, min(frame + 500, is_agent.size - 60))]
        )
        if not talk.size:
            continue
        start = (frame + int(talk[0])) * FRAME + 1600
        voice = utterances[len(onsets) % len(utterances)]
        voice = voice[np.argmax(np.abs(voice) > 0.1 * np.abs(voice).max()) :][: 2 * RATE_HZ]
        voice = voice / active_level(voice) * loud * 10 ** (-10 / 20)
        user[start : start + voice.size] += voice[: user.size - start]
        onsets.append(start)
    far = float_to_int16(agent)
    rows: list[tuple[str, ...]] = []
    alone, mixed = float_to_int16(echo + noise), float_to_int16(echo + user + noise)
    began_s = time.process_time()
    clean_alone = suppressed(alone, far)
    cpu = (time.process_time() - began_s) / (alone.size / RATE_HZ)
    false = [len(barge_ins(sound, far)) for sound in (alone, clean_alone)]
    rows.append(("false barge-ins per 10 minutes", *(f"{count * 10 / minutes:.1f}" for count in false)))
    for title, what in (("real ones caught within 400 ms", 400), ("within 600 ms", 600)):
        caught = []
        for sound in (mixed, suppressed(mixed, far)):
            decided = np.array(barge_ins(sound, far))
            late_ms = [1000 * (decided - o / RATE_HZ) for o in onsets]
            caught.append(sum(bool(((late > 0) & (late <= what)).any()) for late in late_ms))
        rows.append((title, *(f"{count} of {len(onsets)}" for count in caught)))
    rows.append(("CPU of one core", "0", f"{100 * cpu:.1f} %"))
    head = f"Echo: {minutes:g} minutes, the head 10 dB louder than the user, reverberation of 0.35 s."
    return [head, *table(["", "without suppression", "with"], rows)]


ROOMS = ((0.2, 20.0), (0.2, 280.0), (0.5, 150.0), (0.8, 20.0), (0.8, 280.0))
"""Reverberation [s] and delay from playback to microphone [ms]."""
DRIFT_PPM = 30.0


def room_of(reverberation_s: float, delay_ms: float, rng: np.random.Generator) -> np.ndarray:
    """Return a way of the delay, the direct sound, and exponential reverberation 3 dB below it."""
    tail = rng.standard_normal(round(reverberation_s * RATE_HZ))
    tail *= 10 ** (-3 * np.arange(tail.size) / tail.size)
    tail *= 10 ** (-3 / 20) / np.sqrt((tail**2).sum())
    return np.concatenate([np.zeros(round(delay_ms * RATE_HZ / 1000)), [1.0], tail])


def measure_rooms(minutes: float) -> list[str]:
    """The head's own voice at the user's level, in rooms of several reverberations and delays, drifting."""
    rows = []
    for number, (reverberation_s, delay_ms) in enumerate(ROOMS):
        rng = np.random.default_rng(number)
        agent = conversation(prompts_of("en_US_f_Allison", rng) * 8, 60 * minutes, rng)
        echo = scipy.signal.fftconvolve(agent, room_of(reverberation_s, delay_ms, rng))[: agent.size]
        place = np.arange(agent.size) * (1 - 1e-6 * DRIFT_PPM)
        echo = np.interp(place, np.arange(agent.size), echo)
        echo += rng.standard_normal(agent.size) * active_level(echo) * 10 ** (-45 / 20)
        user, onsets = interruptions(agent, active_level(echo), rng)
        far = float_to_int16(agent)
        events = turn_events(suppressed(float_to_int16(echo), far), far)
        starts = [e for e in events if e.kind is Kind.START and e.speaker is Speaker.USER]
        decided = np.array(barge_ins(suppressed(float_to_int16(echo + user), far), far))
        caught = [sum(any((decided > o) & (decided <= o + s)) for o in onsets) for s in (0.4, 1.0)]
        cells = (f"{reverberation_s:g} s", f"{delay_ms:g} ms", str(len(starts)))
        rows.append((*cells, *(f"{count} of {len(onsets)}" for count in caught)))
    head = f"Rooms: {minutes:g} minutes each, the head as loud as the user, drift of {DRIFT_PPM:g} ppm."
    titles = ("reverberation", "delay", "turns begun by the echo", "interruptions caught in 0.4 s", "in 1 s")
    return ["", head, *table(titles, rows)]


def interruptions(
    agent: np.ndarray, level: float, rng: np.random.Generator
) -> tuple[np.ndarray, list[float]]:
    """Return a user at a level who speaks 2 s into the agent's speech every 8 s, and when he begins [s]."""
    utterances, is_agent = prompts_of("fr_CA_f_June", rng, 2.0), label_of(agent)
    user, onsets = np.zeros(agent.size), []
    for frame in range(500, is_agent.size - 200, 400):
        talk = np.flatnonzero(
            [is_agent[f : f + 45].all() for f in range(frame, min(frame + 300, is_agent.size - 60))]
        )
        if talk.size:
            voice = utterances[len(onsets) % len(utterances)]
            voice = voice[np.argmax(np.abs(voice) > 0.1 * np.abs(voice).max()) :][: 2 * RATE_HZ]
            start = (frame + int(talk[0])) * FRAME + 1600
            voice = (voice / active_level(voice) * level)[: user.size - start]
            user[start : start + voice.size] += voice
            onsets.append(start / RATE_HZ)
    return user, onsets


def suppressed(near: np.ndarray, far: np.ndarray) -> np.ndarray:
    suppressor = EchoSuppressor(FRAME, TAIL_MS)
    places = range(0, near.size, FRAME)
    return np.concatenate([suppressor.process(near[i : i + FRAME], far[i : i + FRAME]) for i in places])


def barge_ins(user: np.ndarray, agent: np.ndarray) -> list[float]:
    events = turn_events(user, agent)
    return [event.decided_sample / RATE_HZ for event in events if event.kind is Kind.INTERRUPTED]


def turn_events(user: np.ndarray, agent: np.ndarray) -> list[TurnEvent]:
    turns, events = Turns(TurnsConfig(interruption_check=False, barge_in_ms=280)), []
    for place in range(0, agent.size, FRAME):
        for speaker, sound in ((Speaker.USER, user), (Speaker.AGENT, agent)):
            events += turns.push(speaker, place, sound[place : place + FRAME]).events
    return events


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the echo scene (default: 10)")
    parser.add_argument("--development", action="store_true", help="only the set that defaults are chosen on")
    parser.add_argument("--echo", action="store_true", help="only echo; printed, not written")
    arguments = parser.parse_args()
    for tool in ("flite", "espeak-ng") if arguments.development else ("ffmpeg", "espeak-ng"):
        if shutil.which(tool) is None:
            sys.stderr.write(f"bench_audio needs {tool}: apt install {tool}\n")
            return 1
    if arguments.development:
        sys.stdout.write("\n".join(measure_detectors(list(development_scenes()))) + "\n")
        return 0
    if not PROMPTS.is_dir():
        sys.stderr.write("bench_audio needs voices: apt install asterisk-core-sounds-{en,fr,it,ru,es}-g722\n")
        return 1
    lines = ["# Voice activity, turns and echo, measured", "", f"{when()}.", ""]
    lines += [] if arguments.echo else measure_detectors(list(scenes()))
    lines += [*measure_echo(arguments.minutes), *measure_rooms(arguments.minutes)]
    if arguments.echo:
        print_page(lines)
    else:
        write_page(RESULTS / "audio.md", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
