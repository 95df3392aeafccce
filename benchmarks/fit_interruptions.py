"""Fit the networks that tell interruptions from back-channels, coughs and laughs, and print how they judge.

    python benchmarks/fit_interruptions.py            # minutes; writes timar_audio/interruption_model.npz

All sounds are synthetic (`backchannel_corpus.py`). The figures are of voices that the fit never heard, and
once more of words that it never heard by those voices.
"""

from __future__ import annotations

from collections.abc import Iterable

import backchannel_corpus as corpus
import numpy as np
from harness import parser_of, table, when
from sklearn.neural_network import MLPClassifier
from timar_audio.interruption_features import HOP_S, describe, loud_part, power_of
from timar_audio.interruption_judge import MODEL, STAGES_S
from timar_common.pcm import float_to_int16

VARIANTS, SEED = 4, 0
SHORT_S = 0.45
"""A back-channel shorter than this must never pause the voice."""


def recorded(sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a sound as a microphone might hear it: at some level, in some noise, cut late or early."""
    lead = random.integers(-30, 50) * 16
    sound = np.pad(sound, (lead, 0)) if lead > 0 else sound[-lead:]
    sound = sound * 10 ** (random.uniform(-30, -12) / 20)
    return float_to_int16(sound + 10 ** (random.uniform(-75, -50) / 20) * random.standard_normal(sound.size))


def rows(sounds: Iterable[corpus.MadeSound], variants: int, random: np.random.Generator, *, is_fit: bool):
    """Return by stage the descriptions, whether it is an interruption, and how long the sound is [s]."""
    found: dict[str, list[tuple[np.ndarray, bool, float]]] = {stage: [] for stage in STAGES_S}
    for sound in sounds:
        for _ in range(variants):
            power = power_of(recorded(sound.samples, random))
            first, end = loud_part(power)
            power = power[first:end]
            warp = 1.0
            if is_fit:
                warp = round(random.uniform(0.86, 1.16), 2)
                speed = np.linspace(0, len(power) - 1, max(10, round(len(power) * random.uniform(0.85, 1.2))))
                power = power[speed.astype(int)]
            length_s = len(power) * HOP_S
            for stage, needs_s in STAGES_S.items():
                frames = round(needs_s / HOP_S) or len(power)
                if len(power) >= frames + bool(needs_s):
                    found[stage].append((describe(power[:frames], warp), sound.is_interruption, length_s))
            if is_fit and length_s > 0.7:
                frames = random.integers(round(0.55 / HOP_S), len(power))
                found["whole"].append((describe(power[:frames], warp), sound.is_interruption, length_s))
    return {
        stage: (
            np.array([r[0] for r in some]),
            np.array([r[1] for r in some]),
            np.array([r[2] for r in some]),
        )
        for stage, some in found.items()
    }


def main() -> int:
    """Fit, judge by other voices, write."""
    parser_of(__doc__).parse_args()
    random = np.random.default_rng(SEED)
    fit = rows(corpus.make_sounds(corpus.FIT_VOICES, 1), VARIANTS, random, is_fit=True)
    known = list(corpus.make_sounds(corpus.TEST_VOICES, 2))
    new = list(
        corpus.make_sounds(corpus.TEST_VOICES, 3, corpus.OTHER_BACKCHANNELS, corpus.OTHER_INTERRUPTIONS)
    )
    arrays, lines = {}, []
    for stage, (descriptions, wants, _) in fit.items():
        network = MLPClassifier((32,), alpha=0.3, max_iter=60, random_state=SEED, batch_size=128)
        network.set_params(learning_rate_init=2e-3).fit(descriptions, wants)
        (hidden, output), (hidden_bias, output_bias) = network.coefs_, network.intercepts_
        arrays[f"{stage}_hidden"] = np.vstack([hidden, hidden_bias]).astype(np.float16)
        arrays[f"{stage}_output"] = np.append(output[:, 0], output_bias).astype(np.float16)
        for name, sounds in (("known words", known), ("new words", new)):
            described, is_wanted, length_s = rows(sounds, 2, np.random.default_rng(1), is_fit=False)[stage]
            probability = network.predict_proba(described)[:, 1]
            for least in (0.2, 0.3, 0.5, 0.9, 0.95, 0.98):
                passed, others = probability >= least, ~is_wanted
                shares = (passed[part].mean() for part in (
                    is_wanted, others, others & (length_s < SHORT_S), others & (length_s >= SHORT_S),
                ) if part.any())  # fmt: skip
                lines.append((stage, name, least, *(f"{100 * share:.1f} %" for share in shares)))
    np.savez_compressed(MODEL, **arrays)
    print(when())
    print(*table(("network", "words", "from", "interruptions", "others", "short", "long"), lines), sep="\n")
    print(
        f"{len(fit['whole'][1])} descriptions, {len(corpus.FIT_VOICES)} voices; {MODEL.stat().st_size} bytes"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
