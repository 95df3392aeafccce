"""Causal features of a conversation for gesture prediction: who spoke when, what one is about to say.

Everything is a recurrence over frames of 25 Hz, elementwise over any number of conversations, so that one
frame at a time and a whole recording give the same numbers.

    B   conversations side by side (any shape, also none)
    D   features, `FEATURE_NAMES`
"""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

RATE_HZ = 25
PLAN_FRAMES = 25
"""How far ahead planned speech is looked at: one second."""
LISTENING, SPEAKING, NEITHER = 0, 1, 2
STATES = ("listening", "speaking", "neither")

_MEANS_S = (0.2, 0.5, 1.0, 3.0, 10.0, 30.0, 60.0)
_SINCE_ACTIVE_S = (0.2, 0.5, 1.0, 3.0, 10.0, 60.0)
_SINCE_ONSET_S = (0.3, 1.0, 3.0, 10.0)
_JOINT_MEANS_S = (1.0, 10.0, 60.0)
_NOD_S = (0.5, 2.0, 8.0)
_AHEAD_S = (0.2, 0.5, 1.0)
_NEVER_S = 600.0
_CLOSED_PAUSE_S, _OWN_SILENCE_S, _FLOOR_S, _FLOOR_SHARE, _TURN_PAUSE_S = 0.3, 0.5, 3.0, 0.2, 1.0
"""Speaking: own speech, pauses below 0.3 s closed. Listening: none of it for 0.5 s, and the other spoke for a
fifth of the last 3 s."""


def _voice_names(who: str) -> list[str]:
    return [
        f"{who}_speaks", *(f"{who}_mean_{t:g}s" for t in _MEANS_S),
        *(f"{who}_since_{t:g}s" for t in _SINCE_ACTIVE_S),
        *(f"{who}_onset_{t:g}s" for t in _SINCE_ONSET_S), *(f"{who}_turn_{t:g}s" for t in _SINCE_ONSET_S),
        f"{who}_segment", f"{who}_pause",
    ]  # fmt: skip


FEATURE_NAMES = (
    *_voice_names("own"), *_voice_names("user"),
    *(f"ahead_{t:g}s" for t in _AHEAD_S), "ahead_share", "own_begins", "own_ends", "own_ends_for_good",
    *(f"both_{t:g}s" for t in _JOINT_MEANS_S), *(f"nobody_{t:g}s" for t in _JOINT_MEANS_S),
    "user_spoke_last", "short_pause", "longer_pause", *STATES[:2],
    "user_seen", "user_nods", *(f"user_nod_{t:g}s" for t in _NOD_S),
)  # fmt: skip
USER_MOTION_FEATURES = slice(FEATURE_NAMES.index("user_seen"), len(FEATURE_NAMES))


