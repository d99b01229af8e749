"""Clip classifiers with random weights, and a captioner that encodes for them without a network."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np

from captioner.clips.head import STREAMS, ClipConfig, weight_shapes
from captioner.clips.known import KnownConfig, KnownHead, known_shapes
from captioner.clips.ridge import RidgeConfig
from captioner.clips.ridge import weight_shapes as ridge_shapes
from captioner.models.saving import save_model

SIZE = 24
CHANNELS = 6


def network_weights(config: ClipConfig, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(0, 0.7, shape).astype(np.float32) for name, shape in weight_shapes(config).items()}
    return weights | {name: np.abs(value) for name, value in weights.items() if name.endswith("/scale")}


def ridge_weights(config: RidgeConfig, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in ridge_shapes(config).items()}


class FakeCaptioner:
    """Encodes a picture as averages of its parts; counts the pictures it sees."""

    name, encoder_sha256, image_size, channels = "fake", "abc", SIZE, CHANNELS

    def __init__(self):
        self.encoded = 0

    def encode(self, images):
        assert images.dtype == np.uint8 and images.shape[1:] == (SIZE, SIZE, 3)
        self.encoded += len(images)
        quarters = images.reshape(len(images), 2, SIZE // 2, 2, SIZE // 2, 3)
        cells = quarters.mean(axis=(2, 4)).reshape(len(images), 4, 3)
        grid = np.concatenate([cells, cells**2 / 255], axis=-1).astype(np.float32) / 64
        return SimpleNamespace(grid=grid, pooled=grid.mean(axis=1))


def known_head(classes: int, *, background: bool = True) -> KnownHead:
    """What tells known from foreign, with random weights."""
    slopes = (0.5, 0.3, 0.2) if background else (0.5,)
    config = KnownConfig(classes, CHANNELS, 2, background, 0.5, slopes, 0.1)
    rng = np.random.default_rng(3)
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in known_shapes(config).items()}
    weights["variances"] = np.array([2.0, 1.0], np.float32)
    weights["axes"] = np.linalg.qr(weights["axes"])[0].astype(np.float32)
    return KnownHead(config, weights)


def save_classifier(
    folder,
    *,
    region=False,
    members=2,
    labels=("walk", "run", "jump"),
    cell="gru",
    known=None,
    streams=STREAMS,
    **settings,
):
    if cell == "ridge":
        head, weights_of = RidgeConfig(len(labels), channels=CHANNELS, components=4, words=3), ridge_weights
    else:
        head, weights_of = ClipConfig(len(labels), cell, streams, CHANNELS, 4, 5), network_weights
    config = {
        "ridge" if cell == "ridge" else "network": head.to_dict(),
        "members": members,
        "region": region,
        "interval": 0.1,
        "window": 1.0,
        "stride": 0.5,
        "threshold": 0.0,
        "temperature": 1.5,
        "encoder": {"model": "fake", "sha256": "abc"},
        **settings,
    }
    weights = {f"member{i}/{name}": value for i in range(members) for name, value in weights_of(head, seed=i).items()}
    if known is not None:
        config["known"] = asdict(known.config)
        weights |= {f"known/{name}": value for name, value in known.weights.items()}
    texts = {"labels.json": json.dumps(labels)}
    return save_model(
        folder, kind="clip_classifier", config=config, weights=weights, texts=texts, metadata={}, card="# Test\n"
    )
