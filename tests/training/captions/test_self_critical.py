"""Self-critical training: the sampler, rewards, advantages, the gradient, and that the mean reward rises."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from captioner.evaluation.coco_metrics import CiderD
from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.tokenizer import Tokenizer
from captioner.training.captions.batches import CachedBatches, TokenTable
from captioner.training.captions.loop import CaptionTrainingModel
from captioner.training.captions.mixture import Mixture, Source
from captioner.training.captions.options import StageOptions
from captioner.training.captions.self_critical import Sampler, SelfCriticalBatches, advantages
from captioner.training.loop import make_optimizer

WORDS = ["a", "dog", "cat", "runs", "sits", "here"]
CAPTIONS = {
    "1": ("a dog runs here", "a dog runs"),
    "2": ("a cat sits here", "a cat sits"),
    "3": ("here sits a dog", "here sits a dog"),
    "4": ("here runs a cat", "here runs a zebra"),
}
MIXTURE = Mixture({"a": Source(None)}, {}, CAPTIONS, tuple(CAPTIONS), {}, dict.fromkeys(CAPTIONS, "a"))
LENGTH = 4
START, END, PAD, UNKNOWN = 1, 2, 0, 3


def make_decoder(dropout=0.0):
    keras.utils.set_random_seed(3)
    config = DecoderConfig(
        len(WORDS) + 4, 4, units=16, embedding_units=8, memory_units=8, heads=2, dropout=dropout, memory_dropout=dropout
    )
    return Decoder(config, name="decoder")


def make_batches(sampler, mix=1.0, common_weight=0.0, **options):
    tokenizer = Tokenizer(WORDS)
    # every photo is a grid of its own: one channel is lit
    grids = np.repeat(np.eye(4, dtype=np.float16)[:, None], 3, axis=1)
    lookup = {file: row for row, file in enumerate(CAPTIONS)}
    batches = CachedBatches(
        list(CAPTIONS),
        [(lookup, grids)],
        TokenTable.build(CAPTIONS, tokenizer, LENGTH),
        **{"batch_size": 4, "captions": 2, "label_smoothing": 0.1, "seed": 0, **options},
    )
    return SelfCriticalBatches(
        batches, mixture=MIXTURE, tokenizer=tokenizer, sampler=sampler, mix=mix, common_weight=common_weight
    )


def starts(photos):
    return np.full(len(photos), START, np.int32)


def log_softmax(x):
    x = np.asarray(x, np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


# ---------------------------------------------------------------- advantages and rewards


def test_advantages_by_hand():
    found = advantages(np.array([[3.0, 1.0, 2.0], [5.0, 5.0, 5.0]]))
    # the others of the first sample have 1.5 on average, those of the second 2.5, those of the third 2
    np.testing.assert_allclose(found, [[1.5, -1.5, 0.0], [0, 0, 0]])
    rewards = np.random.default_rng(0).random((7, 5))
    np.testing.assert_allclose(advantages(rewards).sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(advantages(rewards + 3), advantages(rewards))


def sampled(*rows):
    """Token rows (1, samples, LENGTH + 1) of sentences; ``.`` is the end."""
    tokenizer = Tokenizer(WORDS)
    table = np.zeros((1, len(rows), LENGTH + 1), np.int32)
    for row, text in zip(table[0], rows, strict=True):
        tokens = [END if word == "." else tokenizer.encode([word])[0] for word in text.split()]
        row[: len(tokens)] = tokens
    return table


def test_rewards_are_cider_d_with_the_end_as_a_word():
    batches = make_batches(None)
    found = batches.rewards(["1"], sampled("a dog runs here .", "a dog runs here", "a cat sits here .", "."))[0]
    reference = CiderD({file: [[*text.split(), "END"] for text in texts] for file, texts in CAPTIONS.items()})
    expected = reference.score(
        ["1"] * 4,
        [
            ["a", "dog", "runs", "here", "END"],
            ["a", "dog", "runs", "here"],
            ["a", "cat", "sits", "here", "END"],
            ["END"],
        ],
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[0] > found[1] > found[2] and found.dtype == np.float32


def test_unknown_words_of_references_are_words_of_their_own():
    batches = make_batches(None)
    zebra, cat = batches.rewards(["4"], sampled("here runs a cat .", "here runs a dog ."))[0]
    reference = CiderD({file: [[*text.split(), "END"] for text in texts] for file, texts in CAPTIONS.items()})
    expected = reference.score(["4", "4"], [["here", "runs", "a", "cat", "END"], ["here", "runs", "a", "dog", "END"]])
    np.testing.assert_allclose([zebra, cat], expected, rtol=1e-6)


def test_what_suits_every_photo_earns_less():
    rows = sampled("a dog runs here .", "a a a a .")
    plain = make_batches(None).rewards(["1"], rows)
    less = make_batches(None, common_weight=0.5).rewards(["1"], rows)
    common = CiderD({file: [[*text.split(), "END"] for text in texts] for file, texts in CAPTIONS.items()}).commonness(
        [["a", "dog", "runs", "here", "END"], ["a", "a", "a", "a", "END"]]
    )
    np.testing.assert_allclose(less[0], plain[0] - 0.5 * common, rtol=1e-6)
    assert (common > 0).any()


def references_alone(batches):
    """The cross-entropy part of a batch of the first photo."""
    _, x, y = next(batches.batches.named(0))
    return {name: array[:1] for name, array in x.items()}, {name: array[:1] for name, array in y.items()}


def test_a_batch_joins_samples_and_references():
    batches = make_batches(None, mix=0.75)
    rows = sampled("a dog runs .", "a cat", ".")
    rewards = np.array([[4.0, 1.0, 1.0]], np.float32)
    before, targets = references_alone(batches)
    targets["weights"] = targets["weights"] / targets["weights"].sum()
    x, y = batches.join(before, targets, rows, rewards, np.ones(1))
    np.testing.assert_array_equal(x["grid"], before["grid"])
    np.testing.assert_array_equal(x["tokens"][:, 3:], before["tokens"])
    assert x["tokens"].shape == y["targets"].shape == y["weights"].shape == (1, 3 + 2, LENGTH + 1)
    np.testing.assert_array_equal(y["targets"][:, :3], rows)
    np.testing.assert_array_equal(x["tokens"][0, :3, 0], START)
    np.testing.assert_array_equal(x["tokens"][0, :3, 1:], rows[0, :, :-1])
    # seven sampled words, ends included; the advantages are 3, -1.5 and -1.5
    share = 0.75 / 7
    expected = [[3, 3, 3, 3, 0], [-1.5, -1.5, 0, 0, 0], [-1.5, 0, 0, 0, 0]]
    np.testing.assert_allclose(y["weights"][0, :3], share * np.array(expected), rtol=1e-6)
    assert y["weights"][0, 3:].sum() == pytest.approx(0.25)
    np.testing.assert_allclose(y["smoothing"][0, :, 0], [0, 0, 0, 0.1, 0.1])
    assert y["logs"] == {"reward": 2.0, "sampled_words": pytest.approx(4 / 3)}


# ---------------------------------------------------------------- the sampler


@pytest.fixture(scope="module")
def sampler():
    decoder = make_decoder()
    for variable in decoder.trainable_variables:
        variable.assign(np.random.default_rng(1).normal(0, 0.5, variable.shape))
    return Sampler(decoder, Tokenizer(WORDS), samples=3000, max_length=2)


def allowed_probabilities(logits):
    logits = np.array(logits, np.float64)
    logits[..., [PAD, START, UNKNOWN]] = -np.inf
    with np.errstate(divide="ignore"):
        return np.exp(log_softmax(logits))


def test_samples_are_distributed_as_the_softmax(sampler):
    grid = np.random.default_rng(2).normal(size=(2, 3, 4)).astype(np.float32)
    drawn = sampler(grid, starts(grid), seed=5)
    assert drawn.shape == (2, 3000, 3) and drawn.dtype == np.int32
    state, memory = sampler.decoder.initial_state(grid)
    logits, state, _ = sampler.decoder.step(np.array([START, START], np.int32), state, memory)
    first = allowed_probabilities(logits)
    for photo in range(2):
        counts = np.bincount(drawn[photo, :, 0], minlength=len(WORDS) + 4)
        # five standard deviations of a share of 3000 draws
        np.testing.assert_allclose(counts / 3000, first[photo], atol=5 * 0.5 / np.sqrt(3000))
        assert counts[[PAD, START, UNKNOWN]].sum() == 0
    before = first[:, 4:].argmax(axis=1) + 4
    second = allowed_probabilities(sampler.decoder.step(before.astype(np.int32), state, memory)[0])
    for photo in range(2):
        after = drawn[photo, drawn[photo, :, 0] == before[photo], 1]
        counts = np.bincount(after, minlength=len(WORDS) + 4)
        np.testing.assert_allclose(counts / len(after), second[photo], atol=5 * 0.5 / np.sqrt(len(after)))


def test_nothing_follows_the_end(sampler):
    drawn = sampler(np.zeros((1, 3, 4), np.float32), starts([0]), seed=1)[0]
    ended = np.cumsum(drawn == END, axis=1) - (drawn == END) > 0
    assert ended.any() and (drawn[ended] == PAD).all() and (drawn[~ended] != PAD).all()


def test_the_seed_decides(sampler):
    grid = np.zeros((2, 3, 4), np.float32)
    first, again, other = (
        sampler(grid, starts(grid), seed=7),
        sampler(grid, starts(grid), seed=7),
        sampler(grid, starts(grid), seed=8),
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first[0] != first[1]).any()  # photos draw on their own


def test_photos_are_encoded_with_the_weights_of_the_moment():
    decoder = make_decoder()
    images = keras.Input((2, 2, 3))
    scale = keras.layers.Dense(4, name="scale")
    encoder = keras.Model(images, {"grid": scale(images)})
    from_photos = Sampler(decoder, Tokenizer(WORDS), samples=4, max_length=LENGTH, encoder=encoder)
    from_grids = Sampler(decoder, Tokenizer(WORDS), samples=4, max_length=LENGTH)
    photos = np.random.default_rng(0).normal(size=(2, 2, 2, 3)).astype(np.float32)
    for factor in (1.0, 50.0):
        scale.kernel.assign(factor * np.random.default_rng(1).normal(size=(3, 4)))
        grids = np.asarray(encoder(photos)["grid"]).reshape(2, 4, 4)
        np.testing.assert_array_equal(
            from_photos(photos, starts(photos), seed=3), from_grids(grids, starts(grids), seed=3)
        )


# ---------------------------------------------------------------- the gradient, and what it does


def test_the_gradient_is_minus_the_advantage_times_that_of_the_log_probability():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("takes the gradient with TensorFlow")
    import tensorflow as tf

    batches = make_batches(None, mix=1.0)
    rows = sampled("a dog runs .", "a cat", ".")
    rewards = np.array([[4.0, 1.0, 1.0]], np.float32)
    _, y = batches.join(*references_alone(batches), rows, rewards, np.ones(1))
    y.pop("logs")
    logits = np.random.default_rng(3).normal(size=(1, 5, LENGTH + 1, len(WORDS) + 4)).astype(np.float32)
    model = CaptionTrainingModel(make_decoder(), None, StageOptions(epochs=1))
    with tf.GradientTape() as tape:
        watched = tf.Variable(logits)
        loss = model.compute_loss(y=y, y_pred={"logits": watched, "attention": None})
    found = tape.gradient(loss, watched).numpy()
    expected = np.zeros_like(logits)
    for caption, advantage in enumerate((3.0, -1.5, -1.5)):
        for step in range(LENGTH + 1):
            if rows[0, caption, step]:
                # d log p(word) / d logits is the word itself minus the softmax; seven words share the mean
                slope = -np.exp(log_softmax(logits[0, caption, step]))
                slope[rows[0, caption, step]] += 1
                expected[0, caption, step] = -advantage * slope / 7
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_mean_reward_rises():
    decoder = make_decoder()
    sampler = Sampler(decoder, Tokenizer(WORDS), samples=6, max_length=LENGTH)
    batches = make_batches(sampler)
    options = StageOptions(epochs=60, learning_rate=0.03, warmup=0.0)
    model = CaptionTrainingModel(decoder, None, options)
    model.compile(make_optimizer(options, 1), jit_compile=False)
    rewards = []
    for epoch in range(60):
        for x, y in batches(epoch):
            rewards.append(y.pop("logs")["reward"])
            model.train_on_batch(x, y)
    assert len(rewards) == 60
    assert np.mean(rewards[-10:]) > 1.5 * np.mean(rewards[:10])


def test_samples_come_from_the_weights_of_the_moment():
    decoder = make_decoder()
    sampler = Sampler(decoder, Tokenizer(WORDS), samples=2, max_length=LENGTH)
    batches = iter(make_batches(sampler, batch_size=2)(0))
    next(batches)
    bias = np.zeros(len(WORDS) + 4)
    bias[END] = 100
    decoder.output_bias.assign(bias)
    _, y = next(batches)
    assert (y["targets"][:, :2, 0] == END).all() and y["logs"]["sampled_words"] == 0
