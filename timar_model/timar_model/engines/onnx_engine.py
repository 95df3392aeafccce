"""The ONNX engines: onnxruntime on TensorRT, CUDA or the CPU, whichever can run; imports no torch.

The rings are bound as input and output of the graph at once, so new keys and values are written where they
belong and history never moves, on whatever device it lies.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import TokenLayout, TurnInputs
from timar_model.engines.engine import Array, Past, is_whole_batch, token_positions
from timar_model.session.cache import RingMemory, Slots, TokenRing

BACKBONE, HEAD, SPEECH = "backbone.onnx", "head.onnx", "speech.onnx"
PAST_INPUTS = ("past_motion", "past_motion_known")
"""What the graph of a head that draws turns reads besides."""
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
_HIDDEN = np.float32(-1e9)
"""Added to the score of a slot that may not be seen, by the extra value of its key."""

_log = logging.getLogger(__name__)


def variant_file(name: str, variant: str) -> str:
    """Return the file of a graph in a variant: "backbone.onnx" in int8 is "backbone.int8.onnx"."""
    if variant == "float32" or (variant, name) == ("float16", HEAD):
        return name
    return name.replace(".onnx", f".{variant}.onnx")


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
    hiding = [] if is_fused else ["ring_bias"]
    return [*streams, *where, "motion_rows", "ring_index", *hiding, *rings]


class HostMemory(RingMemory):
    """Rings in numpy arrays that onnxruntime writes in place; a key carries one value that can hide it."""

    def __init__(self, *shape: int) -> None:
        self._seen: npt.NDArray[np.bool_] = np.zeros((0, 0), np.bool_)
        super().__init__(*shape)
        self._after_growth()

    def grow(self, needed: int) -> None:
        """Move to larger arrays; see `RingMemory.grow`."""
        super().grow(needed)
        self._after_growth()

    def show(self, row: int, seen: npt.NDArray[np.bool_]) -> None:
        """Hide and show slots, (C,), where that has changed."""
        changed = np.flatnonzero(self._seen[row] != seen)
        if changed.size:
            column = np.where(seen[changed], np.float32(0.0), _HIDDEN)
            for keys in self.keys:
                keys[row][:, changed, -1] = column
            self._seen[row] = seen

    def _after_growth(self) -> None:
        self._seen = np.zeros((self.rows, self.capacity), bool)
        for keys in self.keys:
            keys[..., -1] = _HIDDEN
        self.bindings: dict[tuple[int, int | None], Any] = {}
        """What onnxruntime has bound, by graph and row (None: all rows)."""

    def erase(self, row: int, slots: Slots) -> None:
        """Overwrite slots; see `RingMemory.erase`."""
        super().erase(row, slots)
        self._seen[row, slots] = True

    def _new_keys(self, capacity: int) -> Any:
        return np.zeros((self.rows, self.heads, capacity, self.head_dim + 1), np.float32)

    def _new_values(self, capacity: int) -> Any:
        return self._new_keys(capacity)


class DeviceMemory(RingMemory):
    """Rings on a device, in float16; only growing and erasing, which are rare, go through the host."""

    def __init__(self, device: str, is_aliased: bool, *shape: int) -> None:
        self._device = device
        self.is_aliased = is_aliased
        """Whether input and output may be one buffer; TensorRT gets two, which change places every pass."""
        super().__init__(*shape)
        self.spare = [] if is_aliased else [self._new_keys(self.capacity) for _ in range(2 * len(self.keys))]

    def grow(self, needed: int) -> None:
        """Move to larger arrays by way of the host."""
        new = max(needed, 2 * self.capacity)
        for arrays in (self.keys, self.values):
            for block, before in enumerate(arrays):
                old, after = before.numpy(), np.zeros((self.rows, self.heads, new, self.head_dim), np.float16)
                for row, ring in enumerate(self.rings):
                    kept = np.arange(ring.first, ring.end)
                    after[row][:, kept % new] = old[row][:, kept % self.capacity]
                arrays[block] = self._placed(after)
        self.capacity = new
        self.spare = [self._new_keys(new) for _ in self.spare]

    def erase(self, row: int, slots: Slots) -> None:
        """Overwrite slots by way of the host."""
        for value in (*self.keys, *self.values):
            held = value.numpy()
            held[row][:, slots] = 0.0
            value.update_inplace(held)

    def _new_keys(self, capacity: int) -> Any:
        return self._placed(np.zeros((self.rows, self.heads, capacity, self.head_dim), np.float16))

    def _new_values(self, capacity: int) -> Any:
        return self._new_keys(capacity)

    def _placed(self, array: npt.NDArray[np.float16]) -> Any:
        import onnxruntime

        return onnxruntime.OrtValue.ortvalue_from_numpy(array, self._device, 0)


class OnnxEngine:
    """Run a model's exported graphs; see `Engine`."""

    def __init__(self, config: ModelConfig, variant: str, graphs: dict[str, Any]) -> None:
        self.config = config
        self.name = "onnx-int8" if variant == "int8" else "onnx"
        # onnxruntime puts first the provider that takes whatever it can.
        provider = graphs[BACKBONE].get_providers()[0]
        device = provider.removesuffix("ExecutionProvider").lower()
        self.label = f"onnx-{device}-{variant}"
        # One scale for the activations of all rows would let conversations hear each other.
        self.couples_rows = variant == "int8"
        self._variant = variant
        self._provider = provider
        self._graphs = graphs
        self._numbers = np.float16 if variant == "float16" else np.float32
        rings = {name for pair in ring_names(config) for name in pair}
        self._names = [name for name in backbone_inputs(config, variant != "float16") if name not in rings]

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        config: ModelConfig,
        threads: int = 1,
        variant: str = "float32",
        is_spinning: bool = False,
    ) -> OnnxEngine:
        """Open the graphs of a model folder; float16 graphs are preferred where a CUDA device is.

        Args:
            folder: The model's.
            config: The model's.
            threads: Of onnxruntime, for this engine.
            variant: "float32", or "int8".
            is_spinning: Whether waiting threads spin: faster turns, but it takes the core from other nodes.

        Raises:
            FileNotFoundError: The folder holds no such graphs.
            ValueError: The number of threads is not positive.
        """
        if threads < 1:
            raise ValueError(f"the onnx engine was given {threads} threads, expected at least 1")
        variant, providers = choose(folder, variant)
        graphs = {
            name: open_graph(folder, variant_file(name, variant), providers, threads, is_spinning)
            for name in (BACKBONE, HEAD)
        }
        _log.info("onnx engine in %s on %s", variant, ", ".join(graphs[BACKBONE].get_providers()))
        return cls(config, variant, graphs)

    def init_state(self, batch: int, capacity: int) -> RingMemory:
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
        layouts: Sequence[TokenLayout],
        rings: Sequence[TokenRing],
        from_tokens: Sequence[int],
        first_indices: Sequence[int],
    ) -> Array:
        """Run the backbone; see `Engine.encode`."""
        memory = rings[0].memory
        slots = np.stack([ring.reserve(len(layouts[0])) for ring in rings])
        seen = np.stack(
            [ring.visible(token, new) for ring, token, new in zip(rings, from_tokens, slots, strict=True)]
        )
        row = None if is_whole_batch(rings) else rings[0].row
        feed: dict[str, Any] = {**vars(inputs), **token_positions(layouts, first_indices, self.config)}
        feed["ring_index"] = _ring_index(slots, memory.heads)
        if isinstance(memory, HostMemory):
            for ring, of_row in zip(rings, seen, strict=True):
                memory.show(ring.row, of_row)
            binding = self._bound_host(memory, row)
        else:
            if row is not None:
                raise ValueError(
                    f"one of {memory.rows} conversations on a device was asked for; step all together"
                )
            feed["ring_bias"] = np.where(seen, 0.0, -np.inf)[:, None, None]
            binding = self._bound_device(memory)
        for name in self._names:
            array = np.ascontiguousarray(feed[name])
            if array.dtype.kind == "f":
                array = array.astype(self._numbers, copy=False)
            binding.bind_cpu_input(name, array)
        found = np.empty((len(rings), layouts[0].motion_rows.size, self.config.width), self._numbers)
        binding.bind_output("conditions", "cpu", 0, self._numbers, found.shape, found.ctypes.data)
        self._graphs[BACKBONE].run_with_iobinding(binding)
        return found.astype(np.float32, copy=False)

    def draw(self, conditions: Array, noise: Array, steps: int, guidance: float, past: Past) -> Array:
        """Draw motion; see `Engine.draw`.

        Raises:
            ValueError: The graphs were exported for another number of steps.
        """
        if steps != self.config.sampling.steps:
            raise ValueError(
                f"the onnx graphs draw by {self.config.sampling.steps} steps, not {steps}; "
                "ask for that number, or use the torch engine"
            )
        feed = {"conditions": conditions, "noise": noise, "guidance": np.array(guidance)}
        if self.config.draws == "turns":
            feed.update(zip(PAST_INPUTS, past, strict=True))
        found = self._graphs[HEAD].run(None, {k: np.asarray(v, np.float32) for k, v in feed.items()})
        return np.asarray(found[0])

    def _bound_host(self, memory: HostMemory, row: int | None) -> Any:
        key = (id(self), row)
        if key not in memory.bindings:
            binding = self._graphs[BACKBONE].io_binding()
            rows = slice(None) if row is None else slice(row, row + 1)
            for (keys_name, values_name), keys, values in zip(
                ring_names(self.config), memory.keys, memory.values, strict=True
            ):
                for name, array in ((keys_name, keys[rows]), (values_name, values[rows])):
                    place = (np.float32, array.shape, array.ctypes.data)
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
        if not memory.is_aliased:
            memory.keys, memory.values, memory.spare = into[0::2], into[1::2], held
        return binding


