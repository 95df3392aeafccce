"""ROS messages without ROS: dataclasses with numpy arrays made from the ``.msg`` files, and their CDR bytes.

The classes come from rosbags' typestore, which reads the message text itself: a field that is added to a
``.msg`` file is known to components, to both hosts and to the bag reader without a second edit.

Inside components a header's stamp is CLOCK_MONOTONIC [ns]; `encode` and `decode` translate it to and from ROS
time at the border, with a function that the host gives.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from timar_common.suggest import unknown_name
from timar_common.trajectory_cdr import TrajectoryPoints, serialize_trajectory

PACKAGE = "timar_msgs"
BASE, NAME, ARRAY, SEQUENCE = 1, 2, 3, 4
"""Kinds of a field in rosbags' type definitions."""
DTYPES: dict[str, Any] = {"bool": np.bool_, "byte": np.uint8, "char": np.uint8} | {
    name: np.dtype(name)
    for name in (
        "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64",
    )
}  # fmt: skip

Message = Any
"""An object of one of the typestore's classes."""


@dataclasses.dataclass(slots=True)
class Header:
    """The std_msgs/Header of a message inside a component."""

    stamp: int = 0
    """CLOCK_MONOTONIC [ns]; 0 where the message carried no stamp."""
    frame_id: str = ""
    wire_ns: int = 0
    """The ROS time the message carried when it came in [ns], to the last digit: it identifies the message."""


def find_message_folder() -> Path:
    """Return the folder of the project's ``.msg`` files: the installed one, else the source tree's.

    Raises:
        FileNotFoundError: Neither exists; the message says what was looked for and what to do.
    """
    prefixes = [
        Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix
    ]
    candidates = [prefix / "share" / PACKAGE / "msg" for prefix in prefixes]
    candidates.append(Path(__file__).resolve().parents[2] / PACKAGE / "msg")
    for folder in candidates:
        if any(folder.glob("*.msg")):
            return folder
    raise FileNotFoundError(
        f"no message definitions of {PACKAGE} in any of {', '.join(map(str, candidates))}; "
        "build the workspace and source its setup file"
    )


@functools.lru_cache(maxsize=1)
def standard_types() -> Typestore:
    """Return the types of ROS 2 Kilted and of this project; made once, for it takes a while."""
    store = get_typestore(Stores.ROS2_KILTED)
    texts = {
        f"{PACKAGE}/msg/{path.stem}": path.read_text("utf-8") for path in find_message_folder().glob("*.msg")
    }
    types: dict[str, Any] = {}
    for name, text in sorted(texts.items()):
        types |= get_types_from_msg(text, name)
    store.register(types)
    return store


def full_name(type_name: str) -> str:
    """Return a type's full name; one without a package is of this project."""
    return type_name if "/" in type_name else f"{PACKAGE}/msg/{type_name}"


def new(type_name: str, types: Typestore | None = None, /, **fields: Any) -> Message:
    """Return a message; fields that are not given are zero, empty or false.

    Args:
        type_name: For example ``sensor_msgs/msg/JointState``, or ``HeadMotion`` for one of this project's.
        types: Where its definition is; the standard ones unless given.
        fields: Values by field name; sequences of numbers become arrays of the field's type.

    Raises:
        TypeError: The type has no such field.
    """
    store = types or standard_types()
    name = full_name(type_name)
    plan = _plan(store, name)
    if unknown := fields.keys() - plan.keys():
        raise TypeError(unknown_name("field", min(unknown), plan, owner=name))
    return store.types[name](
        **{key: convert(fields[key]) if key in fields else empty() for key, (empty, convert) in plan.items()}
    )


def prepare(type_names: Iterable[str]) -> None:
    """Make classes and (de)serializers of message types before they are needed; it takes tenths of a second.

    Args:
        type_names: Full names.
    """
    for name in type_names:
        decode(encode(_sample(name), int), name, int)


def _sample(type_name: str) -> Message:
    """Return a message with one element in every sequence of messages, so that their classes are made too."""
    nested = {
        field: [_sample(str(kind[1][0][1]))]
        for field, kind in standard_types().fielddefs[type_name][1]
        if int(kind[0]) == SEQUENCE and int(kind[1][0][0]) == NAME
    }
    return new(type_name, **nested)


def constants(type_name: str) -> dict[str, Any]:
    """Return the constants of a message type by name."""
    return {name: value for name, _, value in standard_types().fielddefs[full_name(type_name)][0]}


