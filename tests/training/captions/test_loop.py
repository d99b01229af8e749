"""What the stages of caption training share: batches, loss, optimiser, averaging, checkpoints; checked by hand."""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from captioner.errors import CaptionerError, DatasetError
from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.tokenizer import Tokenizer
from captioner.training.captions.batches import CachedBatches, TokenTable, augment_photo
from captioner.training.captions.loop import CaptionTrainingModel
from captioner.training.captions.options import CaptionTrainingOptions, StageOptions
from captioner.training.checkpoint import Checkpoint, TrainingLog
from captioner.training.loop import TwoRateAdamW, averaged_weights, fit_stage, make_optimizer

VOCABULARY = 11


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (StageOptions, {"epochs": 0}, "epochs must be at least 1, not 0"),
        (StageOptions, {"batch_size": 0}, "batch_size must be at least 1"),
        (StageOptions, {"captions": -1}, "captions must be at least 1"),
        (StageOptions, {"learning_rate": 0.0}, "learning_rate must be above 0"),
        (StageOptions, {"learning_rate": float("nan")}, "learning_rate must be above 0"),
        (StageOptions, {"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1"),
        (StageOptions, {"average": 1.0}, "average must be at least 0 and below 1"),
        (StageOptions, {"warmup": 2.0}, "warmup must be"),
        (StageOptions, {"final_rate": -0.1}, "final_rate must be"),
        (StageOptions, {"clip_norm": 0.0}, "clip_norm must be above 0"),
        (StageOptions, {"seed": -1}, "seed must be at least 0"),
        (CaptionTrainingOptions, {"samples": 1}, "samples must be at least 2"),
        (CaptionTrainingOptions, {"mix": 1.5}, "mix must be"),
        (CaptionTrainingOptions, {"precision": "f16"}, "precision must be bf16 or f32, not 'f16'"),
        (CaptionTrainingOptions, {"cell": "transformer"}, "cell must be lstm, gru, simple_rnn"),
        (CaptionTrainingOptions, {"min_count": 0}, "min_count must be at least 1"),
        (CaptionTrainingOptions, {"channel_dropout": 1.0}, "channel_dropout must be at least 0 and below 1"),
        (CaptionTrainingOptions, {"memory_dropout": -0.1}, "memory_dropout must be at least 0 and below 1"),
        (CaptionTrainingOptions, {"image_size": 0}, "image_size must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(kind, values, message):
    values = {"epochs": 1, **values} if kind is StageOptions else values
    with pytest.raises(CaptionerError, match=message) as error:
        kind(**values)
    assert error.value.kind == "usage"


def test_a_checkpoint_depends_on_its_own_stage_alone():
    options = CaptionTrainingOptions()
    changed = replace(options, finetune=replace(options.finetune, epochs=99))
    assert changed.settings("decoder") == options.settings("decoder")
    assert changed.settings("finetune") != options.settings("finetune")
    assert replace(options, mix=0.5).settings("decoder") != options.settings("decoder")
    assert replace(options, units=64).settings("decoder") != options.settings("decoder")
    assert replace(options, channel_dropout=0.1).settings("decoder") != options.settings("decoder")
    # what could not be chosen at first is not in the checkpoints of then
    assert "channel_dropout" not in options.settings("decoder")


def test_sizes_and_dropouts_have_one_source():
    options, config = CaptionTrainingOptions(), DecoderConfig(10)
    for name in ("cell", "units", "embedding_units", "memory_units", "heads", "memory_dropout", "channel_dropout"):
        assert getattr(options, name) == getattr(config, name), name


# ---------------------------------------------------------------- batches


@pytest.fixture
def table():
    captions = {
        "a": ["a dog runs on grass", "the dog is left alone there", "a dog"],
        "b": ["two", "dogs play"],
        "c": ["a dog runs very on grass fast"],
    }
    words = ["a", "dog", "runs", "on", "grass", "the", "left", "is", "dogs", "play"]
    return TokenTable.build(captions, Tokenizer(words), max_length=5)


def test_short_captions_are_left_out_where_there_are_others(table):
    assert [len(table.tokens[file]) for file in "abc"] == [2, 2, 1]
    assert table.tokens["b"].tolist() == [[1, 3, 2, 0, 0, 0, 0], [1, 12, 13, 2, 0, 0, 0]]
    assert table.tokens["c"].tolist() == [[1, 4, 5, 6, 3, 7, 0]]
    assert table.sided == {"a"}


def test_every_caption_is_drawn_once_and_the_rest_is_empty(table):
    rng = np.random.default_rng(0)
    drawn = table.draw(["a", "c"], 3, rng)
    assert drawn.shape == (2, 3, 7)
    empty = (table.start, *[0] * 6)
    for row, file in zip(drawn, "ac", strict=True):
        captions = [tuple(caption) for caption in table.tokens[file]]
        assert sorted(tuple(caption) for caption in row) == sorted(captions + [empty] * (3 - len(captions)))
    _, y = table.targets(drawn, 0.0)
    assert (y["weights"].sum(axis=2) > 0).sum() == 3  # empty ones count nothing
    orders = {tuple(map(tuple, table.draw(["a"], 2, rng)[0])) for _ in range(20)}
    assert len(orders) == 2


def test_targets_are_the_next_words_and_unknown_words_are_no_answer(table):
    drawn = np.stack([table.tokens["b"], table.tokens["c"][[0, 0]]])
    inputs, y = table.targets(drawn, label_smoothing=0.2)
    np.testing.assert_array_equal(inputs, drawn[:, :, :-1])
    np.testing.assert_array_equal(y["targets"], drawn[:, :, 1:])
    # two: only the end; dogs play: both and the end; the long one, cut, twice: four known words
    counted = [[0, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 1, 0], [1, 1, 1, 0, 1, 0]]
    np.testing.assert_allclose(y["weights"].reshape(4, 6) * 12, counted, atol=1e-6)
    assert y["weights"].sum() == pytest.approx(1)
    assert (y["smoothing"] == np.float32(0.2)).all() and y["smoothing"].shape == (2, 2, 1)


def cached(table, files="abc", **options):
    grids = np.arange(4, dtype=np.float16).reshape(4, 1, 1)
    views = [(dict(zip("abc", (0, 1, 2), strict=True)), grids), (dict(zip("abc", (1, 2, 3), strict=True)), -grids)]
    return CachedBatches(
        files, views, table, **{"batch_size": 2, "captions": 2, "label_smoothing": 0.1, "seed": 3, **options}
    )


def test_epochs_are_shuffled_and_repeatable(table):
    batches = cached(table)
    first = list(batches(0))
    assert len(batches(0)) == len(first) == 1  # the third photo fills no batch
    for (x, y), (x2, y2) in zip(first, batches(0), strict=True):
        np.testing.assert_array_equal(x["tokens"], x2["tokens"])
        np.testing.assert_array_equal(x["grid"], x2["grid"])
        np.testing.assert_array_equal(y["targets"], y2["targets"])
    seen = {tuple(files) for epoch in range(30) for files, _ in batches.shuffled(epoch)}
    assert len(seen) == 6
    assert [files for files, _ in batches.shuffled(5)] != [files for files, _ in cached(table, seed=4).shuffled(5)] or [
        files for files, _ in batches.shuffled(6)
    ] != [files for files, _ in cached(table, seed=4).shuffled(6)]


def test_a_photo_with_a_side_in_its_captions_is_never_flipped(table):
    batches, rng = cached(table), np.random.default_rng(0)
    grids = np.concatenate([batches.grid(["a", "b", "c"], rng) for _ in range(50)], axis=1).reshape(3, 50)
    assert set(grids[0]) == {0.0} and set(grids[1]) == {1.0, -2.0} and set(grids[2]) == {2.0, -3.0}
    assert 10 < (grids[1] < 0).sum() < 40


def test_fewer_photos_than_a_batch(table):
    (batch,) = list(cached(table, batch_size=48)(0))
    assert batch[0]["tokens"].shape == (3, 2, 6)


def test_augmented_photos():
    rng = np.random.default_rng(0)
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32] = (200, 60, 60)
    seen = [augment_photo(image, rng, flip_allowed=True) for _ in range(40)]
    assert all(other.shape == image.shape and other.dtype == np.uint8 for other in seen)
    flipped = [other[:, :8].mean() < other[:, -8:].mean() for other in seen]
    assert 8 < sum(flipped) < 32
    kept = [augment_photo(image, rng, flip_allowed=False) for _ in range(40)]
    assert all(other[:, :8].mean() > other[:, -8:].mean() for other in kept)
    # it stays the same photo: a quarter cut off moves the edge by a sixth, the colour is red
    assert all(abs((other[32, :, 0] > other[32, :, 0].mean()).sum() - 32) <= 64 / 6 + 1 for other in kept)
    assert all(other[:, 2, 0].mean() > other[:, 2, 1].mean() + 40 for other in kept)
    again = augment_photo(image, np.random.default_rng(5), True)
    np.testing.assert_array_equal(again, augment_photo(image, np.random.default_rng(5), True))
    assert image[0, 0].tolist() == [200, 60, 60]


# ---------------------------------------------------------------- the loss


def make_decoder(**changes):
    keras.utils.set_random_seed(0)
    sizes = {"units": 8, "embedding_units": 6, "memory_units": 8, "heads": 2, "grid_channels": 5, **changes}
    return Decoder(DecoderConfig(VOCABULARY, **sizes), name="decoder")


def make_batch(photos=4, captions=2, steps=5, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(4, VOCABULARY, (photos, captions, steps + 1)).astype(np.int32)
    weights = (rng.random((photos, captions, steps)) < 0.8).astype(np.float32)
    x = {"grid": rng.normal(size=(photos, 6, 5)).astype(np.float32), "tokens": tokens[:, :, :-1]}
    y = {
        "targets": tokens[:, :, 1:],
        "weights": weights / weights.sum(),
        "smoothing": np.full((photos, captions, 1), 0.1, np.float32),
    }
    return x, y


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def test_label_smoothing_by_hand():
    model = CaptionTrainingModel(make_decoder(), None, StageOptions(epochs=1))
    _, y = make_batch()
    y["smoothing"][1] = 0.3  # every caption may have its own
    logits = np.random.default_rng(1).normal(size=(4, 2, 5, VOCABULARY)).astype(np.float32)
    logprobs = log_softmax(logits)
    loss = 0.0
    for photo, caption, step in np.ndindex(4, 2, 5):
        share = np.full(VOCABULARY, y["smoothing"][photo, caption, 0] / VOCABULARY)
        share[y["targets"][photo, caption, step]] += 1 - y["smoothing"][photo, caption, 0]
        loss -= y["weights"][photo, caption, step] * (share * logprobs[photo, caption, step]).sum()
    found = model.compute_loss(y=y, y_pred={"logits": logits, "attention": None})
    assert float(found) == pytest.approx(loss, rel=1e-5)


def test_the_loss_of_the_tags_by_hand():
    model = CaptionTrainingModel(make_decoder(), None, StageOptions(epochs=1, tag_weight=0.5))
    _, y = make_batch()
    rng = np.random.default_rng(2)
    logits = np.zeros((4, 2, 5, VOCABULARY), np.float32)
    odds = rng.normal(size=(4, 6)).astype(np.float32)
    used = (rng.random((4, 6)) < 0.5).astype(np.float32)
    shares = np.array([[1.0], [1.0], [0.4], [0.2]], np.float32)  # five captions, two, one
    loss = 0.0
    for photo, tag in np.ndindex(4, 6):
        one_of_five = 1 / (1 + np.exp(-float(odds[photo, tag])))
        somebody = 1 - (1 - one_of_five) ** float(shares[photo, 0])
        loss -= np.log(somebody if used[photo, tag] else 1 - somebody) / 4
    pred = {"logits": logits, "attention": None, "tags": odds}
    found = float(model.compute_loss(y={**y, "used": used, "shares": shares}, y_pred=pred))
    assert found == pytest.approx(np.log(VOCABULARY) + 0.5 * loss, rel=1e-5)
    assert float(model.compute_loss(y=y, y_pred=pred)) == pytest.approx(np.log(VOCABULARY), rel=1e-5)


def test_uneven_attention_by_hand():
    model = CaptionTrainingModel(make_decoder(), None, StageOptions(epochs=1, attention_weight=2.0))
    _, y = make_batch()
    logits = np.zeros((4, 2, 5, VOCABULARY), np.float32)
    attention = np.random.default_rng(3).dirichlet(np.ones(6), (8, 5)).astype(np.float32)
    covered = (attention * (y["weights"].reshape(8, 5, 1) != 0)).sum(axis=1)
    penalty = ((covered / covered.mean(axis=1, keepdims=True) - 1) ** 2).mean()
    found = float(model.compute_loss(y=y, y_pred={"logits": logits, "attention": attention}))
    assert found == pytest.approx(np.log(VOCABULARY) + 2 * penalty, rel=1e-4)
    even = float(model.compute_loss(y=y, y_pred={"logits": logits, "attention": np.full((8, 5, 6), 1 / 6, np.float32)}))
    assert even == pytest.approx(np.log(VOCABULARY), rel=1e-4)


# ---------------------------------------------------------------- the optimiser


def test_rates_rise_and_fall():
    schedule = make_optimizer(StageOptions(epochs=4, learning_rate=0.1, warmup=0.2, final_rate=0.05), 25)._learning_rate
    rates = [float(schedule(step)) for step in range(101)]
    np.testing.assert_allclose(rates[:21], np.linspace(0, 0.1, 21), atol=1e-7)
    expected = 0.1 * (0.05 + 0.95 * (1 + np.cos(np.pi * np.arange(81) / 80)) / 2)
    np.testing.assert_allclose(rates[20:], expected, atol=1e-7)
    flat = make_optimizer(StageOptions(epochs=1, learning_rate=0.1, warmup=0.0), 1)._learning_rate
    assert float(flat(0)) == pytest.approx(0.1)


def adam_step(weight, gradient, rate, decay, t=1, m=0.0, v=0.0, b1=0.9, b2=0.99, epsilon=1e-7, slow=1.0):
    """AdamW as Keras writes it: decay first, bias correction in the rate."""
    weight = weight - weight * decay * rate
    m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
    corrected = slow * rate * np.sqrt(1 - b2**t) / (1 - b1**t)
    return weight - corrected * m / (np.sqrt(v) + epsilon), m, v


def test_two_rates_by_hand():
    fast, slow = (keras.Variable(np.array([1.0, -2.0], np.float32), name=name) for name in ("fast", "slow"))
    optimizer = TwoRateAdamW(0.1, weight_decay=0.01, beta_2=0.99, slow=[slow], factor=0.25)
    expected = {"fast": (np.array([1.0, -2.0]), 0.0, 0.0), "slow": (np.array([1.0, -2.0]), 0.0, 0.0)}
    for t in (1, 2, 3):
        gradient = np.array([0.3 * t, -0.1], np.float32)
        optimizer.apply([gradient, gradient], [fast, slow])
        for name, factor in (("fast", 1.0), ("slow", 0.25)):
            weight, m, v = expected[name]
            expected[name] = adam_step(weight, gradient, 0.1, 0.01, t, m, v, slow=factor)
    np.testing.assert_allclose(np.asarray(fast), expected["fast"][0], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(slow), expected["slow"][0], rtol=1e-5)
    moved = [np.abs(np.asarray(v) - [1.0, -2.0]).sum() for v in (fast, slow)]
    assert moved[1] < 0.4 * moved[0]


def test_gradients_are_clipped_by_their_common_norm_and_biases_do_not_decay():
    options = StageOptions(epochs=1, learning_rate=0.1, warmup=0.0, clip_norm=0.5, weight_decay=0.5)
    kernel, bias = keras.Variable(np.array([3.0]), name="kernel"), keras.Variable(np.array([3.0]), name="bias")
    optimizer = make_optimizer(options, 10**6)
    clipped = []
    optimizer.update_step = lambda gradient, variable, rate: clipped.append(float(np.asarray(gradient)[0]))
    optimizer.apply([np.array([30.0], np.float32), np.array([40.0], np.float32)], [kernel, bias])
    np.testing.assert_allclose(clipped, [0.3, 0.4], rtol=1e-5)
    assert float(np.asarray(kernel)[0]) == pytest.approx(3 - 3 * 0.5 * 0.1, rel=1e-4)
    assert float(np.asarray(bias)[0]) == 3.0


# ---------------------------------------------------------------- averaging, checkpoints, fitting


class Batches:
    """Two fixed batches an epoch."""

    def __init__(self, logs=None):
        self.logs = logs

    def __call__(self, epoch):
        return [
            (x, {**y, **({"logs": dict(self.logs)} if self.logs else {})})
            for x, y in map(self.batch, (epoch, epoch + 1))
        ]

    @staticmethod
    def batch(seed):
        return make_batch(seed=seed % 3)


def compiled_model(options, encoder=None, **sizes):
    model = CaptionTrainingModel(make_decoder(**sizes), encoder, options)
    model.compile(make_optimizer(options, 2), jit_compile=False)
    return model


@pytest.fixture(scope="module")
def trained():
    """Three steps, the trainable weights after each."""
    model = compiled_model(StageOptions(epochs=5, learning_rate=0.05, average=0.6, warmup=0.0))
    history = []
    for step in range(3):
        model.train_on_batch(*make_batch(seed=step))
        history.append([np.asarray(variable).copy() for variable in model.trainable_variables])
    return model, history


def test_the_average_is_the_average_and_is_taken_back(trained):
    model, history = trained
    expected = history[0]
    for weights in history[1:]:
        expected = [0.6 * average + 0.4 * weight for average, weight in zip(expected, weights, strict=True)]
    with averaged_weights(model):
        for variable, average in zip(model.trainable_variables, expected, strict=True):
            np.testing.assert_allclose(np.asarray(variable), average, rtol=1e-4, atol=1e-6)
    for variable, weight in zip(model.trainable_variables, history[-1], strict=True):
        np.testing.assert_array_equal(np.asarray(variable), weight)


def test_the_weights_are_taken_back_after_an_error(trained):
    model, history = trained
    with pytest.raises(KeyboardInterrupt), averaged_weights(model):
        raise KeyboardInterrupt
    np.testing.assert_array_equal(np.asarray(model.trainable_variables[0]), history[-1][0])


def test_every_weight_learns(trained):
    model, history = trained
    assert len(history[0]) == len(model.decoder.trainable_variables) > 15
    for variable, before, after in zip(model.trainable_variables, history[0], history[-1], strict=True):
        assert np.abs(after - before).max() > 0, variable.path


def test_checkpoint_round_trip(trained, tmp_path):
    model, _ = trained
    checkpoint = Checkpoint(tmp_path / "x.npz", {"a": 1})
    assert checkpoint.restore(model) is None
    checkpoint.save(model, {"rows": [], "best": 1.5})
    saved = [np.asarray(v).copy() for v in (*model.variables, *model.optimizer.variables)]
    for variable in model.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    assert Checkpoint(tmp_path / "x.npz", {"a": 1}).restore(model) == {"rows": [], "best": 1.5}
    for variable, value in zip((*model.variables, *model.optimizer.variables), saved, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)


def test_checkpoints_of_another_run_and_damaged_ones_are_refused(trained, tmp_path):
    model, _ = trained
    path = tmp_path / "x.npz"
    Checkpoint(path, {"a": 1}).save(model, {})
    before = np.asarray(model.trainable_variables[0]).copy()
    with pytest.raises(DatasetError, match=r"x\.npz: belongs to a run with other settings"):
        Checkpoint(path, {"a": 2}).restore(model)
    other = compiled_model(StageOptions(epochs=1), units=16)
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(DatasetError, match=r"x\.npz: belongs to a run with other settings"):
        Checkpoint(path, {"a": 1}).restore(other)
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], b"", b"nonsense", data[:-40]):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"x\.npz: damaged"):
            Checkpoint(path, {"a": 1}).restore(model)
    np.testing.assert_array_equal(np.asarray(model.trainable_variables[0]), before)


