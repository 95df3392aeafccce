"""The head does not hear itself, and hears who interrupts it.

The constants of filter and gate were chosen on a scene like this one, of other voices (docs/audio.md).
"""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from labelled_speech import AGENT_VOICE, USER_VOICE, without_pauses
from timar_audio.blocks import AudioBlock
from timar_audio.echo import EchoStage, EchoSuppressor
from timar_audio.echo_delay import DelayTracker
from timar_audio.echo_filter import EchoFilter, EchoFilterConfig
from timar_audio.floor import Kind, Speaker
from timar_audio.turns import Turns
from timar_audio.turns_config import TurnsConfig
from timar_common.diagnostics import Level

BLOCK = 320
TAIL_MS = 640


def level_of(voice: np.ndarray) -> float:
    """Root mean square of the parts where somebody speaks."""
    power = (voice[: voice.size // BLOCK * BLOCK].reshape(-1, BLOCK) ** 2).mean(axis=1)
    return float(np.sqrt(power[power > 1e-3 * power.max()].mean()))


def room_response(seed: int) -> np.ndarray:
    """30 ms of buffers and way, then a room with 0.35 s of reverberation, 3 dB below the direct sound."""
    rng = np.random.default_rng(seed)
    tail = rng.standard_normal(5600) * np.exp(-6.9 * np.arange(5600) / 5600) * 0.035
    return np.concatenate([np.zeros(500), [1.0], tail])


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The head's voice, its echo, and a user 10 dB below that who interrupts at 14 and 22 s."""
    voice = np.append(np.zeros(16_000), without_pauses(AGENT_VOICE, "agent"))[: 30 * 16_000]
    agent = voice / level_of(voice) * 0.05
    echo = np.convolve(agent, room_response(0))[: agent.size]
    other = soundfile.read(USER_VOICE)[0][round(16.97 * 16_000) :]  # "Wait, wait."
    other = other / level_of(other) * level_of(echo) * 10 ** (-10 / 20)
    user = np.zeros_like(agent)
    for start_s in (14.0, 22.0):
        start = round(start_s * 16_000)
        user[start : start + 24_000] = other[:24_000]
    noise = np.random.default_rng(1).standard_normal(agent.size) * level_of(echo) * 10 ** (-40 / 20)
    return agent, echo + noise, user


def pcm(sound: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(sound[: sound.size // BLOCK * BLOCK] * 32_768), -32_768, 32_767).astype(np.int16)


def cleaned(near: np.ndarray, far: np.ndarray) -> np.ndarray:
    suppressor = EchoSuppressor(BLOCK, TAIL_MS)
    blocks = range(0, near.size, BLOCK)
    return np.concatenate([suppressor.process(near[i : i + BLOCK], far[i : i + BLOCK]) for i in blocks])


def barge_ins(user: np.ndarray, agent: np.ndarray) -> list[float]:
    """Return when barge-ins were decided [s]."""
    turns, events = Turns(TurnsConfig(interruption_check=False, barge_in_ms=280)), []
    for place in range(0, agent.size, BLOCK):
        for speaker, sound in ((Speaker.USER, user), (Speaker.AGENT, agent)):
            events += turns.push(speaker, place, sound[place : place + BLOCK]).events
    return [event.decided_sample / 16_000 for event in events if event.kind is Kind.INTERRUPTED]


def test_the_heads_own_voice_10_db_louder_is_no_barge_in(scene):
    agent, echo, _ = scene
    far, near = pcm(agent), pcm(echo)
    clean = cleaned(near, far)
    assert barge_ins(clean, far) == []
    assert barge_ins(near, far)  # without it the head would interrupt itself all the time
    settled = slice(5 * 16_000, None)
    assert level_of(clean[settled].astype(float)) < level_of(near[settled].astype(float)) * 10 ** (-30 / 20)


def test_who_interrupts_is_caught_within_half_a_second(scene):
    agent, echo, user = scene
    caught = barge_ins(cleaned(pcm(echo + user), pcm(agent)), pcm(agent))
    for start_s in (14.0, 22.0):
        heard = np.abs(user[round(start_s * 16_000) :]) > 0.1 * np.abs(user).max()
        onset_s = start_s + int(heard.argmax()) / 16_000
        assert any(0.0 < decided - onset_s <= 0.5 for decided in caught), (onset_s, caught)


def test_a_user_alone_passes_unharmed(scene):
    _, _, user = scene
    near = pcm(user)
    clean = cleaned(near, np.zeros_like(near)).astype(float)
    part = slice(14 * 16_000, 15 * 16_000)
    lag = np.argmax(np.correlate(clean[part], near[part].astype(float)[800:-800], "valid")) - 800
    assert lag == 0
    assert level_of(clean) == pytest.approx(level_of(near.astype(float)), rel=0.3)


def test_the_filter_learns_a_room_and_keeps_it_while_both_talk():
    rng = np.random.default_rng(0)
    far = rng.standard_normal(160_000) * 0.05
    response = room_response(1)[:3000]
    echo = np.convolve(far, response)[: far.size]
    near_end = np.zeros(far.size)
    near_end[96_000:112_000] = rng.standard_normal(16_000) * 0.1
    echo_filter = EchoFilter()
    left = np.concatenate(
        [
            echo_filter.process((echo + near_end)[i : i + BLOCK], far[i : i + BLOCK])
            for i in range(0, far.size, BLOCK)
        ]
    )

    def residual_db(part: slice) -> float:
        return float(10 * np.log10(((left - near_end)[part] ** 2).mean() / (echo[part] ** 2).mean()))

    assert residual_db(slice(64_000, 96_000)) < -25
    assert residual_db(slice(96_000, 112_000)) < -12
    assert residual_db(slice(128_000, 160_000)) < -25


def drifting(sound: np.ndarray, drift_ppm: float) -> np.ndarray:
    """Return sound that falls behind by so much, as from a loudspeaker with a slower crystal."""
    place = np.arange(sound.size) * (1 - 1e-6 * drift_ppm)
    return np.interp(place, np.arange(sound.size), sound)


def test_the_drift_of_an_echo_is_followed():
    """The filter alone left all of an echo that drifted by 100 ppm."""
    rng = np.random.default_rng(3)
    low = np.convolve(rng.standard_normal(20 * 16_000), np.hanning(9), "same") * 0.01
    echo = drifting(np.convolve(low, room_response(2)[:2500])[: low.size], 100.0)
    tracker, echo_filter = DelayTracker(BLOCK), EchoFilter(EchoFilterConfig(partitions=9))
    left = []
    for i in range(0, low.size, BLOCK):
        left.append(echo_filter.process(echo[i : i + BLOCK], tracker.delayed(low[i : i + BLOCK])))
        tracker.observe(echo_filter)
    assert 1e6 * tracker.drift == pytest.approx(100.0, abs=10.0)
    settled = slice(15 * 16_000, None)
    assert level_of(np.concatenate(left)[settled]) < 0.15 * level_of(echo[settled])


def test_a_path_that_moved_by_blocks_is_the_same_path():
    rng = np.random.default_rng(4)
    far = rng.standard_normal(40 * BLOCK) * 0.05
    echo_filter = EchoFilter(EchoFilterConfig(partitions=4))
    near = np.concatenate([np.zeros(2 * BLOCK), far])[: far.size]  # two blocks late
    for i in range(0, far.size, BLOCK):
        echo_filter.process(near[i : i + BLOCK], far[i : i + BLOCK])
    power = (np.abs(echo_filter.path) ** 2).sum(axis=1)
    echo_filter.shift(-1)
    moved = (np.abs(echo_filter.path) ** 2).sum(axis=1)
    assert power.argmax() == 2
    assert moved == pytest.approx([*power[1:], 0.0])


def block(number: int) -> AudioBlock:
    return AudioBlock(number * BLOCK, np.full(BLOCK, 100, np.int16), number * 20_000_000)


class Subtract:
    """near - far, so that a test sees which far sound met which near sound."""

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        return near - far


def test_a_block_waits_for_the_agents_sound_of_its_place_but_not_for_ever():
    stage = EchoStage(Subtract(), wait_ms=40)
    assert [b.samples[0] for b in stage.push_user(block(0), 0)] == [100]  # nobody plays: nothing to wait for
    stage.push_agent(0, np.full(BLOCK, 7, np.int16), 0)
    assert stage.push_user(block(1), 20_000_000) == []
    ready = stage.push_agent(BLOCK, np.full(BLOCK, 30, np.int16), 25_000_000)
    assert [(b.first_sample, b.samples[0]) for b in ready] == [(BLOCK, 70)]
    assert stage.push_user(block(2), 40_000_000) == []
    late = stage.push_user(block(3), 81_000_000)
    assert [(b.first_sample, b.samples[0]) for b in late] == [(2 * BLOCK, 100)]
    assert stage.unmatched_blocks == 1


def test_without_playback_it_says_so():
    stage = EchoStage(Subtract(), wait_ms=40)
    stage.push_user(block(0), 0)
    assert stage.report().level is Level.WARN
    assert "no agent/audio" in stage.report().message


@pytest.mark.parametrize("far", [np.zeros(100), np.zeros(BLOCK + 1)])
def test_blocks_of_another_length_are_refused(far):
    with pytest.raises(ValueError, match="expected \\(320,\\) each"):
        EchoFilter(EchoFilterConfig()).process(np.zeros(BLOCK), far)
