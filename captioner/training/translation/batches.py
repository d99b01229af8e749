"""Training batches: sentences of one language and one length together, so that hardly anything is padding."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from captioner.media.ahead import Epoch
from captioner.models.tokenizer import join_words
from captioner.models.tokenizer import normalize as words_of
from captioner.training.translation.options import TranslationTrainingOptions
from captioner.translation.subwords import END, PAD, SLOTS, Subwords, normalize

_WORD = re.compile(r"[^\W\d_]{4,}")


class ParallelBatches:
    """The batches of every epoch.

    Args:
        sentences: Language to sentences, as many in each.
        source: The language that is read.
        subwords: The vocabulary.
        options: Settings.
    """

    def __init__(
        self, sentences: Mapping[str, Sequence[str]], source: str, subwords: Subwords,
        options: TranslationTrainingOptions,
    ):  # fmt: skip
        self._subwords, self._options = subwords, options
        self._texts = {language: [normalize(text) for text in lines] for language, lines in sentences.items()}
        read = self._texts.pop(source)
        self._read = [read, [bare(text) for text in read]]
        self._sources = [[subwords.encode(text) for text in texts] for texts in self._read]
        self._targets = {language: [subwords.encode(text) for text in lines] for language, lines in self._texts.items()}
        # Where both languages have a word, it can be put aside.
        self._common = {
            language: {i: common for i, text in enumerate(lines) if (common := _common(read[i], text))}
            for language, lines in self._texts.items()
        }
        self._local = {}
        for language, numbers in subwords.written.items():
            self._local[language] = np.zeros(len(subwords), np.int32)
            self._local[language][numbers] = np.arange(len(numbers))

    def __call__(self, epoch: int) -> Epoch:
        """Batches of an epoch: ``({"source", "tokens", "among"}, {"targets", "weights", "smoothing"})``, as
        `captioner.translation.network.TranslationNetwork` takes them; a target is its place in ``among``."""
        rng = np.random.default_rng([self._options.seed, epoch])
        alike: dict[tuple[str, int], list] = defaultdict(list)
        for language in self._targets:
            for pair in self._pairs(language, rng):
                source, target = pair
                if len(source) > 1 and len(target) > 1 and max(map(len, pair)) <= self._options.longest:
                    alike[language, len(source)].append(pair)
        batches = []
        for (language, length), pairs in alike.items():
            pairs.sort(key=lambda pair: len(pair[1]) + rng.uniform(0, 1))
            first = 0
            while first < len(pairs):
                last = first + 1
                while last < len(pairs) and (last + 1 - first) * max(length, len(pairs[last][1])) <= (
                    self._options.batch_tokens
                ):
                    last += 1
                batches.append((language, pairs[first:last]))
                first = last
        order = rng.permutation(len(batches))
        return Epoch(len(batches), (self._batch(*batches[i]) for i in order))

    def _pairs(self, language: str, rng: np.random.Generator) -> Iterator:
        targets, options = self._targets[language], self._options
        for i in range(len(targets)):
            style = int(rng.random() < options.bare)
            if i in self._common[language] and rng.random() < options.kept:
                common = self._common[language][i]
                yield self._aside(self._read[style][i], self._texts[language][i], rng.choice(common), rng)
            else:
                yield self._sources[style][i], targets[i]

    def _aside(self, source: str, target: str, word: str, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        slot = SLOTS[rng.integers(len(SLOTS))]
        whole = re.compile(rf"(?<!\w){word}(?!\w)", re.IGNORECASE)
        return tuple(self._subwords.encode(whole.sub(slot, text, count=1)) for text in (source, target))

    def _batch(self, language: str, pairs: Sequence) -> tuple[dict, dict]:
        steps = max(len(target) for _, target in pairs)
        tokens = np.full((len(pairs), 1, steps + 1), PAD, np.int32)
        tokens[:, :, 0] = self._subwords.start_of(language)
        for row, (_, target) in zip(tokens, pairs, strict=True):
            row[0, 1 : len(target) + 1] = target
        counted = tokens[:, :, 1:] != PAD
        inputs = {
            "source": np.array([source for source, _ in pairs], np.int32),
            "tokens": np.where(tokens == PAD, END, tokens)[:, :, :-1],
            "among": self._subwords.written[language],
        }
        return inputs, {
            "targets": self._local[language][tokens[:, :, 1:]],
            "weights": (counted / counted.sum()).astype(np.float32),
            "smoothing": np.full((len(pairs), 1, 1), self._options.label_smoothing, np.float32),
        }


def bare(text: str) -> str:
    """English as a captioner writes it: in lower case, without punctuation."""
    return join_words(words_of(text))


def _common(source: str, target: str) -> list[str]:
    """Words that are the same in both, in lower case, and come once in each."""
    read, written = ([word.casefold() for word in _WORD.findall(text)] for text in (source, target))
    return [word for word in read if read.count(word) == written.count(word) == 1]
