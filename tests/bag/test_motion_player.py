"""A person's recorded motion plays along with their voice: each frame once, never ahead of its time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from timar_bag.motion_player import MotionPlayer, MotionPlayerConfig, load_motion
from timar_bag.motion_player_component import MotionPlayerComponent
from timar_common.messages import Header, new
from timar_common.motion_file import MotionTrack, read_motion, write_motion
from timar_common.user_motion import user_motion_from

FRAME, BLOCK = 640, 320
SHIPPED = Path(__file__).resolve().parents[2] / "examples/data/conversation/conversation_speaker1.npz"


def track(frames: int = 50) -> MotionTrack:
    rng = np.random.default_rng(7)
    motion = rng.normal(0.0, 0.1, (frames, 56)).astype(np.float32)
    return MotionTrack(motion, rng.random((frames, 3)) < 0.9)


def played(player: MotionPlayer, firsts: range | list[int]) -> list[tuple[int, range]]:
    """Hear blocks and return what was told, each with the sample until which was heard."""
    return [(first + BLOCK, run) for first in firsts for run in player.append(first, BLOCK)]


@pytest.mark.parametrize("run_frames", [1, 3, 5])
def test_every_frame_is_published_once_in_order(run_frames: int):
    whole = track(50)
    player = MotionPlayer(whole, MotionPlayerConfig(run_frames=run_frames))
    told = [run for _, run in played(player, range(0, 60 * FRAME, BLOCK))]
    assert [run.start for run in told] == list(range(0, 50, run_frames))
    assert [frame for run in told for frame in run] == list(range(50))
    assert player.frames_published == 50


@pytest.mark.parametrize("run_frames", [1, 3])
def test_published_motion_is_as_it_stands_in_the_file(run_frames: int, tmp_path: Path):
    whole = track(50)
    write_motion(tmp_path / "user.npz", whole)
    component = MotionPlayerComponent(
        MotionPlayerConfig(file=str(tmp_path / "user.npz"), run_frames=run_frames)
    )
    published = []
    for first in range(0, 60 * FRAME, BLOCK):
        header = Header(first * 62_500, "microphone")
        block = new("AudioChunk", header=header, first_sample=first, samples=np.zeros(BLOCK, np.int16))
        published += [output.message for output in component.handle("user/audio", block, 0)]
    motion, valid = (np.concatenate(rows) for rows in zip(*map(user_motion_from, published), strict=True))
    np.testing.assert_array_equal(valid, whole.valid)
    seen = np.repeat(whole.valid, (50, 3, 3), axis=1)
    np.testing.assert_array_equal(motion[seen], whole.vector[seen])
    assert [message.first_frame for message in published] == list(range(0, 50, run_frames))
    assert all(message.header.stamp == message.first_frame * 40_000_000 for message in published)


@pytest.mark.parametrize("delay_ms", [0, 20, 100])
@pytest.mark.parametrize("run_frames", [1, 5])
def test_no_frame_is_told_before_its_delay_is_over_nor_before_its_first_sample(
    delay_ms: int, run_frames: int
):
    player = MotionPlayer(track(), MotionPlayerConfig(delay_ms=delay_ms, run_frames=run_frames))
    for heard_until, run in played(player, range(0, 60 * FRAME, BLOCK)):
        last = run[-1]
        assert heard_until >= last * FRAME + delay_ms * 16
        assert heard_until > last * FRAME


def test_a_frame_is_there_before_its_sound_is_whole_so_that_the_turn_which_ends_with_it_has_it():
    player = MotionPlayer(track(), MotionPlayerConfig())
    for heard_until, run in played(player, range(0, 50 * FRAME, BLOCK)):
        assert heard_until < (run.start + 1) * FRAME


def test_repeated_blocks_tell_nothing_again():
    player = MotionPlayer(track(), MotionPlayerConfig())
    assert len(played(player, [0, 320, 640, 0, 320, 640])) == 2


def test_frames_of_a_long_gap_are_left_out_and_counted():
    player = MotionPlayer(track(500), MotionPlayerConfig(catch_up_s=1.0))
    played(player, [0])
    told = [run.start for _, run in played(player, [200 * FRAME])]
    assert told == list(range(176, 201))
    assert player.frames_left_out == 175


def test_a_counter_that_begins_anew_begins_the_motion_anew():
    player = MotionPlayer(track(), MotionPlayerConfig())
    played(player, range(0, 10 * FRAME, BLOCK))
    player.restart()
    assert [run.start for _, run in played(player, [0, 320, 640])] == [0, 1]


def test_impossible_block_is_refused():
    with pytest.raises(ValueError, match="starts at sample -1"):
        MotionPlayer(track(), MotionPlayerConfig()).append(-1, 320)


def test_shipped_motion_is_of_the_length_of_its_voice():
    assert load_motion(SHIPPED).vector.shape == (1525, 56)


def test_motion_with_a_number_that_is_no_angle_is_refused_unless_marked_unseen(tmp_path: Path):
    whole = track(10)
    whole.valid[:] = True
    whole.vector[4, 54] = 7.0
    write_motion(tmp_path / "seen.npz", whole)
    with pytest.raises(ValueError, match=r"seen\.npz, frame 4: neck is 7, expected -3\.142 to 3\.142"):
        load_motion(tmp_path / "seen.npz")
    whole.valid[4, 2] = False
    write_motion(tmp_path / "unseen.npz", whole)
    np.testing.assert_array_equal(
        load_motion(tmp_path / "unseen.npz").valid, read_motion(tmp_path / "unseen.npz").valid
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("nowhere.npz", None, "there is no motion file"),
        ("words.npz", b"no archive", "cannot be read as npz"),
        ("empty.npz", {"exp": np.zeros((0, 50)), "pose": np.zeros((0, 6))}, "holds no frame"),
        ("other.npz", {"motion": np.zeros((3, 56))}, r"expected exp \(T, 50\) and pose \(T, 6\)"),
    ],
)
def test_file_that_cannot_be_played_is_named(tmp_path: Path, name: str, content, sentence: str):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, **content)
    with pytest.raises(ValueError, match=sentence) as error:
        load_motion(path)
    assert name in str(error.value)
