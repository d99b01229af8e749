"""Training a translator: subwords, then the network; its best weights on validation sentences, by BLEU, are saved."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from captioner.atomic import write_atomic
from captioner.errors import needs_extra
from captioner.models.decoder_config import DecoderConfig
from captioner.models.saving import named_weights, refuse_foreign, save_model
from captioner.outputs.locks import exclusive
from captioner.training.loop import computing_in, fit_stage, make_optimizer, word_loss
from captioner.training.translation.batches import ParallelBatches
from captioner.training.translation.card import translator_card
from captioner.training.translation.data import SOURCE, ParallelText, read_parallel
from captioner.training.translation.options import TranslationTrainingOptions
from captioner.translation.config import SentenceEncoderConfig, TranslatorConfig
from captioner.translation.network import TranslationNetwork
from captioner.translation.subwords import Subwords
from captioner.translation.translator import Translator

Progress = Callable[[str, int, int, int, int, float], None]

_NAME = "translator"


class TranslationTrainingModel(keras.Model):
    """The network with its loss.

    Args:
        network: The network.
    """

    def __init__(self, network: TranslationNetwork):
        super().__init__()
        self.network = network

    def call(self, inputs, training=False):
        """See `captioner.translation.network.TranslationNetwork`."""
        return self.network(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """For ``y``: ``targets`` and ``weights`` (B, 1, T), ``smoothing`` (B, 1, 1)."""
        return word_loss(y_pred, y["targets"], y["weights"], y["smoothing"])


def score(translator: Translator, text: ParallelText, **search) -> dict[str, float]:
    """Scores of translations against those of people, 0..100.

    Args:
        translator: Any.
        text: English and its translations.
        **search: Search options.

    Returns:
        For every language ``LANGUAGE bleu`` (sacreBLEU: cased, tokenised as by mteval-13a), ``LANGUAGE bleu lower``
        (in lower case, which older papers give) and ``LANGUAGE chrf``; ``bleu`` is the mean of the first.
    """
    with needs_extra("BLEU needs sacrebleu", "train"):
        from sacrebleu.metrics import BLEU, CHRF

    scores = {}
    for language in text.languages:
        written = [one.text for one in translator.translate(text.sentences[SOURCE], language, **search)]
        people = [text.sentences[language]]
        scores[f"{language} bleu"] = BLEU().corpus_score(written, people).score
        scores[f"{language} bleu lower"] = BLEU(lowercase=True).corpus_score(written, people).score
        scores[f"{language} chrf"] = CHRF().corpus_score(written, people).score
    return {"bleu": float(np.mean([scores[f"{language} bleu"] for language in text.languages])), **scores}


@exclusive
def train_translation(
    data: str | Path,
    output: str | Path,
    options: TranslationTrainingOptions | None = None,
    *,
    progress: Progress | None = None,
) -> dict:
    """Trains a translator on a folder of parallel text; see `captioner.training.translation.data.read_parallel`.

    Args:
        data: The folder, with the splits ``train`` and ``val``.
        output: Folder of the training, with the model in ``translator``; a second call goes on where the first was
            stopped.
        options: Settings; by default those of the shipped model.
        progress: Called with (what, epoch, epochs, step, steps, loss).

    Returns:
        The record of `captioner.training.loop.fit_stage`.

    Raises:
        DatasetError: The data are not as they have to be, or the folder holds a training with others.
    """
    options = options or TranslationTrainingOptions()
    output = Path(output)
    refuse_foreign(output / _NAME)
    train, val = read_parallel(data, "train"), read_parallel(data, "val")
    subwords = _subwords(output, train, options)
    config = TranslatorConfig(
        SentenceEncoderConfig(options.encoder_cell, options.encoder_units, options.dropout),
        DecoderConfig(
            len(subwords), 2 * options.encoder_units, options.cell, options.units, options.embedding_units,
            options.memory_units, options.heads, options.dropout, options.memory_dropout,
        ),
    )  # fmt: skip
    keras.utils.set_random_seed(options.seed)
    with computing_in(options.precision):
        network = TranslationNetwork(config, name="network")
        model = TranslationTrainingModel(network)
    batches = ParallelBatches(train.sentences, SOURCE, subwords, options)
    model.compile(make_optimizer(options, len(batches(0))), jit_compile=False)
    started = time.strftime("%Y-%m-%d")

    def current() -> Translator:
        encoder, decoder = named_weights(network.encoder, ""), named_weights(network.decoder, "")
        parts = [{name[1:]: value for name, value in part.items()} for part in (encoder, decoder)]
        return Translator(_NAME, config, subwords, *parts, precision=options.precision)

    def on_best(record: dict) -> None:
        metadata = {
            "date": started,
            "data": Path(data).name,
            "train_sentences": len(train),
            "languages": list(train.languages),
            "epoch": record["epoch"],
            "seconds": record["seconds"],
            "scores": record["scores"],
            "options": asdict(options),
            "versions": {"python": platform.python_version(), "keras": keras.__version__},
        }
        settings = {"encoder": config.encoder.to_dict(), "decoder": config.decoder.to_dict()}
        save_model(
            output / _NAME,
            kind="translator",
            config={**settings, "search": asdict(config.search)},
            weights={**named_weights(network.encoder, "encoder"), **named_weights(network.decoder, "decoder")},
            texts={"tokenizer.json": subwords.to_json()},
            metadata=metadata,
            card=translator_card(_NAME, settings, metadata),
        )

    return fit_stage(
        model, batches, lambda: score(current(), val, **asdict(options.search)), name=_NAME, options=options,
        folder=output, settings={"options": asdict(options), "data": _hash(train, val)}, on_best=on_best, by="bleu",
        progress=progress,
    )  # fmt: skip


def _subwords(output: Path, train: ParallelText, options: TranslationTrainingOptions) -> Subwords:
    """The vocabulary of the data; of a training that goes on, the one that it began with."""
    path = output / f"{_NAME}.tokenizer.json"
    if path.exists():
        return Subwords.from_json(path.read_text(encoding="utf-8"), str(path))
    subwords = Subwords.learn(train.sentences, options.vocabulary_size)
    write_atomic(path, subwords.to_json())
    return subwords


def _hash(*texts: ParallelText) -> str:
    return hashlib.sha256(json.dumps([text.sentences for text in texts], sort_keys=True).encode()).hexdigest()
