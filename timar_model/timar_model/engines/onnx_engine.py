"""The ONNX engines: onnxruntime on TensorRT, CUDA or the CPU, whichever can run; imports no torch.

The cache is bound as input and output of the graph at once, so new keys and values are written where they
belong and history never moves, on whatever device it lies.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.cancellation import CURRENT

from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import (
    Array,
    SpeechFeatures,
    TokenPositions,
    TurnInputs,
    Wav2Vec2Features,
    speech_features,
)
from timar_model.engines.engine import Past
from timar_model.engines.environment import newer_graph
from timar_model.engines.int8_kernels import AS_STORED, Int8Kernels, choose_kernels
from timar_model.engines.providers import provider_obstacles, usable_providers
from timar_model.model_folder import ModelFolder
from timar_model.session.cache import CacheMemory, Mask, Slots, TokenRing

BACKBONE, HEAD, SPEECH = "backbone.onnx", "head.onnx", "speech.onnx"
PAST_INPUTS = ("past_motion", "past_motion_known")
"""What the graph of a head that samples turns reads besides."""
_MASK_VALUE = np.float32(-1e9)
"""Added to the score of a slot that may not be seen, by the extra value of its key."""

_log = logging.getLogger(__name__)


def variant_file(name: str, variant: str) -> str:
    """Return the file of a graph in a variant: "backbone.onnx" in int8 is "backbone.int8.onnx"."""
    if variant == "float32" or (variant, name) == ("float16", HEAD):
        return name
    return name.replace(".onnx", f".{variant}.onnx")


def export_command(folder: str | Path, variant: str) -> str:
    """Return the command that writes the graphs of a variant into a folder: the remedy where they lack."""
    return f"timar export {'' if variant == 'float32' else f'--{variant} '}{folder}"


def ring_names(config: ModelConfig) -> list[tuple[str, str]]:
    """Return the names of each block's keys and values."""
    return [(f"ring_keys.{block}", f"ring_values.{block}") for block in range(config.blocks)]


def backbone_inputs(config: ModelConfig, is_fused: bool) -> list[str]:
    """Return the names of the backbone graph's inputs, in order."""
    streams = ["user_speech", "user_speech_seen", "user_motion", "user_motion_seen", "agent_speech"]
    streams += ["agent_motion", "agent_motion_known"]
    if config.past_tokens:
        streams += ["past_motion", "past_motion_known"]
    where = ["source", "kind", "cos", "sin"] if config.positions == "rotary" else ["source", "index"]
    rings = [name for pair in ring_names(config) for name in pair]
    mask = [] if is_fused else ["ring_bias"]
    return [*streams, *where, "motion_rows", "ring_index", *mask, *rings]