class OnnxSpeechEncoder:
    """The exported wav2vec 2.0."""

    def __init__(self, graph: Any, variant: str) -> None:
        self._graph = graph
        self._numbers = np.float16 if variant == "float16" else np.float32

    def __call__(self, sound: Array) -> Array:
        """Encode (voices, 640 n) samples to (voices, n, S)."""
        found = self._graph.run(None, {"sound": sound.astype(self._numbers, copy=False)})[0]
        return np.asarray(found, np.float32)

    @classmethod
    def from_folder(
        cls, folder: Path, threads: int = 1, variant: str = "float32", is_spinning: bool = False
    ) -> OnnxSpeechEncoder:
        """Open the graph of a model folder; arguments as of `OnnxEngine.from_folder`."""
        variant, providers = choose(folder, variant)
        file = variant_file(SPEECH, variant)
        return cls(open_graph(folder, file, providers, threads, is_spinning), variant)


def choose(folder: Path, variant: str) -> tuple[str, list[str]]:
    """Return the variant that runs and its providers, best first."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    providers = [name for name in PROVIDERS if name in available]
    has_device = providers[0] != "CPUExecutionProvider"
    if variant == "float32" and has_device and (folder / variant_file(BACKBONE, "float16")).is_file():
        return "float16", providers
    # The float32 and int8 graphs attend by an operator that is fused for the CPU.
    return variant, ["CPUExecutionProvider"]


def open_graph(
    folder: Path, file: str, providers: list[str], threads: int = 1, is_spinning: bool = False
) -> Any:
    """Open one graph of a folder.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: onnxruntime refuses it.
    """
    import onnxruntime

    if not (folder / file).is_file():
        raise FileNotFoundError(
            f"the model folder {str(folder)!r} lacks {file}; write it with: timar export {folder}"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A spinning thread would take the core from the other nodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if is_spinning else "0")
    named = [(name, _provider_options(name, folder)) for name in providers]
    try:
        return onnxruntime.InferenceSession(str(folder / file), options, providers=named)
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            raise ValueError(
                f"onnxruntime refuses {str(folder / file)!r} ({error}); export the model again"
            ) from error
        raise


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
