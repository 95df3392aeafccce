"""Deprecated alias of `timar_training.corpora.dyads`, for one release."""

from timar_common.motion_file import EXPRESSION, JAW, NECK
from timar_common.motion_file import MotionTrack as Motion

from .corpora.dyads import BadClipError, Clip, find_clips, read_motion, read_split, read_voice, write_voice

__all__ = ["EXPRESSION", "JAW", "NECK", "BadClipError", "Clip", "Motion"]
__all__ += ["find_clips", "read_motion", "read_split", "read_voice", "write_voice"]