class HostMemory(CacheMemory):
    """The cache in numpy arrays that onnxruntime writes in place.

    Keys are (B, H, C, W / H + 1): the value more can mask them. Values, which the fused attention wants as
    wide, too.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__(*shape)
        self._mask_all()

    def show(self, rows: slice, mask: Mask) -> None:
        """Mask and show slots (B, C) where that has changed."""
        for row, seen in zip(range(self.rows)[rows], mask, strict=True):
            changed = np.flatnonzero(self._seen[row] != seen)
            if changed.size:
                column = np.where(seen[changed], np.float32(0.0), _MASK_VALUE)
                for keys in self.keys:
                    keys[row][:, changed, -1] = column
                self._seen[row] = seen

    def erase(self, row: int, slots: Slots) -> None:
        """Overwrite slots; see `CacheMemory.erase`."""
        super().erase(row, slots)
        self._seen[row, slots] = True

    def swap(self, row: int, other: TokenRing, count: int) -> None:
        """Exchange slots, and with them which are shown; see `CacheMemory.swap`."""
        super().swap(row, other, count)
        assert isinstance(other.memory, HostMemory)
        theirs = other.memory._seen[other.row]
        self._seen[row, :count], theirs[:count] = theirs[:count].copy(), self._seen[row, :count].copy()

    def _resize(self, capacity: int) -> None:
        super()._resize(capacity)
        self._mask_all()

    def _mask_all(self) -> None:
        self._seen = np.zeros((self.rows, self.capacity), bool)
        for keys in self.keys:
            keys[..., -1] = _MASK_VALUE
        self.bindings: dict[tuple[int, bool, int], Any] = {}
        """What onnxruntime has bound, by engine and rows."""

    def _allocate(self, capacity: int) -> Any:
        return np.zeros((self.rows, self.heads, capacity, self.head_dim + 1), np.float32)


class DeviceMemory(CacheMemory):
    """The cache on a device, in float16; only resizing and erasing, which are rare, go through the host."""

    can_swap = False

    def __init__(self, device: str, is_aliased: bool, *shape: int) -> None:
        self._device = device
        self.is_aliased = is_aliased
        """Whether input and output may be one buffer; TensorRT gets two, which are swapped every pass."""
        super().__init__(*shape)
        self.spare = self._new_spare()

    def erase(self, row: int, slots: Slots) -> None:
        """Overwrite slots by way of the host."""
        for value in (*self.keys, *self.values):
            held = value.numpy()
            held[row][:, slots] = 0.0
            value.update_inplace(held)

    def take_written(self) -> None:
        """Let what a whole pass wrote be the cache."""
        if not self.is_aliased:
            held = [value for pair in zip(self.keys, self.values, strict=True) for value in pair]
            self.keys, self.values, self.spare = self.spare[0::2], self.spare[1::2], held

    def _resize(self, capacity: int) -> None:
        super()._resize(capacity)
        self.spare = self._new_spare()

    def _new_spare(self) -> list[Any]:
        return [] if self.is_aliased else [self._allocate(self.capacity) for _ in range(2 * len(self.keys))]

    def _moved(self, array: Any, capacity: int) -> Any:
        moved = np.zeros((self.rows, self.heads, capacity, self.head_dim), np.float16)
        return self._placed(self._copy_tokens(array.numpy(), moved, capacity))

    def _allocate(self, capacity: int) -> Any:
        return self._placed(np.zeros((self.rows, self.heads, capacity, self.head_dim), np.float16))

    def _placed(self, array: npt.NDArray[np.float16]) -> Any:
        import onnxruntime

        return onnxruntime.OrtValue.ortvalue_from_numpy(array, self._device, 0)


class OnnxEngine:
    """Run a model's exported graphs; see `Engine`.

    Args:
        config: The model's.
        variant: "float32", "float16" or "int8".
        graphs: onnxruntime's sessions of `BACKBONE` and `HEAD`.
        speech: Features of voices; None: those that the configuration asks for.
        kernels: What computes int8 products.
    """

    def __init__(
        self,
        config: ModelConfig,
        variant: str,
        graphs: dict[str, Any],
        speech: SpeechFeatures | None = None,
        kernels: Int8Kernels = AS_STORED,
    ) -> None:
        self.config = config
        self.name = "onnx-int8" if variant == "int8" else "onnx"
        # onnxruntime puts first the provider that takes whatever it can.
        self._provider = graphs[BACKBONE].get_providers()[0]
        numbers = "int8-7bit" if kernels.bits == 7 else variant
        self.label = f"onnx-{self._provider.removesuffix('ExecutionProvider').lower()}-{numbers}"
        # One scale for the activations of all rows would let conversations change each other.
        self.is_batch_dependent = variant == "int8"
        self._variant = variant
        self._graphs = graphs
        self._speech = speech
        self._dtype = np.float16 if variant == "float16" else np.float32
        rings = {name for pair in ring_names(config) for name in pair}
        self._names = [name for name in backbone_inputs(config, variant != "float16") if name not in rings]

    @classmethod
    def from_folder(
        cls, folder: ModelFolder, threads: int = 1, variant: str = "float32", is_spinning: bool = False
    ) -> OnnxEngine:
        """Open the graphs of a model folder; float16 graphs are preferred where a CUDA device is.

        Args:
            folder: The model's.
            threads: Of onnxruntime, for this engine.
            variant: "float32", or "int8".
            is_spinning: Whether waiting threads spin: faster turns, but it takes the core from other nodes.

        Raises:
            FileNotFoundError: The folder holds no such graphs.
            ValueError: The number of threads is not positive, or another version exported the graphs.
        """
        if threads < 1:
            raise ValueError(f"the onnx engine was given {threads} threads, expected at least 1")
        variant, providers = choose(folder.path, variant)
        names = [BACKBONE, HEAD]
        if folder.config.speech_encoder == "wav2vec2":
            names.append(SPEECH)
        kernels = choose_kernels(folder) if variant == "int8" else AS_STORED
        graphs = {
            name: open_graph(folder.path, name, providers, threads, is_spinning, variant, kernels)
            for name in names
        }
        wanted = set(backbone_inputs(folder.config, variant != "float16"))
        if others := wanted ^ {one.name for one in graphs[BACKBONE].get_inputs()}:
            graph = folder.path / variant_file(BACKBONE, variant)
            raise ValueError(
                f"{str(graph)!r} was exported by another version: it and this one differ in the input "
                f"{min(others)}; export it again: {export_command(folder.path, variant)}"
            )
        _log.info("onnx engine in %s on %s", variant, ", ".join(graphs[BACKBONE].get_providers()))
        speech = None
        if SPEECH in graphs:
            encode = functools.partial(_encode_speech, graphs[SPEECH], variant)
            speech = Wav2Vec2Features(encode, folder.config.loudness)
        return cls(folder.config, variant, graphs, speech, kernels)

    def speech_features(self) -> SpeechFeatures:
        """Return features of voices by the exported encoder where there is one, else in numpy."""
        return self._speech or speech_features(self.config)

    def init_state(self, batch: int, capacity: int) -> CacheMemory:
        """Return memory without history; see `Engine.init_state`."""
        config = self.config
        shape = (config.blocks, batch, config.heads, config.head_dim, capacity)
        if self._variant != "float16":
            return HostMemory(*shape)
        device = "cpu" if self._provider == "CPUExecutionProvider" else "cuda"
        return DeviceMemory(device, self._provider != "TensorrtExecutionProvider", *shape)

    def encode(
        self,
        inputs: TurnInputs[Array],
        positions: TokenPositions[Any],
        rings: Sequence[TokenRing],
        from_tokens: Sequence[int],
    ) -> Array:
        """Run the backbone; see `Engine.encode`."""
        memory = rings[0].memory
        rows, slots, seen = memory.reserve(rings, from_tokens, positions.source.size)
        feed: dict[str, Any] = {**vars(inputs), **vars(positions)}
        feed["ring_index"] = _ring_index(slots, memory.heads)
        if isinstance(memory, HostMemory):
            memory.show(rows, seen)
            binding = self._bound_host(memory, rows)
        else:
            if len(rings) != memory.rows:
                raise ValueError(
                    f"one of {memory.rows} conversations on a device was asked for; step all together"
                )
            feed["ring_bias"] = np.where(seen, 0.0, -np.inf)[:, None, None]  # (B, 1, 1, C)
            binding = self._bound_device(memory)
        for name in self._names:
            array = np.ascontiguousarray(feed[name])
            if array.dtype.kind == "f":
                array = array.astype(self._dtype, copy=False)
            binding.bind_cpu_input(name, array)
        conditions = np.empty((len(rings), positions.motion_rows.size, self.config.width), self._dtype)
        binding.bind_output("conditions", "cpu", 0, self._dtype, conditions.shape, conditions.ctypes.data)
        run(self._graphs[BACKBONE].run_with_iobinding, binding)
        if isinstance(memory, DeviceMemory):
            memory.take_written()
        return conditions.astype(np.float32, copy=False)  # (B, F, W)

    def sample(self, conditions: Array, noise: Array, steps: int, guidance: float, past: Past) -> Array:
        """Sample motion; see `Engine.sample`.

        Raises:
            ValueError: The graphs were exported for another number of steps.
        """
        if steps != self.config.sampling.steps:
            raise ValueError(
                f"the onnx graphs sample by {self.config.sampling.steps} steps, not {steps}; "
                "ask for that number, or use the torch engine"
            )
        feed = {"conditions": conditions, "noise": noise, "guidance": np.array(guidance)}
        if self.config.draws == "turns":
            feed.update(zip(PAST_INPUTS, past, strict=True))
        given = {k: np.asarray(v, np.float32) for k, v in feed.items()}
        found = run(self._graphs[HEAD].run, None, given)
        return np.asarray(found[0])  # (rows, 56)

    def _bound_host(self, memory: HostMemory, rows: slice) -> Any:
        key = (id(self), rows.start is None, rows.start or 0)
        if key not in memory.bindings:
            binding = self._graphs[BACKBONE].io_binding()
            for names, pair in zip(
                ring_names(self.config), zip(memory.keys, memory.values, strict=True), strict=True
            ):
                for name, array in zip(names, pair, strict=True):
                    part = array[rows]
                    place = (np.float32, part.shape, part.ctypes.data)
                    binding.bind_input(name, "cpu", 0, *place)
                    binding.bind_output(f"{name}.out", "cpu", 0, *place)
            memory.bindings[key] = binding
        return memory.bindings[key]

    def _bound_device(self, memory: Any) -> Any:
        binding = self._graphs[BACKBONE].io_binding()
        held = [value for pair in zip(memory.keys, memory.values, strict=True) for value in pair]
        into = held if memory.is_aliased else memory.spare
        names = [name for pair in ring_names(self.config) for name in pair]
        for name, value, written in zip(names, held, into, strict=True):
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(f"{name}.out", written)
        return binding


def _encode_speech(graph: Any, variant: str, sound: Array) -> Array:
    """Encode (voices, 640 n) samples to (voices, n, S) by the exported wav2vec 2.0."""
    given = {"sound": sound.astype(np.float16 if variant == "float16" else np.float32)}
    return np.asarray(run(graph.run, None, given)[0], np.float32)


def run(of_graph: Callable[..., Any], *arguments: Any) -> Any:
    """Call a graph's own method of running; onnxruntime ends it at the next operator when it is cancelled.

    Raises:
        WorkCancelledError: It was.
    """
    cancellation = CURRENT.get()
    if cancellation is None:
        return of_graph(*arguments)
    import onnxruntime

    options = onnxruntime.RunOptions()
    with cancellation.interrupting(lambda: setattr(options, "terminate", True)):
        return of_graph(*arguments, options)


def choose(folder: Path, variant: str) -> tuple[str, list[str]]:
    """Return the variant that runs and its providers, best first."""
    for obstacle in filter(None, provider_obstacles().values()):
        _log.warning("%s", obstacle)
    providers = usable_providers()
    has_device = providers[0] != "CPUExecutionProvider"
    if variant == "float32" and has_device and (folder / variant_file(BACKBONE, "float16")).is_file():
        return "float16", providers
    # The float32 and int8 graphs attend by an operator that is fused for the CPU.
    return variant, ["CPUExecutionProvider"]


def open_graph(
    folder: Path,
    name: str,
    providers: list[str],
    threads: int = 1,
    is_spinning: bool = False,
    variant: str = "float32",
    kernels: Int8Kernels = AS_STORED,
) -> Any:
    """Open one graph of a folder in a variant.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: onnxruntime rejects it.
    """
    path = folder / variant_file(name, variant)
    if not path.is_file():
        raise FileNotFoundError(
            f"the model folder {str(folder)!r} lacks {path.name}; "
            f"write it with: {export_command(folder, variant)}"
        )
    return open_graph_file(path, providers, threads, is_spinning, kernels, export_command(folder, variant))


def open_graph_file(
    path: Path,
    providers: list[str],
    threads: int = 1,
    is_spinning: bool = False,
    kernels: Int8Kernels = AS_STORED,
    remedy: str = "timar export",
) -> Any:
    """Open a graph's file.

    Raises:
        ValueError: onnxruntime rejects it; the message names the command that writes it again.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A spinning thread would take the core from the other nodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if is_spinning else "0")
    # What replaces weights must live until the session has copied them.
    held = kernels.options_for(options, path.parent)
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[(name, _provider_options(name, path.parent)) for name in providers]
        )
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            if newer := newer_graph(str(path), str(error), remedy):
                raise ValueError(newer) from error
            raise ValueError(
                f"onnxruntime rejects {str(path)!r} ({error}); write it again with: {remedy}"
            ) from error
        raise
    finally:
        del held


def _provider_options(provider: str, folder: Path) -> dict[str, str]:
    """Return a provider's options; TensorRT keeps what it builds beside the model."""
    if provider != "TensorrtExecutionProvider":
        return {}
    return {
        "trt_fp16_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder / "tensorrt"),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder / "tensorrt"),
    }


def _ring_index(slots: npt.NDArray[np.int64], heads: int) -> npt.NDArray[np.int64]:
    """Return (B, H, L, 3) row, head and slot of every new token."""
    rows, length = slots.shape
    index = np.empty((rows, heads, length, 3), np.int64)
    index[..., 0] = np.arange(rows)[:, None, None]
    index[..., 1] = np.arange(heads)[None, :, None]
    index[..., 2] = slots[:, None]
    return index
