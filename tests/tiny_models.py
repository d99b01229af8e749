"""Small models with random weights in real model folders: what they say is nonsense, how they say it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WORDS = [
    "a",
    "and",
    "beach",
    "ball",
    "black",
    "boy",
    "brown",
    "child",
    "dog",
    "girl",
    "grass",
    "in",
    "is",
    "man",
    "of",
    "on",
    "person",
    "plays",
    "red",
    "runs",
    "sand",
    "two",
    "water",
]


def make_captioner(folder: Path, *, size: int = 65, seed: int = 0) -> Path:
    """A captioner with the smallest encoder and a decoder whose captions depend on the image."""
    import keras

    from captioner.captions.decoder import Decoder, DecoderConfig
    from captioner.models.encoder import EncoderConfig, build_encoder
    from captioner.models.saving import named_weights, save_model
    from captioner.models.tokenizer import Tokenizer

    tokenizer = Tokenizer(WORDS)
    encoder = EncoderConfig("lite0", size)
    decoder = DecoderConfig(len(tokenizer), units=24, embedding_units=12, memory_units=16, heads=4)
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)  # of the encoder: with some weights all captions would be the same
    weights = {
        **named_weights(build_encoder(encoder), "encoder"),
        **{
            name: rng.normal(0, 2.0 / np.sqrt(value.shape[0]), value.shape) if value.ndim > 1 else value
            for name, value in named_weights(Decoder(decoder), "decoder").items()
        },
    }
    return save_model(
        folder,
        kind="captioner",
        config={"encoder": encoder.to_dict(), "decoder": decoder.to_dict()},
        weights={name: np.asarray(value, np.float32) for name, value in weights.items()},
        texts={"tokenizer.json": tokenizer.to_json()},
        metadata={"scores": {"CIDEr-D": 1.5}},
        card="# Nonsense\n",
    )
