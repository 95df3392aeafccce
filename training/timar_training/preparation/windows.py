"""Training windows of prepared clips, drawn in an order that a seed and a step fix, and augmentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from timar_common.config import NonNegative, Probability, check
from timar_common.motion_file import PART_SIZES
from timar_model.architecture.config import MOTION_DIM, MOTION_GROUPS, ModelConfig
from timar_model.architecture.inputs import MotionStatistics
from timar_model.architecture.model import TrainingBatch
from timar_model.architecture.sequences import lead_frames
from torch import Tensor

from .prepare import STREAMS, PreparedSplit

OWN_TURNS_SHARE = 0.5
"""How many steps of a training on mixtures have turns of the model's own length alone."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to the user's side of a window, so that the model does not lean on what may be missing."""

    expression_probability: Probability = 0.5
    """How often an absent expression of the user is replaced by random movement that means nothing: the
    corpus has none, a live face tracker may."""
    expression_std: NonNegative = 1.0
    """Spread of that movement [model units]."""

    def __post_init__(self) -> None:
        check(self)


class WindowSampler:
    """Draws batches of windows.

    Args:
        prepared: The clips.
        statistics: Units of motion in the model.
        config: The model, for the frames a turn looks back.
        turn_frames: Lengths of the turns of a window [frames].
        batch: Windows per batch.
        seed: Fixes order and augmentation.
        augmentation: None for validation.
        turn_lengths: Lengths [frames] of which the turns of each batch are drawn instead; empty: none.

    Raises:
        ValueError: No clip is long enough for one window.
    """

    def __init__(
        self,
        prepared: PreparedSplit,
        statistics: MotionStatistics,
        config: ModelConfig,
        turn_frames: list[int],
        batch: int,
        seed: int,
        augmentation: Augmentation | None = None,
        turn_lengths: Sequence[int] = (),
    ) -> None:
        self.batch = batch
        self.lead = window_lead(turn_frames, turn_lengths, config)
        self._turn_frames = turn_frames
        self._turn_lengths = tuple(turn_lengths)
        # wav2vec 2.0 sees each turn alone, so its turns must lie where its features were computed.
        self._grid = config.turn_frames if config.speech_encoder == "wav2vec2" else 1
        self._prepared = prepared
        self._statistics = statistics
        self._seed = seed
        self._augmentation = augmentation
        self._length = sum(turn_frames)
        if prepared.lead < self.lead:
            raise ValueError(
                f"clips are led in by {prepared.lead} frames, but a window looks back {self.lead}"
            )
        self._starts = self._all_starts()

    def __len__(self) -> int:
        """Return the number of windows of an epoch."""
        return len(self._starts)

    def windows_of(self, step: int) -> np.ndarray:
        """Return (batch,) rows at which the windows of a step start; a step is all it needs to know."""
        order: list[int] = []
        position = step * self.batch
        while len(order) < self.batch:
            epoch, index = divmod(position + len(order), len(self._starts))
            shuffled = np.random.default_rng((self._seed, 1, epoch)).permutation(len(self._starts))
            order.extend(shuffled[index : index + self.batch - len(order)].tolist())
        if self._augmentation is None:
            return self._starts[order, 0]
        # Windows begin anywhere between two grid points, so that no epoch repeats another.
        shift = np.random.default_rng((self._seed, 2, step)).random(self.batch)
        shifted = (shift * self._starts[order, 1]).astype(np.int64)
        return self._starts[order, 0] + shifted // self._grid * self._grid

    def turns_of(self, step: int) -> list[int]:
        """Return the lengths of the turns of a step's windows [frames].

        Every other step has the model's own turns alone, for they are what it mostly runs with. In a mixture
        each stretch as long as the longest turn is filled again; a turn that would not fit is cut.
        """
        rng = np.random.default_rng((self._seed, 4, step))
        if not self._turn_lengths or rng.random() < OWN_TURNS_SHARE:
            return list(self._turn_frames)
        turns: list[int] = []
        left = self._length
        while left:
            stretch = min(left, max(self._turn_lengths))
            left -= stretch
            while stretch:
                fitting = [length for length in self._turn_lengths if length <= stretch] or [stretch]
                turns.append(int(rng.choice(fitting)))
                stretch -= turns[-1]
        return turns

    def draw(self, step: int) -> TrainingBatch:
        """Return the batch of a step."""
        first = self.windows_of(step)
        rows = first[:, None] - self.lead + np.arange(self.lead + self._length)
        read = {name: np.asarray(getattr(self._prepared, name)[rows.ravel()]) for name in STREAMS}
        shaped = {name: array.reshape(*rows.shape, -1) for name, array in read.items()}
        seen = shaped["user_valid"].astype(np.float32)
        user_motion = self._statistics.normalise(shaped["user_motion"])
        if self._augmentation is not None:
            rng = np.random.default_rng((self._seed, 3, step))
            _invent_expression(user_motion, seen, self._augmentation, rng)
        user_motion *= np.repeat(seen, PART_SIZES, axis=2)
        agent_known = np.asarray(shaped["agent_valid"][..., 1:].all(axis=2), np.float32)
        agent_motion = self._statistics.normalise(shaped["agent_motion"])
        return TrainingBatch(
            turn_frames=self.turns_of(step),
            lead=self.lead,
            user_speech=_tensor(shaped["user_speech"]),
            user_motion=_tensor(user_motion),
            agent_speech=_tensor(shaped["agent_speech"]),
            agent_motion=_tensor(agent_motion),
            user_motion_seen=_tensor(seen),
            agent_motion_known=_tensor(agent_known),
        )

    def _all_starts(self) -> np.ndarray:
        """Return (windows, 2): first row of each window, and by how much it may be shifted."""
        starts = []
        for clip in range(len(self._prepared.names)):
            spare = self._prepared.frames(clip) - self._length
            first = int(self._prepared.first_rows[clip]) + self._prepared.lead
            for offset in range(0, spare + 1, self._length):
                known = self._prepared.agent_valid[first + offset : first + offset + self._length, 1:]
                if known.all():
                    starts.append((first + offset, min(self._length - 1, spare - offset)))
        if not starts:
            raise ValueError(
                f"no clip has {self._length} frames in a row with the agent's motion; use shorter windows or "
                "longer clips"
            )
        return np.array(starts, np.int64)


def window_lead(turn_frames: Sequence[int], turn_lengths: Sequence[int], config: ModelConfig) -> int:
    """Return how many frames before a window any of its turns may look back."""
    firsts = turn_lengths or turn_frames[:1]
    return max(lead_frames(turn_frames, config), *(lead_frames([first], config) for first in firsts))


def motion_statistics(prepared: PreparedSplit) -> MotionStatistics:
    """Return the units of motion in the model, from the agent's motion.

    A group that hardly moves in the corpus keeps a unit of its ordinary size (expression 1, jaw and neck
    0.01 rad): the user's side is measured in the same units, and may well move there.
    """
    known = prepared.agent_valid
    minimum_std = np.repeat(np.array([1.0, 0.01, 0.01]), PART_SIZES)
    mean, std = np.zeros(MOTION_DIM), minimum_std.copy()
    for group, part in enumerate(MOTION_GROUPS.values()):
        rows = prepared.agent_motion[known[:, group], part]
        if len(rows) > 1:
            mean[part] = rows.mean(axis=0, dtype=np.float64)
            std[part] = rows.std(axis=0, dtype=np.float64)
    return MotionStatistics(mean.astype(np.float32), np.maximum(std, minimum_std).astype(np.float32))


def _invent_expression(
    motion: np.ndarray, seen: np.ndarray, how: Augmentation, rng: np.random.Generator
) -> None:
    """Put slow random movement where a seen user has no expression; changes both arrays."""
    batch, length = seen.shape[:2]
    has_pose: np.ndarray = seen[..., 1:].max(axis=2) > 0
    drawn: np.ndarray = rng.random((batch, 1)) < how.expression_probability
    wanted = drawn & has_pose & (seen[..., 0] == 0)
    knots = rng.standard_normal((batch, length // 10 + 2, 50)) * 0.5 + rng.standard_normal((batch, 1, 50))
    at = np.arange(length) / 10
    low = at.astype(int)
    share = (0.5 - 0.5 * np.cos(np.pi * (at - low)))[:, None]
    moving = how.expression_std * ((1 - share) * knots[:, low] + share * knots[:, low + 1])
    motion[..., :50] = np.where(wanted[..., None], moving, motion[..., :50])
    seen[..., 0] = np.where(wanted, 1.0, seen[..., 0])


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