def fit(folder, epochs=3, *, scores=(), patience=9, stop_after=None, batches=None, progress=None, dropout=0.5):
    """Trains the tiny decoder; ``scores`` are what evaluation says; returns record, model and saved weights."""
    options = StageOptions(epochs=epochs, learning_rate=0.03, average=0.5, patience=patience)
    model = compiled_model(options, dropout=dropout)
    scores, saved, evaluated = list(scores), [], []

    def evaluate():
        if stop_after == len(evaluated):
            raise KeyboardInterrupt
        evaluated.append(np.asarray(model.trainable_variables[0]).copy())
        return {"cider_d": scores.pop(0) if scores else float(len(evaluated))}

    record = fit_stage(
        model,
        batches or Batches(),
        evaluate,
        name="decoder",
        options=options,
        folder=folder,
        settings={"epochs": epochs},
        on_best=lambda record: saved.append(np.asarray(model.trainable_variables[0]).copy()),
        progress=progress,
    )
    return record, model, saved, evaluated


def test_a_stage(tmp_path):
    calls = []
    batches = Batches({"reward": 2.5})
    record, model, saved, evaluated = fit(
        tmp_path, 4, scores=[5.0, 9.0, 8.0, 9.0], batches=batches, progress=lambda *call: calls.append(call)
    )
    losses = [row["loss"] for row in record["rows"]]
    assert [row["epoch"] for row in record["rows"]] == [1, 2, 3, 4] and losses[-1] < losses[0]
    assert record["best"] == 9.0 and record["since_best"] == 2 and len(saved) == 2
    np.testing.assert_array_equal(saved[1], evaluated[1])
    # what is evaluated and saved is the average, what goes on learning is not
    assert np.abs(evaluated[-1] - np.asarray(model.trainable_variables[0])).max() > 0
    assert [call[:5] for call in calls] == [("decoder", e, 4, step, 2) for e in (1, 2, 3, 4) for step in (1, 2)]
    with open(tmp_path / "decoder.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["cider_d"]) for row in rows] == [5, 9, 8, 9] and {row["reward"] for row in rows} == {"2.5"}
    assert [float(row["loss"]) for row in rows] == losses


def test_a_stage_ends_when_nothing_gets_better(tmp_path):
    record, *_ = fit(tmp_path, 9, scores=[5.0, 4.0, 6.0, 6.0, 5.0], patience=2)
    assert [row["cider_d"] for row in record["rows"]] == [5, 4, 6, 6, 5]


def test_a_resumed_stage_equals_an_uninterrupted_one(tmp_path):
    whole, model, saved, _ = fit(tmp_path / "whole", 3)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", 3, stop_after=2)  # the third epoch is trained, but not yet evaluated
    assert len(json.loads(str(np.load(tmp_path / "parts" / "decoder.checkpoint.npz")["record"]))["rows"]) == 2
    resumed, again, saved_again, _ = fit(tmp_path / "parts", 3, scores=[3.0])
    strip = lambda record: [{**row, "seconds": 0} for row in record["rows"]]  # noqa: E731
    assert strip(resumed) == strip(whole)
    np.testing.assert_array_equal(saved_again[-1], saved[-1])
    for one, other in zip(
        (*model.variables, *model.optimizer.variables), (*again.variables, *again.optimizer.variables), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), err_msg=one.path)
    # a finished stage is not trained again
    record, _, nothing, _ = fit(tmp_path / "parts", 3, stop_after=0)
    assert strip(record) == strip(whole) and not nothing


def test_a_training_that_diverges_says_so(tmp_path):
    def batches(epoch):
        x, y = make_batch()
        return [(x, {**y, "weights": np.full_like(y["weights"], np.nan)})]

    with pytest.raises(CaptionerError, match="decoder: the loss of epoch 1, step 1 is nan; the training has diverged"):
        fit(tmp_path, batches=batches)
    assert not (tmp_path / "decoder.checkpoint.npz").exists()


def test_the_log_does_without_tensorboard(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    rows = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "cider_d": 5.0}]
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "tensorboard" else find(name, *rest)
    )
    TrainingLog(tmp_path / "without", "decoder").write(rows)
    assert (tmp_path / "without" / "decoder.csv").read_text() == "epoch,loss,cider_d\n1,2.0,\n2,1.0,5.0\n"
    assert not (tmp_path / "without" / "tensorboard").exists()


def test_events_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("events are written by TensorFlow")
    TrainingLog(tmp_path, "decoder").write([{"epoch": 1, "loss": 2.0}])
    (events,) = (tmp_path / "tensorboard" / "decoder").iterdir()
    assert b"loss" in events.read_bytes()
