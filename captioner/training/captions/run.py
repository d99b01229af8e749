"""Training a captioner in four stages: the decoder on cached grids, encoder and decoder together, then both again
self-critically.

Each stage starts from the best weights of the one before, keeps its own checkpoint and log, and can be stopped and
started again at any time. The best weights on the dev photos, by CIDEr-D, become the saved model.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby, islice
from pathlib import Path

import keras
import numpy as np

import captioner.evaluation.coco_metrics as metrics
from captioner.errors import CaptionerError, DatasetError
from captioner.evaluation.ptb import tokenize
from captioner.models.compiling import compiled
from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.encoder import LITE_VARIANTS, EncoderConfig, build_encoder, freeze
from captioner.models.encoder_graph import knows_encoder
from captioner.models.runtime import OpenVinoEncoder, saved_encoder_weights
from captioner.models.saving import (
    SavedModel,
    load_weights,
    named_weights,
    read_model,
    refuse_foreign,
    save_model,
    variable_shapes,
    weights_hash,
)
from captioner.models.search import SearchOptions, search
from captioner.models.tokenizer import SPECIAL, Tokenizer, join_words
from captioner.outputs.locks import exclusive
from captioner.training import imagenet_weights
from captioner.training.captions.batches import CachedBatches, PhotoBatches, TokenTable, augment_photo
from captioner.training.captions.calibration import calibrate_model
from captioner.training.captions.card import captioner_card
from captioner.training.captions.data import CaptionDataset
from captioner.training.captions.feature_cache import FLIPPED, PLAIN, Features, View, cached_features, encode_photos
from captioner.training.captions.loop import CaptionTrainingModel
from captioner.training.captions.mixture import Mixture, Source, read_mixture
from captioner.training.captions.options import STAGES, CaptionTrainingOptions, StageOptions
from captioner.training.captions.self_critical import Sampler, SelfCriticalBatches
from captioner.training.captions.tags import caption_shares, fit_tags, used_tags
from captioner.training.loop import computing_in, fit_stage, make_optimizer

_LOG = logging.getLogger(__name__)

Progress = Callable[[str, int, int, int, int, float], None]

SELF_CRITICAL_VIEWS = (
    PLAIN,
    FLIPPED,
    View("cropped", crop=0.12, corner=(0.3, 0.3)),
    View("flipped-cropped", flip=True, crop=0.12, corner=(0.7, 0.7)),
    View("centre", crop=0.2),
    View("flipped-centre", flip=True, crop=0.2),
)
"""The reward is soon maximal on photos seen only one way; several views of each keep it honest."""


class CaptionTraining:
    """A training run in a folder.

    Args:
        data: Photos and captions; of several data sets, the epochs of every stage are chosen by the mean of their dev
            scores.
        output: Where checkpoints, caches, logs and the model go.
        options: Settings.
        progress: Called with (what, epoch, epochs, step, steps, loss).

    Raises:
        DatasetError: A split is missing.
    """

    def __init__(
        self,
        data: CaptionDataset | Mixture,
        output: str | Path,
        options: CaptionTrainingOptions | None = None,
        progress: Progress | None = None,
    ):
        self.data = data if isinstance(data, Mixture) else Mixture.of([Source(data)])
        data = self.data
        self.output = Path(output)
        self.options = options or CaptionTrainingOptions()
        self.progress = progress
        self.train_files = data.train
        self.dev_files = tuple(file for files in data.dev.values() for file in files)
        self.tokenizer = Tokenizer.from_captions(
            (text for file in self.train_files for text in data.captions[file]), self.options.min_count, data.styles
        )
        self.table = TokenTable.build(
            {file: data.captions[file] for file in self.train_files},
            self.tokenizer,
            self.options.max_length,
            data.style_of,
        )
        if len(self.tokenizer) == len(SPECIAL) + len(data.styles):
            raise DatasetError(
                f"{', '.join(data.sources)}: no word occurs {self.options.min_count} times in the training captions; "
                "there are too few of them, or min_count is too high"
            )
        keras.utils.set_random_seed(self.options.decoder.seed)
        with computing_in(self.options.precision):
            self.encoder, self.decoder = self._build()
        self._start = compiled(self.decoder.initial_state)
        self._step = compiled(self.decoder.step)
        self._tags: keras.layers.Dense | None = None
        self._history: list[dict] = []
        self._references = {
            name: {f: [tokenize(text) for text in data.captions[f]] for f in files} for name, files in data.dev.items()
        }
        self._cider = {name: metrics.CiderD(references) for name, references in self._references.items()}

    def _build(self) -> tuple[keras.Model, Decoder]:
        options = self.options
        encoder = build_encoder(EncoderConfig(options.encoder, options.image_size), imagenet=True, classes=False)
        if options.encoder in LITE_VARIANTS:
            imagenet_weights.load_into(encoder, imagenet_weights.package_weights(options.encoder))
        if options.start_from:
            _load_encoder(encoder, read_model(options.start_from))
        config = DecoderConfig(
            len(self.tokenizer),
            encoder.output["grid"].shape[-1],
            cell=options.cell,
            units=options.units,
            embedding_units=options.embedding_units,
            memory_units=options.memory_units,
            heads=options.heads,
            memory_dropout=options.memory_dropout,
            channel_dropout=options.channel_dropout,
        )
        return encoder, Decoder(config, name="decoder")

    def run(self, stages: Sequence[str] = STAGES) -> dict:
        """Runs stages in order, each from the best weights of the one before.

        Args:
            stages: Some of `captioner.training.captions.options.STAGES`, in that order. What is left out between two
                of them is skipped; the first starts from the stage that precedes it there, run earlier in this folder.

        Returns:
            Stage name to the record of `captioner.training.loop.fit_stage`.

        Raises:
            CaptionerError: There is no such stage, or they are in another order (``kind="usage"``).
            ModelLoadError: The stage before has not been run in this folder.
        """
        unknown = set(stages) - set(STAGES)
        if unknown:
            raise CaptionerError(f"unknown stage {min(unknown)!r}; known: {', '.join(STAGES)}", kind="usage")
        if list(stages) != [stage for stage in STAGES if stage in stages]:
            order = f"stages go in the order {', '.join(STAGES)}, each once, not {', '.join(stages)}"
            raise CaptionerError(order, kind="usage")
        for stage in stages:
            refuse_foreign(self.output / stage)
        records: dict[str, dict] = {}
        for stage in stages:
            earlier = list(records) or STAGES[: STAGES.index(stage)]
            if earlier:
                self.load(self.output / earlier[-1])
            records[stage] = getattr(self, f"_run_{stage}")()
        return records

    def load(self, folder: str | Path) -> SavedModel:
        """Puts the weights of a model folder into encoder and decoder.

        Raises:
            DatasetError: The folder's vocabulary is not that of the data.
        """
        saved = read_model(folder)
        if Tokenizer.from_json(saved.texts["tokenizer.json"]).words != self.tokenizer.words:
            raise DatasetError(f"{folder}: was trained with another vocabulary than these data give")
        _load_encoder(self.encoder, saved)
        load_weights(self.decoder, saved.part("decoder", variable_shapes(self.decoder)), str(folder))
        self._history = saved.metadata.get("stages", [])
        return saved

    def features(self, files: Sequence[str], view: View = PLAIN, outputs: Sequence[str] = ("grid",)) -> Features:
        """Cached outputs of the encoder as it is now."""
        return cached_features(
            self.output / "features",
            files,
            [self.data.images[file] for file in files],
            self._encoding(),
            key=weights_hash(named_weights(self.encoder, "encoder")),
            image_size=self.encoder.image_size,
            outputs=outputs,
            view=view,
            progress=self.progress and partial(self._caching, view),
        )

    def _encoding(self) -> Callable[[np.ndarray], Mapping[str, np.ndarray]]:
        """The encoder as it is now, computed by OpenVINO where that can: several times as fast as Keras."""
        config = self.encoder.config.to_dict()
        if not knows_encoder(config["name"]):
            return compiled(lambda images: self.encoder(images, training=False))
        weights = {
            name.removeprefix("encoder/"): value for name, value in named_weights(self.encoder, "encoder").items()
        }
        runtime = OpenVinoEncoder(config, weights, precision=self.options.precision)
        return lambda images: vars(runtime.encode(images))

    def _caching(self, view: View, done: int, total: int) -> None:
        self.progress(f"features ({view.name})", 1, 1, done, total, 0.0)

    def evaluate(self, features: Features) -> dict:
        """Scores of the captions of dev photos.

        Returns:
            ``cider_d`` and ``bleu_4`` (x 100), ``words`` a caption, ``distinct`` captions and ``vocabulary``: words in
            use. Of several data sets these are the first one's but for ``cider_d``, which is the mean over all, and
            every one's CIDEr-D follows as ``cider_d NAME``.
        """
        captions = self.caption(features)
        candidates = {file: tokenize(join_words(words)) for file, words in captions.items()}
        cider, scores = {}, {}
        for name, references in self._references.items():
            own = {file: candidates[file] for file in references if file in candidates}
            cider[name] = 100 * float(self._cider[name].score(own, own.values()).mean())
            if not scores:
                scores = {
                    "bleu_4": 100 * float(metrics.bleu({file: references[file] for file in own}, own)[0][3]),
                    "words": float(np.mean([len(tokens) for tokens in own.values()])),
                    "distinct": len({" ".join(tokens) for tokens in own.values()}),
                    "vocabulary": len({token for tokens in own.values() for token in tokens}),
                }
        each = {f"cider_d {name}": value for name, value in cider.items()} if len(cider) > 1 else {}
        return {"cider_d": float(np.mean(list(cider.values()))), **scores, **each}

    def caption(self, features: Features, options: SearchOptions | None = None) -> dict[str, list[str]]:
        """Words of the best caption of every photo, in the style of its data set."""
        special = self.tokenizer
        captions = {}
        rows = zip(features.files, features.rows, strict=True)
        alike = (group for _, group in groupby(rows, lambda row: self.data.style_of(row[0])))
        for batch in (batch for group in alike for batch in iter(lambda group=group: list(islice(group, 100)), [])):
            files = [file for file, _ in batch]
            grid = features.arrays["grid"][[row for _, row in batch]].astype(np.float32)
            found = search(
                self._numpy_step,
                *self._start(grid),
                options or self.options.search,
                start=special.start_of(self.data.style_of(files[0])),
                end=special.end,
                forbidden=special.forbidden,
                once=special.meaningful,
            )
            captions.update((file, special.decode(best[0].tokens)) for file, best in zip(files, found, strict=True))
        return captions

    def _run_decoder(self) -> dict:
        self.encoder.trainable = False
        train = [self.features(self.train_files, view) for view in (PLAIN, FLIPPED)]
        self._warn(train[0])
        batches = CachedBatches(train[0].files, [_lookup(f) for f in train], self.table, **self._batching("decoder"))
        return self._fit("decoder", None, batches, self.features(self.dev_files))

    def _run_finetune(self) -> dict:
        return self._fit("finetune", self.encoder, self._photo_batches("finetune"), None)

    def _run_self_critical(self) -> dict:
        self.encoder.trainable = False
        train = [self.features(self.train_files, view) for view in SELF_CRITICAL_VIEWS]
        batches = CachedBatches(
            train[0].files, [_lookup(f) for f in train], self.table, **self._batching("self_critical")
        )
        batches = self._self_critical("self_critical", batches, None)
        return self._fit("self_critical", None, batches, self.features(self.dev_files))

    def _run_self_critical_finetune(self) -> dict:
        stage = "self_critical_finetune"
        batches = self._self_critical(stage, self._photo_batches(stage), self.encoder)
        return self._fit(stage, self.encoder, batches, None)

    def _photo_batches(self, stage: str) -> PhotoBatches:
        """Photos for a stage that trains the encoder, whose deep half is set free to learn."""
        seen = self.features(self.train_files, outputs=("pooled",))
        self._warn(seen)
        freeze(self.encoder, self.options.frozen_blocks)
        return PhotoBatches(
            seen.files,
            self.data.images,
            self.table,
            image_size=self.encoder.image_size,
            tags=self._learn_tags(seen) if getattr(self.options, stage).tag_weight else None,
            augment=augment_photo,
            **self._batching(stage),
        )

    def _learn_tags(self, seen: Features) -> dict[str, tuple[np.ndarray, float]] | None:
        """The layer of tags as the encoder gives rise to it now; which of them people use for every photo."""
        captions = [self.data.captions[file] for file in seen.files]
        tagger = fit_tags(seen.arrays["pooled"][seen.rows].astype(np.float32), captions)
        if not tagger.words:  # a small data set may use none often enough
            self._tags = None
            return None
        self._tags = keras.layers.Dense(len(tagger.words), dtype="float32", name="tags")
        self._tags.build((None, tagger.kernel.shape[0]))
        self._tags.set_weights([tagger.kernel, tagger.bias])
        used = zip(used_tags(tagger, captions), caption_shares(captions), strict=True)
        return dict(zip(seen.files, used, strict=True))

    def _self_critical(self, stage: str, batches: CachedBatches, encoder) -> SelfCriticalBatches:
        options: StageOptions = getattr(self.options, stage)
        return SelfCriticalBatches(
            batches,
            mixture=self.data,
            tokenizer=self.tokenizer,
            sampler=Sampler(self.decoder, self.tokenizer, self.options.samples, self.options.max_length, encoder),
            mix=self.options.mix,
            common_weight=options.common_weight,
        )

    def _fit(self, stage: str, encoder, batches, dev: Features | None) -> dict:
        options: StageOptions = getattr(self.options, stage)
        with computing_in(self.options.precision):
            tags = self._tags if encoder and options.tag_weight else None
            model = CaptionTrainingModel(self.decoder, encoder, options, tags)
        slow = encoder.trainable_variables if encoder else ()
        model.compile(make_optimizer(options, len(batches), slow, options.encoder_rate), jit_compile=False)
        started = time.strftime("%Y-%m-%d")

        def evaluate():
            return self.evaluate(dev or self._uncached_dev())

        def on_best(record: dict):
            stages = [*self._history, {"stage": stage, **record}]
            self.export(self.output / stage, {"date": started, "scores": record["scores"], "stages": stages})

        settings = {
            "options": self.options.settings(stage),
            "data": hashlib.sha256(json.dumps(sorted(self.data.captions.items())).encode()).hexdigest(),
        }
        if len(self.data.sources) > 1:
            settings["sources"] = {name: [one.weight, one.style] for name, one in self.data.sources.items()}
        done = {entry["stage"] for entry in self._history}
        if skipped := [earlier for earlier in STAGES[: STAGES.index(stage)] if earlier not in done]:
            settings["skipped"] = skipped
        return fit_stage(
            model, batches, evaluate, name=stage, options=options, folder=self.output, settings=settings,
            on_best=on_best, progress=self.progress,
        )  # fmt: skip

    def export(self, folder: Path, metadata: dict) -> None:
        """Writes the current weights as a model folder."""
        config = {"encoder": self.encoder.config.to_dict(), "decoder": self.decoder.config.to_dict()}
        metadata = {
            **metadata,
            "data": self._data_record(),
            "train_photos": len(self.train_files),
            "options": asdict(self.options),
            "versions": {"python": platform.python_version(), "keras": keras.__version__},
        }
        save_model(
            folder,
            kind="captioner",
            config=config,
            weights={**named_weights(self.encoder, "encoder"), **named_weights(self.decoder, "decoder")},
            texts={"tokenizer.json": self.tokenizer.to_json()},
            metadata=metadata,
            card=captioner_card(folder.name, config, metadata),
        )

    def _data_record(self) -> str | dict:
        """What was trained on: the name of the one data set, or of each its photos, weight, style and captions."""
        if len(self.data.sources) == 1:
            return next(iter(self.data.sources))
        record = {}
        for name, source in self.data.sources.items():
            trained = source.data.split("train") if source.weight else ()
            record[name] = {
                "train_photos": len(trained),
                "dev_photos": len(self.data.dev.get(name, ())),
                "weight": source.weight,
                "style": source.style,
                "captions": dict(source.data.written_by(trained)),
            }
        return record

    def _numpy_step(self, tokens, state, memory):
        logits, state, attention = self._step(tokens, state, memory)
        return np.asarray(logits), [np.asarray(part) for part in state], np.asarray(attention)

    def _uncached_dev(self) -> Features:
        """Dev grids of an encoder that changes every epoch: computed anew and not kept."""
        return encode_photos(
            self.dev_files,
            [self.data.images[file] for file in self.dev_files],
            self._encoding(),
            self.encoder.image_size,
        )

    def _batching(self, stage: str) -> dict:
        options: StageOptions = getattr(self.options, stage)
        return {
            "drawn": self.data.drawn,
            "batch_size": options.batch_size,
            "captions": options.captions,
            "label_smoothing": options.label_smoothing,
            "seed": options.seed,
        }

    def _warn(self, features: Features) -> None:
        if features.failures:
            example = next(iter(features.failures.values()))
            _LOG.warning("%d photos cannot be read and are left out, for example: %s", len(features.failures), example)


def _load_encoder(encoder: keras.Model, saved: SavedModel) -> None:
    """Puts the weights of a model folder into an encoder."""
    load_weights(encoder, saved_encoder_weights(saved, encoder.config), str(saved.folder))


def _lookup(features: Features) -> tuple[dict[str, int], np.ndarray]:
    return dict(zip(features.files, features.rows.tolist(), strict=True)), features.arrays["grid"]


@exclusive
def train_captions(
    data: str | Path | Sequence[str | Path],
    output: str | Path,
    options: CaptionTrainingOptions | None = None,
    *,
    dev: Sequence[str | Path] = (),
    stages: Sequence[str] = STAGES,
    progress: Progress | None = None,
) -> dict:
    """Trains a captioner on folders of photos and captions; see `CaptionTraining`.

    What the data set lacks, and photos that cannot be read, are left out and named in warnings of this module's logger,
    which Python prints to stderr unless told otherwise.

    Args:
        data: A folder in one of the layouts of `captioner.training.captions.data.read_captions`, or several; each
            perhaps with its weight and style, see `captioner.training.captions.mixture.read_mixture`.
        output: Folder for everything; a second call goes on where the first was stopped.
        options: Settings; by default those of the shipped model.
        dev: Folders of photos for choosing epochs alone.
        stages: Which stages to run.
        progress: Called with (what, epoch, epochs, step, steps, loss).

    Returns:
        Stage name to its record, and ``calibration`` to that of the last step,
        `captioner.training.captions.calibration.calibrate_model` on the last of the stages.
    """
    mixture = read_mixture([data] if isinstance(data, (str, Path)) else data, dev)
    for source in mixture.sources.values():
        for warning in source.data.warnings:
            _LOG.warning("%s", warning)
    training = CaptionTraining(mixture, output, options, progress)
    records = training.run(stages)
    for last in list(records)[-1:]:
        done = read_model(training.output / last).metadata.get("calibration")
        told = (lambda what, done, total: progress(what, 1, 1, done, total, 0.0)) if progress else None
        records["calibration"] = done or calibrate_model(training.output / last, mixture, progress=told)
    return records