def encode(message: Message, ros_ns: Callable[[int], int]) -> bytes:
    """Return a component's message as CDR.

    Args:
        message: Its header, if it has one, is a `Header`.
        ros_ns: Gives the ROS time of a monotonic instant [ns].
    """
    header = getattr(message, "header", None)
    if isinstance(header, Header):
        message.header = wire_header(_stamp_to_send_ns(header, ros_ns), header.frame_id)
    try:
        types = standard_types()
        if isinstance(getattr(message, "points", None), TrajectoryPoints):
            return serialize_trajectory(message, types)
        return bytes(types.serialize_cdr(message, message.__msgtype__))
    finally:
        if isinstance(header, Header):
            message.header = header


def _stamp_to_send_ns(header: Header, ros_ns: Callable[[int], int]) -> int:
    """Return the ROS time to write: that of a header that came from the wire goes out as it came."""
    if header.wire_ns:
        return header.wire_ns
    return ros_ns(header.stamp) if header.stamp else 0


def decode(data: bytes | memoryview, type_name: str, monotonic_ns: Callable[[int], int]) -> Message:
    """Return the message of CDR bytes as components take it.

    Args:
        data: CDR.
        type_name: Full name of its type.
        monotonic_ns: Gives the monotonic instant of a ROS time [ns].

    Raises:
        ValueError: The bytes are no such message.
    """
    try:
        message = standard_types().deserialize_cdr(data, type_name)
    except (
        Exception
    ) as error:  # rosbags raises what its generated code meets: AssertionError, struct.error, …
        raise ValueError(f"{len(data)} bytes are no {type_name} ({type(error).__name__})") from error
    return with_monotonic_header(message, monotonic_ns)


def with_monotonic_header(message: Message, monotonic_ns: Callable[[int], int]) -> Message:
    """Give a message as it came from the wire the `Header` of components, in place; return it."""
    header = getattr(message, "header", None)
    if header is not None and not isinstance(header, Header):
        wire_ns = stamp_ns(message)
        message.header = Header(monotonic_ns(wire_ns) if wire_ns else 0, header.frame_id, wire_ns)
    return message


def stamp_ns(message: Message) -> int:
    """Return the header stamp of a message as it came from the wire: ROS time [ns]."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def wire_header(ros_ns: int, frame_id: str = "") -> Any:
    """Return a std_msgs/Header of a ROS time [ns]."""
    return standard_types().types["std_msgs/msg/Header"](stamp=wire_time(ros_ns), frame_id=frame_id)


def wire_time(ros_ns: int) -> Any:
    """Return a builtin_interfaces/Time [ns]."""
    return standard_types().types["builtin_interfaces/msg/Time"](sec=ros_ns // 10**9, nanosec=ros_ns % 10**9)


def duration(ns: int) -> Any:
    """Return a builtin_interfaces/Duration [ns]."""
    return standard_types().types["builtin_interfaces/msg/Duration"](sec=ns // 10**9, nanosec=ns % 10**9)


def converted(message: Any, type_name: str, types: Typestore | None = None) -> Message:
    """Return a message that was read by another definition of its type as one of ours, field by field."""
    store = types or standard_types()
    fields = {}
    for name, kind in store.fielddefs[type_name][1]:
        if hasattr(message, name):
            fields[name] = _converted_field(store, getattr(message, name), kind)
    return new(type_name, store, **fields)


def _converted_field(store: Typestore, value: Any, kind: Any) -> Any:
    node, detail = int(kind[0]), kind[1]
    if isinstance(value, Header):
        return value
    if node == NAME:
        return converted(value, detail, store)
    if node in (ARRAY, SEQUENCE) and int(detail[0][0]) == NAME:
        return [converted(item, detail[0][1], store) for item in value]
    return value


_PLANS: dict[tuple[int, str], dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]] = {}


def _plan(store: Typestore, name: str) -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Return by field what makes an empty one and what converts a given one; made once per type."""
    key = (id(store), name)
    if key not in _PLANS:
        _PLANS[key] = {field: _field_plan(store, kind) for field, kind in store.fielddefs[name][1]}
    return _PLANS[key]


def _field_plan(store: Typestore, kind: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    node, detail = int(kind[0]), kind[1]
    if node == BASE:
        base = detail[0]
        value: Any = "" if base in ("string", "wstring") else False if base == "bool" else 0
        return (lambda: value), _unchanged
    if node == NAME:
        if detail == "std_msgs/msg/Header":
            return Header, _unchanged
        return functools.partial(new, detail, store), _unchanged
    inner, count = detail
    length = count if node == ARRAY else 0
    if int(inner[0]) == BASE and inner[1][0] in DTYPES:
        dtype = DTYPES[inner[1][0]]
        return functools.partial(np.zeros, length, dtype), functools.partial(np.asarray, dtype=dtype)
    empty, _ = _field_plan(store, inner)
    return (lambda: [empty() for _ in range(length)]), _as_list


def _unchanged(value: Any) -> Any:
    return value


def _as_list(value: Any) -> Any:
    return value if isinstance(value, (list, TrajectoryPoints)) else list(value)
