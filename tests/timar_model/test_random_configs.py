"""Whatever the configuration, turn by turn on a cache equals one pass over all turns, past the window."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timar_model.architecture.config import ModelConfig, SamplingConfig
from timar_model.architecture.inputs import TurnInputs, layout_of, positions_of
from timar_model.architecture.model import TimarModel
from timar_model.architecture.sequences import attention_mask, turn_sequence
from timar_model.engines.torch_engine import TorchEngine


@st.composite
def configs(draw):
    heads = draw(st.sampled_from([1, 2, 4]))
    turn = draw(st.integers(1, 6))
    is_published = draw(st.booleans())
    changes = {
        "turn_frames": turn,
        "window_frames": turn * draw(st.integers(1, 5)),
        "token_dim": draw(st.sampled_from([8, 12])),
        "heads": heads,
        "width": heads * draw(st.sampled_from([2, 6, 8])),
        "blocks": draw(st.integers(1, 3)),
        "head_width": 8,
        "mel_bands": 4,
        "speech_dim": 16,
        "past_frames": 0 if is_published else draw(st.integers(0, 3)),
        "sampling": SamplingConfig(),
    }
    if is_published:
        changes.update(positions="window", user_lag="none", user_lag_margin_frames=0)
    return ModelConfig.of_size("tiny", **changes)


@given(config=configs(), lengths=st.lists(st.integers(1, 6), min_size=2, max_size=9), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_cached_equals_uncached_for_any_configuration(config, lengths, seed):
    torch.manual_seed(seed)
    network = TimarModel(config).eval()
    if config.has_fixed_turns:
        lengths = [config.turn_frames] * min(len(lengths), config.window_turns)
    lengths = [min(frames, config.window_frames) for frames in lengths]
    turns = turn_sequence(lengths, config)
    random = np.random.default_rng(seed)

    def of(user, agent, past):
        return TurnInputs(
            random.standard_normal((1, user, 16)).astype(np.float32),
            (random.random((1, user)) > 0.2).astype(np.float32),
            random.standard_normal((1, user, 56)).astype(np.float32),
            (random.random((1, user, 3)) > 0.2).astype(np.float32),
            random.standard_normal((1, agent, 16)).astype(np.float32),
            np.zeros((1, agent, 56), np.float32),
            np.zeros((1, agent), np.float32),
            random.standard_normal((1, past, 56)).astype(np.float32),
            np.ones((1, past), np.float32),
        )

    parts = [of(turn.user_frames, turn.frames, config.past_frames) for turn in turns]
    whole = {
        name: torch.from_numpy(np.concatenate([getattr(p, name) for p in parts], axis=1))
        for name in vars(parts[0])
    }
    layout = layout_of(turns, config.past_tokens)
    visible = torch.from_numpy(attention_mask(layout, config.window_frames))
    with torch.inference_mode():
        expected = network.encode(TurnInputs(**whole), network.token_positions(layout), visible, None).numpy()

    engine = TorchEngine(network)
    ring, starts, found = engine.init_state(1, 8).rings[0], [], []
    for turn, part in zip(turns, parts, strict=True):
        of_turn = layout_of([turn], config.past_tokens)
        seen = [t for first, t in starts if first >= turn.end_frame - config.window_frames]
        token = seen[0] if seen else ring.end
        positions = positions_of(of_turn, config, first_index=ring.end - token)
        found.append(np.asarray(engine.encode(part, positions, [ring], [token])))
        starts.append((turn.first_frame, ring.end))
        ring.append(len(of_turn))
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=0, atol=2e-4)
