"""The frozen wav2vec 2.0 in torch: both voices of a turn in one pass, also in a form that graphs can hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from timar_common.cancellation import check_cancelled
from torch import Tensor, nn

from timar_model.architecture.config import SAMPLES_PER_FRAME

if TYPE_CHECKING:
    from timar_model.hub import HubRepository

Array = npt.NDArray[np.float32]


class SpeechEncoder(nn.Module):
    """wav2vec 2.0 over short sounds, its convolutions written as products of matrices over channels.

    One plain pass without masks or dropout: what is left of `transformers.Wav2Vec2Model` when a turn's sound
    is encoded alone. Its features are thinned to the frame rate before the transformer.

    Args:
        pretrained: A `Wav2Vec2Model`, whose layers it takes over.
    """

    def __init__(self, pretrained: Any) -> None:
        super().__init__()
        config = pretrained.config
        self.heads = config.num_attention_heads
        self.is_stable = bool(config.do_stable_layer_norm)
        self.convolutions = nn.ModuleList(
            _Convolution(layer) for layer in pretrained.feature_extractor.conv_layers
        )
        self.projection_norm = pretrained.feature_projection.layer_norm
        self.projection = pretrained.feature_projection.projection
        self.position = _plain(pretrained.encoder.pos_conv_embed.conv)
        self.norm = pretrained.encoder.layer_norm
        self.layers = nn.ModuleList(_Layer(layer, self.heads) for layer in pretrained.encoder.layers)

    def forward(self, sound: Tensor) -> Tensor:
        """Encode (voices, 640 n) samples to (voices, n, S)."""
        x = sound[..., None]
        for convolution in self.convolutions:
            x = convolution(x)
        x = _thin(x, sound.shape[1] // SAMPLES_PER_FRAME)
        x = self.projection(self.projection_norm(x))
        around = self.position(x.transpose(1, 2))[..., : x.shape[1]]
        x = x + F.gelu(around).transpose(1, 2)
        if not self.is_stable:
            x = self.norm(x)
        for layer in self.layers:
            check_cancelled()
            x = layer(x, self.is_stable)
        return self.norm(x) if self.is_stable else x


class _Convolution(nn.Module):
    """A strided convolution as one product over (taps * channels), its norm and its GELU."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        conv = layer.conv
        self.taps, self.stride = int(conv.kernel_size[0]), int(conv.stride[0])
        out, channels, _ = conv.weight.shape
        self.product = nn.Linear(self.taps * channels, out, bias=conv.bias is not None)
        self.product.weight = nn.Parameter(conv.weight.detach().transpose(1, 2).reshape(out, -1).contiguous())
        if conv.bias is not None:
            self.product.bias = conv.bias
        norm = getattr(layer, "layer_norm", None)
        self.over_time = isinstance(norm, nn.GroupNorm)
        self.norm = norm if norm is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Take (voices, T, channels) to (voices, T', out)."""
        steps = (x.shape[1] - self.taps) // self.stride + 1
        last = (steps - 1) * self.stride + 1
        x = torch.cat([x[:, tap : tap + last : self.stride] for tap in range(self.taps)], dim=-1)
        x = self.product(x)
        x = self.norm(x.transpose(1, 2)).transpose(1, 2) if self.over_time else self.norm(x)
        return F.gelu(x)


class _Layer(nn.Module):
    """One transformer layer."""

    def __init__(self, layer: Any, heads: int) -> None:
        super().__init__()
        self.heads = heads
        attention = layer.attention
        self.q, self.k, self.v = attention.q_proj, attention.k_proj, attention.v_proj
        self.out = attention.out_proj
        self.norm1, self.norm2 = layer.layer_norm, layer.final_layer_norm
        self.expand = layer.feed_forward.intermediate_dense
        self.contract = layer.feed_forward.output_dense

    def forward(self, x: Tensor, is_stable: bool) -> Tensor:
        """Take (voices, n, S) to the same."""
        if is_stable:
            x = x + self._attend(self.norm1(x))
            return x + self.contract(F.gelu(self.expand(self.norm2(x))))
        x = self.norm1(x + self._attend(x))
        return self.norm2(x + self.contract(F.gelu(self.expand(x))))

    def _attend(self, x: Tensor) -> Tensor:
        voices, length, width = x.shape
        q, k, v = (
            line(x).view(voices, length, self.heads, width // self.heads).transpose(1, 2)
            for line in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(voices, length, width))
        return out


class TorchSpeechEncoder:
    """Call a `SpeechEncoder` with numpy arrays."""

    def __init__(self, encoder: SpeechEncoder) -> None:
        self.encoder = encoder.eval()

    @classmethod
    def from_pretrained(cls, source: str) -> TorchSpeechEncoder:
        """Load the frozen encoder from a folder or the hub; a pickle is read without running its code.

        Args:
            source: A folder, or OWNER/NAME[@REVISION] on the hub, which is asked where the cache lacks it.

        Raises:
            ImportError: transformers is not installed.
            OSError: The weights are not there.
            ValueError: They are no whole wav2vec 2.0.
        """
        import transformers

        library: Any = transformers

        folder = _found(source)
        read_encoder_config(folder)
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
        try:
            pretrained, report = library.Wav2Vec2Model.from_pretrained(folder, output_loading_info=True)
        except Exception as error:  # What a damaged file raises depends on where it breaks.
            reason = (str(error).splitlines() or ["empty"])[0]
            raise OSError(
                f"the speech encoder {source!r} cannot be read ({reason}); give the folder of a wav2vec 2.0 "
                "with config.json and model.safetensors, or import it again"
            ) from error
        # Only training masks, and a published encoder may lack the vector for it.
        if lacking := sorted(set(report["missing_keys"]) - {"masked_spec_embed"}):
            raise ValueError(
                f"the speech encoder {source!r} lacks {len(lacking)} tensors of a wav2vec 2.0, {lacking[0]} "
                "first; give another folder, or import it again"
            )
        return cls(SpeechEncoder(pretrained.eval()))

    @torch.inference_mode()
    def __call__(self, sound: Array) -> Array:
        """Encode (voices, 640 n) samples to (voices, n, S)."""
        found: Array = self.encoder(torch.from_numpy(sound)).numpy()
        return found


def encoder_folder(source: str) -> Path | None:
    """Return where a speech encoder lies on this machine; None where it is still to be downloaded."""
    from timar_model.hub import local_folder

    if Path(source).is_dir():
        return Path(source)
    try:
        return local_folder(source)
    except (ImportError, FileNotFoundError):
        return None


def encoder_files(repository: HubRepository) -> list[str]:
    """Return which files of a repository are a speech encoder and its card.

    Raises:
        ValueError: It holds none.
    """
    weights = [name for name in ("model.safetensors", "pytorch_model.bin") if name in repository.files][:1]
    if not weights or "config.json" not in repository.files:
        raise ValueError(
            f"{repository} holds no wav2vec 2.0: expected config.json and model.safetensors or "
            "pytorch_model.bin; give another speech encoder"
        )
    return [name for name in ("config.json", *weights, "README.md") if name in repository.files]


def _found(source: str) -> Path:
    """Return the folder of an encoder's files, from the hub where they are nowhere here."""
    folder = encoder_folder(source)
    if folder is None:
        from timar_model.hub import find_repository

        repository = find_repository(source)
        folder = repository.download(encoder_files(repository))
    return folder


def read_encoder_config(folder: Path) -> dict[str, Any]:
    """Read the configuration of a speech encoder.

    Raises:
        OSError: There is none.
        ValueError: It is not that of a wav2vec 2.0.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"the speech encoder {str(folder)!r} lacks config.json; give the folder of a wav2vec 2.0"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is not the JSON of a wav2vec 2.0 ({error}); get it again") from error
    if kind != "wav2vec2":
        raise ValueError(f"the speech encoder {str(folder)!r} is of type {kind!r}, expected 'wav2vec2'")
    return config


def check_encoder(folder: Path, speech_dim: int) -> None:
    """Compare a speech encoder's width with what a model reads.

    Raises:
        OSError: Its configuration is not there.
        ValueError: It is of another size, or no wav2vec 2.0.
    """
    width = read_encoder_config(folder).get("hidden_size")
    if width != speech_dim:
        raise ValueError(
            f"the speech encoder {str(folder)!r} gives {width} values a frame, but the checkpoint reads "
            f"{speech_dim}; give a wav2vec 2.0 of that size (published: wav2vec2-large-960h-lv60-self, 1024)"
        )


def _plain(conv: nn.Conv1d) -> nn.Conv1d:
    """Return a convolution whose weight is a plain parameter, not a product of norm and direction."""
    plain = nn.Conv1d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size[0],
        padding=conv.padding[0],
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    plain.weight = nn.Parameter(conv.weight.detach().clone())
    if conv.bias is not None:
        plain.bias = conv.bias
    return plain


def _thin(x: Tensor, frames: int) -> Tensor:
    """Resample (voices, T, channels) linearly to so many frames, both ends kept."""
    length = x.shape[1]
    position = torch.arange(frames, dtype=torch.float64) * ((length - 1) / max(frames - 1, 1))
    below = position.floor().long().clamp(max=length - 1)
    share = (position - below).to(x.dtype)[:, None]
    above = (below + 1).clamp(max=length - 1)
    return x[:, below] + share * (x[:, above] - x[:, below])
