"""The published system, as its authors' code computes it, on small random weights."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from timar_model.architecture.config import SamplingConfig
from timar_model.architecture.diffusion import diffusion_loss
from timar_model.architecture.inputs import (
    MotionStatistics,
    TurnInputs,
    TurnPreprocessor,
    Wav2Vec2Features,
    layout_of,
    next_turn,
    with_motion,
    without_user,
)
from timar_model.architecture.reference import config_of, read_reference, translate
from timar_model.architecture.schedule import cosine_schedule, respaced
from timar_model.architecture.sequences import attention_mask, join, turn_sequence
from timar_model.architecture.speech_encoder import TorchSpeechEncoder
from timar_model.engines.torch_engine import load_network
from timar_model.session.sampling import checked_window_frames, gather_draws
from timar_model.session.session import Session, sampling_plan

GOLDEN = Path(__file__).parents[1] / "data" / "timar_golden"
CASES = json.loads((GOLDEN / "cases.json").read_text())
TOLERANCE = 2e-5


@functools.cache
def parts():
    return dict(np.load(GOLDEN / "parts.npz"))


@functools.cache
def network():
    weights = translate(read_reference(GOLDEN / "timar.safetensors"))
    return load_network(config_of(weights, heads=4, speech_source=str(GOLDEN / "wav2vec2")), weights)


@functools.cache
def encoder():
    return Wav2Vec2Features(TorchSpeechEncoder.from_pretrained(str(GOLDEN / "wav2vec2")))


def sampling_of(settings):
    return SamplingConfig(
        history="masked" if settings["mask_history_agent"] else "filled",
        iterations=settings["num_iter"],
        guidance=settings.get("cfg", 1.0),
        temperature=settings.get("temperature", 1.0),
        guidance_schedule=settings.get("cfg_schedule", "constant"),
        window_frames=25 * settings.get("max_context_time", 0),
    )


def draws_of(data, turn, iterations, steps=5):
    """Return a turn's draws in the order the released code made them."""
    return [data[f"noise.{turn}.{number}"] for number in range((steps + 1) * iterations)]


@pytest.mark.parametrize("engine_name", ["torch", "onnx"])
@pytest.mark.parametrize("case", CASES)
def test_sampling_equals_the_released_code(case, engine_name, engine_of):
    archive = np.load(GOLDEN / "sampling.npz")
    data = {key.removeprefix(case + "."): archive[key] for key in archive if key.startswith(case + ".")}
    session = Session(
        engine_of(engine_name, network()), encoder(), MotionStatistics(), sampling_of(CASES[case])
    )
    for turn in range(6):
        motion = session.step(
            data["user_speech"][turn],
            data["user_motion"][turn],
            data["agent_speech"][turn],
            noise=draws_of(data, turn, CASES[case]["num_iter"]),
        )
        np.testing.assert_allclose(
            motion, data["agent_motion"][turn], rtol=0, atol=TOLERANCE, err_msg=str(turn)
        )


def conversation_inputs(data):
    """Return what each turn of a case brings, and its first frame's turn."""
    config, features = network().config, encoder()
    preprocessor = TurnPreprocessor(config, features, MotionStatistics())
    nothing = np.zeros((0, 56), np.float32), np.zeros(0, np.float32)
    for number in range(6):
        turn = next_turn(25 * number, 25, 25, config)
        given = (data[name][number] for name in ("user_speech", "user_motion", "agent_speech"))
        yield preprocessor.prepare(
            turn, *given, None, (features.initial(), features.initial()), nothing
        ).inputs