class _Voice:
    """Memories of one voice's activity."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._keep = np.exp(-1 / (RATE_HZ * np.array(_MEANS_S))).astype(np.float32)
        self._means = np.zeros((*shape, len(_MEANS_S)), np.float32)
        self._was = np.zeros(shape, np.bool_)
        self.since_active_s, self._since_onset_s, self._since_turn_s = (
            np.full(shape, _NEVER_S, np.float32) for _ in range(3)
        )
        self._segment_s = np.zeros(shape, np.float32)

    def step(self, speaks: npt.NDArray[np.bool_]) -> list[FloatArray]:
        """Take one frame (B) and return features, each (B) or (B, k)."""
        begins = speaks & ~self._was
        frame_s = np.float32(1 / RATE_HZ)
        begins_turn = begins & (self.since_active_s >= _TURN_PAUSE_S)
        self._means = speaks[..., None] + self._keep * (self._means - speaks[..., None])
        for name, restarts in (
            ("since_active_s", speaks),
            ("_since_onset_s", begins),
            ("_since_turn_s", begins_turn),
        ):
            grown = np.minimum(getattr(self, name) + frame_s, np.float32(_NEVER_S))
            setattr(self, name, np.where(restarts, np.float32(0), grown))
        self._segment_s = np.where(begins, np.float32(0), self._segment_s) + np.where(
            speaks, frame_s, np.float32(0)
        )
        self._was = speaks
        return [
            speaks, self._means, _decays(self.since_active_s, _SINCE_ACTIVE_S),
            _decays(self._since_onset_s, _SINCE_ONSET_S), _decays(self._since_turn_s, _SINCE_ONSET_S),
            np.log1p(self._segment_s), np.log1p(np.minimum(self.since_active_s, np.float32(60))),
        ]  # fmt: skip


def _decays(since_s: FloatArray, times_s: tuple[float, ...]) -> FloatArray:
    return np.exp(-since_s[..., None] / np.array(times_s, np.float32))


class ConversationFeatures:
    """Incremental features of B conversations.

    Args:
        shape: Of B; empty for one conversation.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self._own, self._user = _Voice(shape), _Voice(shape)
        self._both, self._nobody = (np.zeros((*shape, len(_JOINT_MEANS_S)), np.float32) for _ in range(2))
        self._keep = np.exp(-1 / (RATE_HZ * np.array(_JOINT_MEANS_S))).astype(np.float32)
        self._floor = np.zeros((round(_FLOOR_S * RATE_HZ), *shape), np.bool_)
        self._frame = 0
        self._nodded = np.zeros(shape, np.bool_)
        self._since_nod_s = np.full(shape, _NEVER_S, np.float32)
        self.state = np.full(shape, NEITHER)
        """(B) LISTENING, SPEAKING or NEITHER at the newest frame."""

    def copy(self) -> ConversationFeatures:
        """Return a state that goes its own way; only the ring of the floor is changed in place."""
        copied = copy.copy(self)
        copied._own, copied._user, copied._floor = (
            copy.copy(self._own),
            copy.copy(self._user),
            self._floor.copy(),
        )
        return copied

    def step(
        self,
        plan: npt.NDArray[np.bool_],
        user: npt.ArrayLike,
        user_nods: npt.ArrayLike = False,
        user_seen: npt.ArrayLike = False,
    ) -> FloatArray:
        """Take one frame and return its features.

        Args:
            plan: (B, 1 + PLAN_FRAMES) own speech in this frame and the planned speech after it.
            user: (B) whether the user speaks in the newest frame that is known, which stands the lag behind.
            user_nods: (B) whether the user's head is in a nod there.
            user_seen: (B) whether it is seen.

        Returns:
            (B, D) float32.
        """
        plan, user = np.asarray(plan, np.bool_), np.asarray(user, np.bool_)
        speaks, ahead = plan[..., 0], plan[..., 1:]
        own, other = self._own.step(speaks), self._user.step(user)
        until = np.where(ahead.any(-1), ahead.argmax(-1) + 1, _NEVER_S * RATE_HZ).astype(np.float32) / RATE_HZ
        quiet = ~plan
        pause_in = np.where(quiet.any(-1), quiet.argmax(-1), _NEVER_S * RATE_HZ).astype(np.float32) / RATE_HZ
        last = PLAN_FRAMES - plan[..., ::-1].argmax(-1)
        is_last = speaks & (last < PLAN_FRAMES - round(_CLOSED_PAUSE_S * RATE_HZ))
        both, nobody = speaks & user, ~speaks & ~user
        self._both = both[..., None] + self._keep * (self._both - both[..., None])
        self._nobody = nobody[..., None] + self._keep * (self._nobody - nobody[..., None])
        self._floor[self._frame % len(self._floor)] = user
        self._frame += 1
        pause_s = self._user.since_active_s
        in_speech = speaks | (self._own.since_active_s + until < _CLOSED_PAUSE_S)
        listens = (self._own.since_active_s > _OWN_SILENCE_S) & (self._floor.mean(0) > _FLOOR_SHARE)
        self.state = np.where(in_speech, SPEAKING, np.where(listens, LISTENING, NEITHER))
        seen = np.broadcast_to(user_seen, speaks.shape).astype(np.bool_)
        nods = np.asarray(user_nods, np.bool_) & seen
        grown = np.minimum(self._since_nod_s + np.float32(1 / RATE_HZ), np.float32(_NEVER_S))
        self._since_nod_s = np.where(nods & ~self._nodded, np.float32(0), grown)
        self._nodded = nods
        parts = [
            *own, *other,
            *(ahead[..., : round(t * RATE_HZ)].any(-1) for t in _AHEAD_S), ahead.mean(-1),
            ~speaks * np.exp(-until / np.float32(0.3)), speaks * np.exp(-pause_in / np.float32(0.3)),
            is_last * np.exp(-last / np.float32(0.3 * RATE_HZ)),
            self._both, self._nobody, self._own.since_active_s > pause_s,
            (pause_s >= 0.2) & (pause_s <= 0.6), (pause_s >= 0.4) & (pause_s <= 1.0),
            self.state == LISTENING, self.state == SPEAKING,
            seen, nods, seen[..., None] * _decays(self._since_nod_s, _NOD_S),
        ]  # fmt: skip
        shape = speaks.shape
        columns = [np.asarray(part, np.float32).reshape(*shape, -1) for part in parts]
        return np.concatenate(columns, -1)


def features_of(
    own: npt.NDArray[np.bool_],
    user: npt.NDArray[np.bool_],
    user_nods: npt.NDArray[np.bool_] | None = None,
    user_seen: npt.NDArray[np.bool_] | None = None,
    user_lag_frames: int = 0,
) -> tuple[FloatArray, npt.NDArray[np.int_]]:
    """Return the features (T, D) and states (T,) of a whole conversation.

    Args:
        own: (T,) own speech by frame; what is beyond a frame counts as planned.
        user: (T,) the user's.
        user_nods: (T,) whether the user nods.
        user_seen: (T,) whether the user's head is seen; not at all without it.
        user_lag_frames: How far the newest known frame of the user stands behind.
    """
    steps = len(own)
    plan = np.concatenate([np.asarray(own, np.bool_), np.zeros(PLAN_FRAMES, np.bool_)])
    none = np.zeros(steps, np.bool_)
    late = [
        lagged(none if track is None else track, user_lag_frames) for track in (user, user_nods, user_seen)
    ]
    features, rows, states = ConversationFeatures(), np.empty((steps, len(FEATURE_NAMES)), np.float32), []
    for frame in range(steps):
        rows[frame] = features.step(plan[frame : frame + 1 + PLAN_FRAMES], *(track[frame] for track in late))
        states.append(int(features.state))
    return rows, np.array(states, int)


def lagged(track: npt.NDArray[np.bool_], frames: int) -> npt.NDArray[np.bool_]:
    """Return (..., T) as what is known of it that many frames later; before its start nothing."""
    track = np.asarray(track, np.bool_)
    padding = np.zeros((*track.shape[:-1], min(frames, track.shape[-1])), np.bool_)
    return np.concatenate([padding, track[..., : track.shape[-1] - padding.shape[-1]]], -1)
