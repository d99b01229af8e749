"""A captioner's decoder as a language model: how likely are these words, and how would the sentence go on?

Without a photo the decoder gets an empty grid (all zeros): nothing to look at, so that only what it has learnt about
sentences is left. With a photo the same numbers say how well a sentence fits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.models.tokenizer import normalize
from captioner.results import Caption

if TYPE_CHECKING:
    from captioner.captions.captioner import ImageCaptioner

END = "."
"""How the end of a sentence is written where single words are listed."""


class LanguageModel:
    """Probabilities of words given the words before them.

    Args:
        captioner: Whose decoder is used.
        image: What the sentences are about, anything that `captioner.media.images.read_image` takes; None for nothing.

    Raises:
        ImageReadError: The image cannot be read.
    """

    def __init__(self, captioner: ImageCaptioner, image: Any = None):
        from captioner.media.images import read_image
        from captioner.models.runtime import Features

        self.captioner = captioner
        side = captioner.image_size
        blank = np.zeros((side, side, 3), np.uint8)
        self._features = captioner.encode((blank if image is None else read_image(image, size=side))[None])
        if image is None:
            self._features = Features(*(np.zeros_like(part) for part in vars(self._features).values()))

    def complete(self, text: str = "", n: int = 5, **options) -> list[Caption]:
        """Sentences that begin with ``text``, the best first.

        Args:
            text: The first words.
            n: How many; fewer where the search does not come across as many.
            **options: Fields of `captioner.models.search.SearchOptions`, for example ``strategy="sample"`` with
                ``temperature`` and ``seed``. Beam search follows at least ``n`` sentences.

        Raises:
            CaptionerError: An option makes no sense, or the model does not know a word (``kind="usage"``).
        """
        options.setdefault("n_best", n)
        if options.get("strategy", "beam") == "beam":
            options.setdefault("beam_size", max(n, self.captioner.options.beam_size))
        chosen = self.captioner.search_options(**options)
        best = self.captioner.caption_features(
            self._features, chosen, prefix=text, plain=False, tags=False, attention=False
        )[0]
        return [best, *best.alternatives]

    def next_words(self, text: str = "", n: int = 10) -> list[tuple[str, float]]:
        """The likeliest next words after ``text``, as (word, probability); `END` stands for the end of the sentence."""
        words = self.captioner.tokenizer.words
        tokens = [self.captioner.tokenizer.start, *self.captioner.tokenizer.encode(text)]
        last = self._run(np.array([tokens], np.int32))[0, -1]
        order = np.argsort(-last, kind="stable")[:n]
        return [(END if i == self.captioner.tokenizer.end else words[i], float(np.exp(last[i]))) for i in order]

    def logprobs(self, texts: str | Sequence[str]) -> np.ndarray | list[np.ndarray]:
        """Natural logarithm of the probability of every word of a sentence, and of its end after them.

        Args:
            texts: A sentence, or a list; split as in training (`captioner.models.tokenizer.normalize`).

        Returns:
            float64 (words + 1,), nan for words that are not in the vocabulary; a list of such for a list.
        """
        return self._score([texts])[0] if isinstance(texts, str) else self._score(list(texts))

    def perplexity(self, texts: str | Sequence[str]) -> float:
        """Perplexity: exp of the mean of -log p over all words and sentence ends; the number of words, equally likely,
        between which the model would be as undecided. Words that it does not know are read, but not counted.

        Args:
            texts: A sentence, or several; for several, the mean is over the words of all.

        Raises:
            ValueError: There is no sentence.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ValueError("there is no sentence to measure")
        return float(np.exp(-np.nanmean(np.concatenate(self._score(texts)))))

    def _score(self, texts: Sequence[str]) -> list[np.ndarray]:
        if not texts:
            return []
        tokenizer = self.captioner.tokenizer
        rows = tokenizer.encode_batch(texts, max(len(normalize(text)) for text in texts))
        logprobs = self._run(rows[:, :-1])
        targets = rows[:, 1:]
        values = np.take_along_axis(logprobs, targets[..., None], axis=-1)[..., 0]
        values[targets == tokenizer.unknown] = np.nan
        return [row[: list(numbers).index(tokenizer.end) + 1] for row, numbers in zip(values, targets, strict=True)]

    def _run(self, tokens: np.ndarray) -> np.ndarray:
        """Log-probabilities (sentences, steps, vocabulary) of what follows each token (sentences, steps)."""
        runtime, special = self.captioner.runtime, self.captioner.tokenizer
        state, memory = runtime.initial_state(self._features)
        state = tuple(np.repeat(np.asarray(part), len(tokens), axis=0) for part in state)
        steps = []
        for column in tokens.T:
            logits, state, _ = runtime.step(np.ascontiguousarray(column), state, memory)
            state = tuple(np.array(part) for part in state)  # the runtime uses its arrays again
            logits = np.array(logits, np.float64)
            # As in the search: what no caption may hold gets no share.
            logits[:, list(special.forbidden)] = -np.inf
            logits -= logits.max(axis=-1, keepdims=True)
            steps.append(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))
        return np.stack(steps, axis=1)
