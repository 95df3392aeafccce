"""Gaze at partners by who speaks, fitted to annotated gaze targets.

People in meetings also look at the table, slides and whiteboard, which a head with one partner does not have.
So the policy is what turns change: how often gaze that was at somebody is off everybody within the first
second of a longer turn, how long it stays off, and how long before the end of the turn it is back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.config import Positive, check

from .ami import Meeting, Participant, joined

BoolArray = npt.NDArray[np.bool_]

RATE_HZ = 25


@dataclasses.dataclass(frozen=True)
class GazePolicyConfig:
    """What counts as a longer turn, and where around it is looked."""

    long_turn_s: Positive = 1.5
    """A turn of at least this length is a longer one [s]."""
    pause_s: Positive = 0.5
    """Shorter pauses belong to a turn [s]."""
    start_s: Positive = 1.0
    """Gaze that is off within so long after the start was turned away for the turn [s]."""

    def __post_init__(self) -> None:
        check(self)


def fit_gaze(meetings: Sequence[Meeting], config: GazePolicyConfig | None = None) -> dict[str, Any]:
    """Return the policy as plain numbers for YAML.

    Raises:
        ValueError: Nobody's gaze is annotated, or nobody says enough.
    """
    config = config or GazePolicyConfig()
    people = [(p, m.others(p)) for m in meetings for p in m.participants if p.gaze]
    if not people:
        raise ValueError("no meeting has annotated gaze; give an archive with the folder focus")
    starts: list[tuple[bool, bool]] = []
    stays: list[float] = []
    ends: list[float] = []
    glances: list[float] = []
    shares, listened = {"listening": [0, 0], "speaking": [0, 0]}, 0
    for person, others in people:
        is_at, is_known = _gaze(person, {other.letter for other in others})
        own = _speech(person, len(is_at), config)
        others_speak = np.logical_or.reduce([_speech(other, len(is_at), config) for other in others])
        for name, here in (("speaking", own), ("listening", others_speak & ~own)):
            here = here & is_known
            shares[name][0] += int((is_at & here).sum())
            shares[name][1] += int(here.sum())
        for low, high in _runs(own):
            if (high - low) / RATE_HZ >= config.long_turn_s and is_known[low:high].all():
                _turn(is_at, low, high, config, starts, stays, ends)
        quiet = others_speak & ~own & is_known
        listened += int(quiet.sum())
        glances += [
            (high - low) / RATE_HZ
            for low, high in _runs(~is_at & quiet)
            if low and high < len(is_at) and is_at[low - 1] and is_at[high]
        ]
    if len(starts) < 20 or not stays or not ends:
        raise ValueError(f"{len(starts)} longer turns with gaze are too few, expected 20; give more meetings")
    looked, away = np.array(starts).T
    return {
        "meetings": len({person.meeting for person, _ in people}), "people": len(people),
        "turns": len(starts),
        "long_turn_s": config.long_turn_s,
        "avert_probability": round(float(away[looked == 1].mean()), 3),
        "avert_s": round(float(np.median(stays)), 2),
        "back_before_s": round(float(np.median(ends)), 2),
        "at_partner_share": {name: round(at / max(of, 1), 3) for name, (at, of) in shares.items()},
        "listening_glances_per_min": round(60 * RATE_HZ * len(glances) / max(listened, 1), 2),
        "listening_glance_s": round(float(np.median(glances)), 2) if glances else 0.0,
    }  # fmt: skip


def _turn(
    is_at: BoolArray, low: int, high: int, config: GazePolicyConfig, starts: list[tuple[bool, bool]],
    stays: list[float], ends: list[float],
) -> None:  # fmt: skip
    """Note of a turn whether gaze was at somebody and turned off at its start, how long, and its return."""
    first = is_at[low : low + round(config.start_s * RATE_HZ)]
    starts.append((bool(is_at[max(0, low - 1)]), not first.all()))
    if not first.all():
        off = low + int(np.argmin(first))
        back = np.flatnonzero(is_at[off:high])
        if len(back):
            stays.append(int(back[0]) / RATE_HZ)
    if is_at[high - 1]:
        before = np.flatnonzero(~is_at[low:high])
        if len(before):
            ends.append((high - low - 1 - int(before[-1])) / RATE_HZ)


def _gaze(person: Participant, letters: set[str]) -> tuple[BoolArray, BoolArray]:
    """Return (n,) whether gaze is at another person, and whether it is known, by frame."""
    frames = round(max(person.end_s, max(g.end_s for g in person.gaze)) * RATE_HZ) + 1
    is_at, is_known = np.zeros(frames, np.bool_), np.zeros(frames, np.bool_)
    for target in person.gaze:
        part = slice(round(target.start_s * RATE_HZ), round(target.end_s * RATE_HZ))
        is_at[part], is_known[part] = target.target in letters, True
    return is_at, is_known


def _speech(person: Participant, frames: int, config: GazePolicyConfig) -> BoolArray:
    speaks = np.zeros(frames, np.bool_)
    for span in joined([(word.start_s, word.end_s) for word in person.words], config.pause_s):
        speaks[round(span[0] * RATE_HZ) : round(span[1] * RATE_HZ)] = True
    return speaks


def _runs(flags: BoolArray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(low), int(high)) for low, high in zip(edges[::2], edges[1::2], strict=True)]
