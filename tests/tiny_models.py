"""Small models with random weights in real model folders: what they say is nonsense, how they say it is not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

SIZE = 65  # odd: SAME padding differs between the sides
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


def make_captioner(folder: Path, *, size: int = SIZE, seed: int = 0) -> Path:
    """A captioner with the smallest encoder and a decoder whose captions depend on the image."""
    import keras

    from captioner.models.decoder import Decoder, DecoderConfig
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


SENTENCES = {
    "en": ("A man rides a red bike.", "Two dogs play in the water.", "A girl in a red dress is singing.") * 4,
    "de": ("Ein Mann fährt ein rotes Fahrrad.", "Zwei Hunde spielen im Wasser.", "Ein Mädchen im Kleid singt.") * 4,
    "fr": ("Un homme fait du vélo rouge.", "Deux chiens jouent dans l'eau.", "Une fille en robe rouge chante.") * 4,
}


def make_translator(folder: Path, *, cell: str = "gru", seed: int = 0) -> Path:
    """A translator with random weights to German and French, which have few pieces each."""
    from captioner.models.decoder_config import DecoderConfig, decoder_shapes
    from captioner.models.saving import save_model
    from captioner.translation.config import SentenceEncoderConfig, sentence_encoder_shapes
    from captioner.translation.subwords import Subwords

    subwords = Subwords.learn(SENTENCES, 335)
    encoder = SentenceEncoderConfig(cell, 5)
    decoder = DecoderConfig(len(subwords), 10, cell, units=9, embedding_units=8, memory_units=6, heads=2)
    shapes = {f"encoder/{name}": shape for name, shape in sentence_encoder_shapes(encoder, 8).items()}
    shapes |= {f"decoder/{name}": shape for name, shape in decoder_shapes(decoder).items()}
    rng = np.random.default_rng(seed)
    return save_model(
        folder,
        kind="translator",
        config={"encoder": encoder.to_dict(), "decoder": decoder.to_dict()},
        weights={name: rng.normal(0, 0.7, shape).astype(np.float16) for name, shape in shapes.items()},
        texts={"tokenizer.json": subwords.to_json()},
        metadata={"scores": {}},
        card="# Nonsense\n",
    )


def random_weights(model, part, seed):
    """Weights without structure that keep activations in range: also scales, offsets and statistics are random."""
    from captioner.models.saving import named_weights

    rng = np.random.default_rng(seed)
    weights = {}
    for name, value in named_weights(model, part).items():
        name = name.split("/", 1)[1]
        if name.endswith(("gamma", "moving_variance")):
            value = rng.uniform(0.5, 1.5, value.shape)
        elif name.endswith("depthwise_conv/kernel"):
            value = rng.normal(0, 1 / value.shape[0], value.shape)
        elif value.ndim > 1:
            value = rng.normal(0, 1.4 / np.sqrt(value.size / value.shape[-1]), value.shape)
        else:
            value = rng.normal(0, 0.3, value.shape)
        weights[name] = value.astype(np.float32)
    return weights


def encoder_parts(name="lite0", size=SIZE):
    from captioner.models.encoder import EncoderConfig, build_encoder

    config = EncoderConfig(name, size)
    return config.to_dict(), random_weights(build_encoder(config, classes=False), "encoder", 1)


def decoder_parts(**sizes):
    from captioner.models.decoder import Decoder, DecoderConfig

    config = DecoderConfig(
        **{"vocabulary_size": 40, "units": 24, "embedding_units": 12, "memory_units": 16, "heads": 4, **sizes}
    )
    return config.to_dict(), random_weights(Decoder(config), "decoder", 2)


def random_photos(n, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


def rewrite(folder: Path, change=lambda config: None) -> None:
    """Changes the settings of a model folder, and makes the checksums of all files fit, as a stranger would."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    reseal(folder)


def reseal(folder: Path) -> None:
    """Makes the checksums of a model folder fit its files."""
    metadata = json.loads((folder / "metadata.json").read_text())
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    texts = {name: sums[name] for name in metadata["texts_sha256"]}
    metadata |= {"weights_sha256": sums["weights.npz"], "config_sha256": sums["config.json"], "texts_sha256": texts}
    (folder / "metadata.json").write_text(json.dumps(metadata))
