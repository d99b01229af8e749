"""Search against exhaustive search, against plain softmax, and against itself in other batches."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from captioner.errors import CaptionerError
from captioner.models.search import Hypothesis, SearchOptions, search

PAD, START, END, UNKNOWN = range(4)
FORBIDDEN = (PAD, START, UNKNOWN)
WORDS = (4, 5, 6, 7)
DEFAULT = SearchOptions().length_penalty


def product(rows, matrix):
    """A matrix product whose rows do not depend on each other to the last bit, as those of a blocked product may."""
    return sum(rows[:, i, None] * matrix[i] for i in range(len(matrix)))


class TinyModel:
    """A random recurrent model: every history has its own diffuse distribution, and every image its own model."""

    def __init__(self, seed=0, vocabulary=8, units=6, positions=3, sharpness=1.5, bonus=None):
        rng = np.random.default_rng(seed)
        self.embedding = rng.normal(size=(vocabulary, units))
        self.recurrent = rng.normal(size=(units, units))
        self.output = rng.normal(size=(units, vocabulary)) * sharpness
        self.look = rng.normal(size=(units, positions))
        self.bonus = np.zeros(vocabulary)
        for word, value in (bonus or {}).items():
            self.bonus[word] = value
        self.units = units
        self.rows = []

    def batch(self, images):
        """State and memory of images, each given by its number."""
        state = np.stack([np.random.default_rng(1000 + i).normal(size=self.units) for i in images]).astype(np.float32)
        return (state,), (np.asarray(images, np.float32)[:, None] * 0.1,)

    def __call__(self, tokens, state, memory):
        assert tokens.dtype == np.int32 and len(tokens) % len(memory[0]) == 0
        self.rows.append(len(tokens))
        look = np.repeat(memory[0], len(tokens) // len(memory[0]), 0)
        h = np.tanh(self.embedding[tokens] + product(state[0], self.recurrent) + look).astype(np.float32)
        weights = np.exp(product(h, self.look))
        return product(h, self.output) + self.bonus, (h,), weights / weights.sum(1, keepdims=True)

    def rate_all(self, image, captions, end=True):
        """Log-probabilities (captions, steps) of the words of captions of one length (and the end), and attention
        (captions, words, positions), computed one word after the other in float64."""
        state, memory = self.batch([image] * len(captions))
        columns = [np.array(column, np.int32) for column in zip(*captions, strict=True)]
        columns += [np.full(len(captions), END, np.int32)] * end
        previous, logprobs, looks = np.full(len(captions), START, np.int32), [], []
        for column in columns:
            logits, state, attention = self(previous, state, memory)
            allowed = np.delete(logits, FORBIDDEN, axis=1)
            logprobs.append(np.take_along_axis(logits, column[:, None], 1)[:, 0] - np.log(np.exp(allowed).sum(axis=1)))
            looks.append(attention)
            previous = column
        return np.stack(logprobs, axis=1), np.stack(looks[: len(columns) - end], axis=1)

    def rate(self, image, words, end=True):
        """`rate_all` of one caption: (steps,) and (words, positions)."""
        (logprobs,), (looks,) = self.rate_all(image, [words], end)
        return logprobs, looks

    def exhaustive(self, image, max_length, penalty, keep=lambda words: True, min_length=1):
        """Every finished caption with its score, best first."""
        found = []
        for n in range(min_length, max_length + 1):
            captions = list(filter(keep, itertools.product(WORDS, repeat=n)))
            if captions:
                scores = self.rate_all(image, captions)[0].sum(axis=1) / (n + 1) ** penalty
                found += zip(scores.tolist(), captions, strict=True)
        return sorted(found, reverse=True)


def run(model, images, options, **more) -> list[list[Hypothesis]]:
    more.setdefault("forbidden", FORBIDDEN)
    return search(model, *model.batch(images), options, start=START, end=END, **more)


def same(a: Hypothesis, b: Hypothesis) -> bool:
    return (
        a.tokens == b.tokens
        and a.finished == b.finished
        and a.score == b.score
        and np.array_equal(a.logprobs, b.logprobs)
        and np.array_equal(a.attention, b.attention)
    )


def contains(words, phrase):
    return any(words[i : i + len(phrase)] == phrase for i in range(len(words)))


@pytest.mark.parametrize("penalty", [0.0, 0.8, 1.5])
def test_wide_beam_is_exhaustive(penalty):
    model = TinyModel(3)
    options = SearchOptions(beam_size=4**4, max_length=4, length_penalty=penalty, n_best=10)
    for image, found in enumerate(run(model, [0, 1, 2], options)):
        expected = model.exhaustive(image, 4, penalty)[:10]
        assert [h.tokens for h in found] == [words for _, words in expected]
        np.testing.assert_allclose([h.score for h in found], [score for score, _ in expected], rtol=1e-5)
        assert all(h.finished for h in found)


def test_narrow_beam_differs_from_greedy_and_never_scores_above_exhaustive():
    model = TinyModel(3)
    images = range(30)
    best = [model.exhaustive(i, 4, DEFAULT)[0][0] for i in images]
    mean = []
    for width in (1, 2, 4, 16):
        scores = [h[0].score for h in run(model, images, SearchOptions(beam_size=width, max_length=4))]
        finished = [h[0].finished for h in run(model, images, SearchOptions(beam_size=width, max_length=4))]
        assert all(s <= b + 1e-5 for s, b, f in zip(scores, best, finished, strict=True) if f)
        mean.append(np.mean([s for s, f in zip(scores, finished, strict=True) if f]))
    assert mean[0] < mean[1] < mean[2] <= mean[3]


def test_beam_against_a_plain_beam():
    """The definition, written without any array: lists of (total, words), one image, no early stop."""

    def plain(model, image, size, max_length, penalty):
        live, ended = [(0.0, ())], []
        for n in range(max_length + 1):
            options = []
            for _, words in live:
                for word in (END, *WORDS) if n else WORDS:
                    options.append((model.rate(image, (*words, word), end=False)[0].sum(), (*words, word)))
            options.sort(reverse=True)
            for total, words in options[:size]:
                if words[-1] == END:
                    ended.append((total / (n + 1) ** penalty, words[:-1]))
            live = [option for option in options if option[1][-1] != END][:size]
        return max(ended, default=(None, None))

    model = TinyModel(5, sharpness=1.5)
    for image, found in enumerate(run(model, range(25), SearchOptions(beam_size=2, max_length=6, length_penalty=1.2))):
        score, words = plain(model, image, 2, 6, 1.2)
        assert found[0].finished == (words is not None)
        if found[0].finished:
            assert found[0].tokens == words
            assert found[0].score == pytest.approx(score, rel=1e-5)


def test_early_stop_and_leaving_images():
    model = TinyModel(7, sharpness=2.5)
    options = SearchOptions(beam_size=3, max_length=40, length_penalty=0.0)
    run(model, range(20), options)
    assert len(model.rows) < 41 and model.rows[0] == 20 and model.rows[1] == 60
    assert model.rows[-1] < 60 and sorted(model.rows[1:], reverse=True) == model.rows[1:]


def test_the_search_goes_on_while_a_longer_caption_can_still_win():
    def step(tokens, state, memory):
        """Ends after the first word with probability 1/2, otherwise surely after the sixth."""
        words = state[0][:, 0]
        end = np.select([words == 1, words == 6], [0.5, 1.0], 0.0)
        with np.errstate(divide="ignore"):
            return np.log(np.stack([end, 1 - end], axis=1)), (state[0] + 1,), np.ones((len(tokens), 1))

    found = search(step, (np.zeros((1, 1)),), (), SearchOptions(beam_size=2), start=0, end=0)[0][0]
    assert found.tokens == (1,) * 6 and found.score == pytest.approx(math.log(0.5) / 7**DEFAULT)


def test_words_have_their_own_logprobs_and_attention():
    model = TinyModel(11)
    for image, found in enumerate(run(model, range(4), SearchOptions(n_best=3, max_length=6))):
        for h in found:
            logprobs, attention = model.rate(image, h.tokens)
            np.testing.assert_allclose([*h.logprobs, h.end_logprob], logprobs, atol=1e-5)
            np.testing.assert_allclose(h.attention, attention, atol=1e-6)
            assert h.logprobs.dtype == h.attention.dtype == np.float32


def test_a_beam_that_never_ends():
    model = TinyModel(3, bonus={END: -np.inf})
    for options in (
        SearchOptions(max_length=5),
        SearchOptions(max_length=5, n_best=3),
        SearchOptions(max_length=5, strategy="greedy"),
        SearchOptions(max_length=5, strategy="sample", n_best=2),
    ):
        for image, found in enumerate(run(model, range(3), options)):
            assert len(found) == options.n_best
            for h in found:
                assert not h.finished and len(h.tokens) == 5 and math.isnan(h.end_logprob)
                logprobs, _ = model.rate(image, h.tokens, end=False)
                assert h.score == pytest.approx(logprobs.sum() / 5**DEFAULT, rel=1e-5)
    best = max(itertools.product(WORDS, repeat=3), key=lambda words: model.rate(0, words, end=False)[0].sum())
    assert run(model, [0], SearchOptions(max_length=3, beam_size=64))[0][0].tokens == best


def test_finished_captions_stand_before_cut_ones_and_none_twice():
    model = TinyModel(3, bonus={END: -2})
    mixed = 0
    for found in run(model, range(20), SearchOptions(max_length=3, n_best=8, beam_size=3)):
        finished = [h.finished for h in found]
        mixed += True in finished and False in finished
        assert finished == sorted(finished, reverse=True)
        assert len({h.tokens for h in found}) == len(found)
    assert mixed


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (SearchOptions(max_length=7), {}),
        (SearchOptions(max_length=7, n_best=3, beam_size=4), {}),
        (SearchOptions(max_length=7, strategy="greedy"), {}),
        (SearchOptions(max_length=7, strategy="sample", seed=5, n_best=3), {}),
        (SearchOptions(max_length=7, strategy="sample", seed=5, top_p=0.7, top_k=3), {"prefix": (5,)}),
        (SearchOptions(max_length=7), {"must_include": [(5, 6), 7], "prefix": (4,)}),
    ],
)
def test_results_do_not_depend_on_the_batch(options, more):
    model = TinyModel(13)
    together = run(model, range(9), options, **more)
    for image in range(9):
        alone = run(model, [image], options, **more)[0]
        assert len(alone) == len(together[image])
        assert all(same(a, b) for a, b in zip(alone, together[image], strict=True))
    backwards = run(model, range(8, -1, -1), options, **more)[::-1]
    assert all(same(a[0], b[0]) for a, b in zip(together, backwards, strict=True))


def test_greedy_takes_the_likeliest_word_and_is_a_beam_of_one():
    model = TinyModel(17, sharpness=1.0)
    for image, found in enumerate(run(model, range(10), SearchOptions(strategy="greedy", max_length=6))):
        words = []
        while len(words) < 6:
            options = {w: model.rate(image, (*words, w), end=False)[0][-1] for w in ((END, *WORDS) if words else WORDS)}
            best = max(options, key=options.get)
            if best == END:
                break
            words.append(best)
        assert found[0].tokens == tuple(words)
        one = run(model, [image], SearchOptions(beam_size=1, max_length=6))[0][0]
        assert same(one, found[0])


def test_prefix():
    model = TinyModel(19)
    prefix = (6, 4)
    options = SearchOptions(beam_size=4**4, max_length=4, n_best=4)
    for image, found in enumerate(run(model, range(3), options, prefix=prefix)):
        expected = model.exhaustive(image, 4, DEFAULT, keep=lambda words: words[:2] == prefix, min_length=2)[:4]
        assert [h.tokens for h in found] == [words for _, words in expected]
        for h in found:
            np.testing.assert_allclose([*h.logprobs, h.end_logprob], model.rate(image, h.tokens)[0], atol=1e-5)
    for strategy in ("greedy", "sample"):
        options = SearchOptions(strategy=strategy, max_length=4)
        assert all(h[0].tokens[:2] == prefix for h in run(model, range(3), options, prefix=prefix))
    whole = run(model, [0], SearchOptions(max_length=2), prefix=prefix)[0][0]
    assert whole.tokens == prefix


@pytest.mark.parametrize(
    "phrases", [[(5,)], [(7,), (5,)], [(5, 5)], [(5, 6), (7,)], [(4, 5, 4), (5, 4)], [(4, 5), (4, 6)]]
)
def test_must_include_against_filtered_exhaustive(phrases):
    model = TinyModel(23, sharpness=2.0)
    options = SearchOptions(beam_size=4**5, max_length=5, n_best=5)
    for image, found in enumerate(run(model, range(2), options, must_include=phrases)):
        expected = model.exhaustive(
            image, 5, DEFAULT, keep=lambda words: all(contains(words, phrase) for phrase in phrases)
        )[:5]
        assert [h.tokens for h in found] == [words for _, words in expected]
        np.testing.assert_allclose([h.score for h in found], [score for score, _ in expected], rtol=1e-5)


@pytest.mark.parametrize("beam_size", [1, 2, 3])
def test_must_include_holds_with_a_narrow_beam_and_an_unlikely_word(beam_size):
    model = TinyModel(29, bonus={7: -30})
    free = run(model, range(6), SearchOptions(beam_size=beam_size, max_length=8))
    assert not any(7 in found[0].tokens for found in free)
    forced = run(model, range(6), SearchOptions(beam_size=beam_size, max_length=8), must_include=[7, (5, 4)])
    for found in forced:
        assert 7 in found[0].tokens and contains(found[0].tokens, (5, 4))
    exact = run(model, range(6), SearchOptions(beam_size=beam_size, max_length=3), must_include=[7, (5, 4)])
    for found in exact:
        assert sorted(found[0].tokens) == [4, 5, 7]


def test_sampling_draws_from_the_softmax():
    model = TinyModel(31)
    state, memory = model.batch([0])
    logits = np.delete(model(np.array([START], np.int32), state, memory)[0][0].astype(np.float64), FORBIDDEN)
    words = np.delete(np.arange(8), FORBIDDEN)

    def frequencies(**more):
        options = SearchOptions(strategy="sample", max_length=1, min_length=0, n_best=1000, **more)
        many = (
            tuple(np.repeat(part, 20, axis=0) for part in state),
            tuple(np.repeat(part, 20, axis=0) for part in memory),
        )
        seeds = range(20 * options.seed, 20 * options.seed + 20)
        found = search(model, *many, options, start=START, end=END, forbidden=FORBIDDEN, seeds=seeds)
        first = np.array([h.tokens[0] if h.tokens else END for each in found for h in each])
        return np.array([(first == word).mean() for word in words])

    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    p = softmax(logits)
    np.testing.assert_allclose(frequencies(), p, atol=0.015)
    np.testing.assert_allclose(frequencies(temperature=0.5), softmax(logits * 2), atol=0.015)
    order = np.argsort(-p)
    top = np.where(np.isin(np.arange(len(p)), order[:2]), p, 0)
    np.testing.assert_allclose(frequencies(top_k=2), top / top.sum(), atol=0.015)
    reach = p[order[0]] + 0.5 * p[order[1]]  # the second word is needed to reach it
    np.testing.assert_allclose(frequencies(top_p=reach), top / top.sum(), atol=0.015)
    np.testing.assert_allclose(frequencies(top_p=0.5 * p[order[0]]), p == p.max())
    assert not np.allclose(frequencies(seed=1), frequencies(seed=2), atol=1e-9)


def test_temperature_and_limits_leave_the_logprobs_alone():
    model = TinyModel(37)
    options = SearchOptions(strategy="sample", temperature=3.0, top_k=3, n_best=4, max_length=6, min_length=3)
    for h in run(model, [2], options)[0]:
        expected = model.rate(2, h.tokens, end=h.finished)[0]
        np.testing.assert_allclose([*h.logprobs, *([h.end_logprob] if h.finished else [])], expected, atol=1e-5)


def test_seeds():
    model = TinyModel(41, sharpness=0.3, bonus={END: -2})
    options = SearchOptions(strategy="sample", max_length=8)
    first = run(model, [0, 0, 1, 2], options, seeds=[1, 2, 3, 4])
    again = run(model, [2, 0, 1, 0], options, seeds=[4, 1, 3, 2])
    assert [h[0].tokens for h in again] == [first[i][0].tokens for i in (3, 0, 2, 1)]
    assert first[0][0].tokens != first[1][0].tokens
    many = run(model, [0], SearchOptions(strategy="sample", max_length=8, n_best=4, seed=1))[0]
    assert first[0][0].tokens in [h.tokens for h in many]
    with pytest.raises(ValueError, match="seeds"):
        run(model, [0, 1], options, seeds=[1])


@pytest.mark.parametrize("strategy", ["beam", "greedy", "sample"])
def test_lengths(strategy):
    model = TinyModel(43, bonus={END: 3})
    for found in run(model, range(10), SearchOptions(strategy=strategy, min_length=4, max_length=6)):
        assert 4 <= len(found[0].tokens) <= 6
    empty = run(model, range(10), SearchOptions(strategy=strategy, min_length=0, max_length=6, length_penalty=0))
    assert any(found[0].tokens == () for found in empty)
    assert all(found[0].attention.shape == (len(found[0].tokens), 3) for found in empty)


def test_forbidden_words_never_appear_and_get_no_probability():
    model = TinyModel(47, bonus={PAD: 30})
    found = run(model, range(5), SearchOptions(strategy="sample", n_best=20))
    assert not any(set(h.tokens) & set(FORBIDDEN) for hypotheses in found for h in hypotheses)
    sharp = run(model, [0], SearchOptions(), forbidden=(*FORBIDDEN, 4, 5, 6))[0][0]
    assert set(sharp.tokens) == {7}


def test_n_best_order_and_the_best_does_not_depend_on_their_number():
    model = TinyModel(53)
    one = run(model, range(6), SearchOptions(beam_size=3))
    five = run(model, range(6), SearchOptions(beam_size=3, n_best=5))
    for a, b in zip(one, five, strict=True):
        assert same(a[0], b[0])
        assert len(b) == 5 and len({h.tokens for h in b}) == 5
        assert [h.score for h in b] == sorted((h.score for h in b), reverse=True)


def test_a_step_may_reuse_its_arrays():
    model = TinyModel(59)
    kept = {}

    def reusing(tokens, state, memory):
        results = model(tokens, state, memory)
        flat = (results[0], *results[1], results[2])
        buffers = kept.setdefault(len(tokens), [array.copy() for array in flat])
        for buffer, array in zip(buffers, flat, strict=True):
            buffer[:] = array
        return buffers[0], (buffers[1],), buffers[2]

    for options in (SearchOptions(), SearchOptions(strategy="greedy"), SearchOptions(strategy="sample", n_best=3)):
        expected = run(model, range(4), options)
        found = search(reusing, *model.batch(range(4)), options, start=START, end=END, forbidden=FORBIDDEN)
        assert all(same(a[0], b[0]) for a, b in zip(expected, found, strict=True))


def test_no_images():
    assert search(None, (np.zeros((0, 3)),), (), SearchOptions(), start=START, end=END) == []


def test_extreme_logits_stay_finite():
    model = TinyModel(61)
    model.output *= 1e4
    h = run(model, [0], SearchOptions(max_length=4))[0][0]
    assert np.isfinite(h.score) and (h.logprobs <= 0).all()
    model.output[0, 5] = np.nan
    with pytest.raises(CaptionerError, match="no numbers"):
        run(model, [0], SearchOptions())


@pytest.mark.parametrize(
    "bad",
    [
        {"strategy": "magic"}, {"beam_size": 0}, {"beam_size": 2.5}, {"beam_size": True}, {"n_best": 0},
        {"max_length": 0}, {"min_length": -1}, {"min_length": 30}, {"length_penalty": -1.0}, {"top_p": 1.1},
        {"temperature": 0}, {"temperature": math.inf}, {"top_k": -1}, {"top_p": 0},
        {"length_penalty": math.nan}, {"seed": -1}, {"seed": None},
        {"strategy": "greedy", "n_best": 2}, {"beam_size": 1, "n_best": 2}, {"beam_size": 5000}, {"n_best": 10**9},
        {"max_length": 10**6}, {"beam_size": "3"}, {"strategy": ["beam"]}, {"top_k": 2**40}, {"seed": 1.5},
        {"length_penalty": 1e300}, {"temperature": 1e-300}, {"beam_size": 10**30},
    ],
)  # fmt: skip
def test_options_refuse_nonsense(bad):
    with pytest.raises(CaptionerError) as error:
        SearchOptions(**bad)
    assert error.value.kind == "usage"


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"max_length": 3}, {"prefix": (4, 4, 4, 4)}),
        ({"max_length": 3}, {"prefix": (4, 4), "must_include": [(5, 6)]}),
        ({}, {"prefix": (UNKNOWN,)}),
        ({}, {"must_include": [END]}),
        ({}, {"must_include": [()]}),
        ({"strategy": "sample"}, {"must_include": [4]}),
    ],
)
def test_impossible_demands(options, more):
    with pytest.raises(CaptionerError) as error:
        run(TinyModel(), [0], SearchOptions(**options), **more)
    assert error.value.kind == "usage"


@pytest.mark.parametrize("prefix", [(), (4, 4)])
def test_words_used_once_against_filtered_exhaustive(prefix):
    """Words 4 and 5 may not come again; 6 and 7 may. What the prefix repeats is its own affair."""
    model = TinyModel(3)
    options = SearchOptions(beam_size=4**4, max_length=4, n_best=5)

    def keep(words):
        rest = words[len(prefix) :]
        spent = set(prefix)
        return words[: len(prefix)] == prefix and not any(
            word in (4, 5) and (word in spent or word in rest[:i]) for i, word in enumerate(rest)
        )

    for image, found in enumerate(run(model, [0, 1, 2], options, once=(4, 5), prefix=prefix)):
        expected = model.exhaustive(image, 4, DEFAULT, keep=keep, min_length=max(1, len(prefix)))[:5]
        assert [h.tokens for h in found] == [words for _, words in expected]
        np.testing.assert_allclose([h.score for h in found], [score for score, _ in expected], rtol=1e-5)


def test_every_strategy_uses_words_once_and_in_any_batch():
    model = TinyModel(7, sharpness=4, bonus={END: -6.0})  # without the limit it would say the same again and again
    for options in (
        SearchOptions(strategy="greedy", max_length=6),
        SearchOptions(strategy="sample", max_length=6, seed=3),
        SearchOptions(beam_size=3, max_length=6),
    ):
        free = run(model, range(6), options)
        assert any(len(set(best[0].tokens)) < len(best[0].tokens) for best in free)
        found = run(model, range(6), options, once=WORDS)
        assert all(len(set(best[0].tokens)) == len(best[0].tokens) for best in found)
        for image, best in enumerate(found):
            assert run(model, [image], options, once=WORDS)[0][0].tokens == best[0].tokens


def test_a_required_phrase_may_repeat_itself():
    found = run(TinyModel(3), [0], SearchOptions(beam_size=4, max_length=5), must_include=[(4, 4)], once=WORDS)[0][0]
    assert contains(found.tokens, (4, 4))