def one_pass(turns, window_frames):
    """Return the conditions of the last of some turns, everything computed anew."""
    config = network().config
    layout = layout_of(turn_sequence([25] * len(turns), config), 0)
    visible = torch.from_numpy(attention_mask(layout, window_frames))
    streams = {name: torch.from_numpy(array) for name, array in vars(join(turns)).items()}
    return network().encode(TurnInputs(**streams), network().token_positions(layout), visible, None)[:, -25:]


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_sampling_without_any_cache_equals_the_released_code(case):
    """Each turn recomputes its whole window by one masked pass, as the released code does."""
    archive = np.load(GOLDEN / "sampling.npz")
    data = {key.removeprefix(case + "."): archive[key] for key in archive if key.startswith(case + ".")}
    sampling = sampling_of(CASES[case])
    frames = checked_window_frames(network().config, sampling)
    schedule, plan = respaced(1000, 5), sampling_plan(25, sampling.iterations)
    history = []
    for number, inputs in enumerate(conversation_inputs(data)):
        window = history[len(history) - min(len(history), frames // 25 - 1) :]
        z = one_pass([*window, inputs], frames)
        if sampling.guidance != 1.0:
            z = torch.cat([z, one_pass([*window, without_user(inputs)], frames)])
        noise = gather_draws(draws_of(data, number, sampling.iterations), plan, 5, 25)
        noise[1:] *= np.float32(sampling.temperature)
        motion = np.zeros((25, 56), np.float32)
        for rows in plan:
            of_rows = torch.from_numpy(noise[:, rows])
            guidance = torch.tensor(sampling.guidance)
            motion[rows] = network().head.sample(z[:, rows], of_rows, schedule, guidance).numpy()
        expected = data["agent_motion"][number]
        np.testing.assert_allclose(motion, expected, rtol=0, atol=TOLERANCE, err_msg=str(number))
        filled = with_motion(inputs, expected, np.ones(25, np.float32))
        history.append(inputs if sampling.history == "masked" else filled)


def test_speech_embedding_equals_the_released_code():
    features = encoder()
    for sound, expected in zip(parts()["speech"], parts()["speech_embedding"], strict=True):
        found, _ = features.compute(sound, features.initial())
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_training_loss_equals_the_released_code():
    golden = {name: torch.from_numpy(np.asarray(value)) for name, value in parts().items()}
    with torch.inference_mode():
        rows = diffusion_loss(network().head, golden["z"], golden["target"], golden["t"], golden["noise"])
    torch.testing.assert_close(rows.squared_error, golden["mse_per_row"], rtol=2e-6, atol=TOLERANCE)
    torch.testing.assert_close(rows.variational, golden["vb_per_row"], rtol=2e-6, atol=TOLERANCE)
    torch.testing.assert_close(rows.total, golden["loss_per_row"], rtol=2e-6, atol=TOLERANCE)
    masked = golden["mask"] > 0
    torch.testing.assert_close(rows.total[masked].mean(), golden["loss"], rtol=2e-6, atol=TOLERANCE)


def test_schedule_equals_the_released_code():
    np.testing.assert_allclose(cosine_schedule(1000).alpha_bar, parts()["alphas_cumprod"], rtol=1e-12)
    np.testing.assert_array_equal(respaced(1000, 5).timestep, parts()["timesteps_5"])


def test_published_checkpoint_file_is_read_without_running_code(tmp_path):
    state = {
        name: torch.from_numpy(array) for name, array in read_reference(GOLDEN / "timar.safetensors").items()
    }
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": state, "model_ema": {name: 2 * tensor for name, tensor in state.items()}}, path)
    found = translate(read_reference(path, "model_ema"))
    np.testing.assert_array_equal(found["null"], 2 * network().null.detach().numpy())


def test_published_checkpoint_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "hostile.pth"
    torch.save({"model_ema": Path(tmp_path)}, path)
    with pytest.raises(ValueError, match=r"would run code \(pathlib\.PosixPath\)"):
        read_reference(path)


def test_weights_of_something_else_are_refused_by_name():
    with pytest.raises(ValueError, match=r"'lm_head\.weight' is no weight"):
        translate({"lm_head.weight": np.zeros((2, 2), np.float32)})
