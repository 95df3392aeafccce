"""The published metrics of generated motion against a recorded one, per clip, and the energy score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg

from timar_model.architecture.config import MOTION_DIM

Array = npt.NDArray[np.floating]

GROUPS = {"exp": slice(0, 50), "jaw": slice(50, 53), "pose": slice(53, 56)}
"""Parts of a motion vector under the names the published tables use; pose is the neck."""
CLUSTERS = {"exp": 40, "jaw": 10, "pose": 10}
STS_STEP_S = 0.1
"""The published score divides by this whatever the frame rate is; kept, so that numbers compare."""
DIVERSITY_DRAWS = 100
FEWEST_FRAMES = 2


def clip_metrics(
    prediction: Array,
    ground_truth: Array,
    user: Array | None = None,
    groups: Sequence[str] = tuple(GROUPS),
) -> dict[str, float]:
    """Score one clip as the published evaluation does.

    Args:
        prediction: (T, 56) generated motion: expression, jaw, neck.
        ground_truth: (T, 56) recorded motion of the same speaker and frames.
        user: (T, 56) the partner's motion; without it what needs him (p_fid, rpcc) is left out.
        groups: Which of exp, jaw and pose are scored.

    Returns:
        By name and group (exp, jaw, pose): fid, p_fid, mse, sid, reverse_sid, sts, diversity_pre,
        diversity_gt, variance_pre, variance_gt, rpcc. Cluster scores are left out for groups with fewer
        frames than clusters.

    Raises:
        ValueError: Shapes differ or a number is not finite.

    Source: TIMAR (arXiv 2512.15340), its evaluation.
    """
    prediction, ground_truth = _checked("prediction", prediction), _checked("ground_truth", ground_truth)
    tracks = {"ground_truth": ground_truth}
    if user is not None:
        user = tracks["user"] = _checked("user", user)
    for name, track in tracks.items():
        if len(track) != len(prediction):
            raise ValueError(f"{name} has {len(track)} frames, expected the prediction's {len(prediction)}")
    scores: dict[str, float] = {}
    for group in groups:
        columns = GROUPS[group]
        made, true = prediction[:, columns], ground_truth[:, columns]
        scores[f"fid_{group}"] = frechet_distance(made, true)
        scores[f"mse_{group}"] = float(np.mean(np.square(made - true)))
        scores[f"sts_{group}"] = similarity_of_steps(made, true)
        scores[f"variance_pre_{group}"] = float(made.var(axis=0).mean())
        scores[f"variance_gt_{group}"] = float(true.var(axis=0).mean())
        if len(made) >= CLUSTERS[group]:
            scores[f"sid_{group}"] = shannon_index(true, made, CLUSTERS[group])
            scores[f"reverse_sid_{group}"] = shannon_index(made, true, CLUSTERS[group])
        if user is not None:
            partner = user[:, columns]
            scores[f"p_fid_{group}"] = frechet_distance(
                np.concatenate([made, partner], axis=1), np.concatenate([true, partner], axis=1)
            )
            scores[f"rpcc_{group}"] = abs(_correlation(true, partner) - _correlation(made, partner))
    return scores | _diversities({"pre": prediction, "gt": ground_truth}, groups)


def frechet_distance(first: Array, second: Array) -> float:
    """Return the Fréchet distance between Gaussians fitted to two sets of frames, (T, D) each; ddof is 1."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    shift = first.mean(axis=0) - second.mean(axis=0)
    spreads = [np.atleast_2d(np.cov(frames, rowvar=False)) for frames in (first, second)]
    # The trace of the root of a product of two covariances, by way of a symmetric matrix: its eigenvalues are
    # real and not negative, where a general matrix root fails on the singular ones of a still head.
    values, vectors = linalg.eigh(spreads[0])
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = linalg.eigvalsh(root @ spreads[1] @ root)
    overlap = float(np.sqrt(np.maximum(cross, 0.0)).sum())
    return float(shift @ shift + np.trace(spreads[0]) + np.trace(spreads[1]) - 2.0 * overlap)


def shannon_index(fitted_on: Array, assigned: Array, clusters: int) -> float:
    """Return how evenly frames fall on the clusters of other frames [bits]; higher is more varied."""
    # Only here, for it takes a second to import.
    from sklearn.cluster import KMeans

    means = KMeans(clusters, random_state=0, n_init="auto").fit(fitted_on)
    share = np.bincount(means.predict(assigned), minlength=clusters) / len(assigned)
    return float(-np.sum(share * np.log2(share + 1e-6)))


def similarity_of_steps(made: Array, true: Array) -> float:
    """Return by how much the steps from frame to frame differ (STS); 0 is the same motion."""
    difference = np.diff(np.asarray(made, np.float64), axis=0) - np.diff(np.asarray(true, np.float64), axis=0)
    return float(np.sqrt(np.square(difference).sum() / STS_STEP_S))


def energy_score(samples: Sequence[Array], ground_truth: Array) -> dict[str, float]:
    """Return how well a set of generated motions covers the recorded one; lower is better, by group.

    It is the mean over frames of E|X - y| - E|X - X'| / 2, a proper score: a model cannot gain by being
    too sure or too wild. With one sample it is the mean distance.

    Args:
        samples: K motions (T, 56) of the same clip, drawn with different seeds.
        ground_truth: (T, 56).

    Raises:
        ValueError: There is no sample, shapes differ, or a number is not finite.

    Source: Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", 2007.
    """
    if not samples:
        raise ValueError("an energy score needs at least one sample, got none")
    true = _checked("ground_truth", ground_truth)
    drawn = [_checked(f"sample {number}", sample) for number, sample in enumerate(samples)]
    if any(len(sample) != len(true) for sample in drawn):
        raise ValueError(f"a sample has another length than the ground truth's {len(true)} frames")
    scores = {}
    for group, columns in GROUPS.items():
        parts = [np.asarray(sample[:, columns], np.float64) for sample in drawn]
        distance = np.mean([np.linalg.norm(part - true[:, columns], axis=1).mean() for part in parts])
        pairs = [
            np.linalg.norm(one - other, axis=1).mean()
            for index, one in enumerate(parts)
            for other in parts[index + 1 :]
        ]
        scores[f"energy_{group}"] = float(distance - 0.5 * (np.mean(pairs) if pairs else 0.0))
    return scores


def _diversities(tracks: dict[str, Array], groups: Sequence[str]) -> dict[str, float]:
    """Return the mean distance of frames drawn at random; draws and their order are the published ones."""
    random = np.random.RandomState(0)
    scores = {}
    for name, track in tracks.items():
        for group, columns in GROUPS.items():
            count = min(DIVERSITY_DRAWS, len(track))
            one, other = (random.choice(len(track), count, replace=False) for _ in range(2))
            if group not in groups:
                continue
            distance = np.linalg.norm(track[one][:, columns] - track[other][:, columns], axis=1)
            scores[f"diversity_{name}_{group}"] = float(distance.mean())
    return scores


def _correlation(first: Array, second: Array) -> float:
    """Return Pearson's correlation over all entries; 0 where one does not vary."""
    if first.std() < 1e-12 or second.std() < 1e-12:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def _checked(name: str, motion: Array) -> Array:
    motion = np.asarray(motion)
    if motion.ndim != 2 or motion.shape[1] != MOTION_DIM or len(motion) < FEWEST_FRAMES:
        raise ValueError(
            f"{name} has shape {motion.shape}, expected (T, {MOTION_DIM}) with T of {FEWEST_FRAMES} or more"
        )
    if not np.isfinite(motion).all():
        raise ValueError(f"{name} holds a value that is not finite; leave such frames out before scoring")
    return motion
