"""What runs a translator: OpenVINO graphs of the encoder and of the decoder, the latter for every language its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

import numpy as np

from captioner.models.decoder_graphs import start_graph, step_graph
from captioner.models.graph_parts import PerThread, Weights
from captioner.models.runtime import OpenVinoCore
from captioner.models.search import Hypothesis, SearchOptions, search
from captioner.translation.config import TranslatorConfig
from captioner.translation.graphs import read_graph
from captioner.translation.subwords import Subwords

BATCH_SIZE = 64


class TranslationRuntime(OpenVinoCore):
    """Translates sentences that are tokens already.

    Args:
        config: Sizes.
        encoder_weights: ``layer/variable`` to array.
        decoder_weights: ``layer/variable`` to array.
        subwords: The vocabulary.
        precision: ``f32``, ``bf16``, or ``auto``: bfloat16 where the CPU computes in it.
        threads: Cores to use; None for all that this process may use.
    """

    def __init__(
        self, config: TranslatorConfig, encoder_weights: Weights, decoder_weights: Weights, subwords: Subwords, *,
        precision: str = "auto", threads: int | None = None,
    ):  # fmt: skip
        super().__init__(precision, threads)
        self._decoder = config.decoder.to_dict(), decoder_weights
        self._subwords = subwords
        embeddings = decoder_weights["embedding/embeddings"]
        self._read = self._together(read_graph(config.encoder.to_dict(), encoder_weights, embeddings))
        self._start = self._together(start_graph(*self._decoder))
        self._steps: dict[str, PerThread] = {}
        self._compiling = Lock()

    def translate(
        self, sources: Sequence[Sequence[int]], language: str, options: SearchOptions
    ) -> list[list[Hypothesis]]:
        """For every sentence its translations, best first; none for an empty one. What it is put aside for comes once.

        Args:
            sources: Tokens of every sentence, the end included.
            language: To which language.
            options: How to search; no translation gets more than twice the tokens of the sentence and ten.

        Raises:
            CaptionerError: There is no such language (``kind="usage"``).
        """
        self.check_process()
        step, written = self._step_of(language), self._subwords.written[language]
        local = {int(number): place for place, number in enumerate(written)}
        slots = frozenset(self._subwords.slots)
        alike: dict[tuple, list[int]] = defaultdict(list)
        for place, source in enumerate(sources):
            alike[len(source), tuple(local[token] for token in source if token in slots)].append(place)
        found: list[list[Hypothesis]] = [[] for _ in sources]
        for (length, own), places in alike.items():
            if length < 2:
                continue
            cut = replace(options, max_length=min(options.max_length, 2 * length + 10))
            for first in range(0, len(places), BATCH_SIZE):
                batch = places[first : first + BATCH_SIZE]
                source = np.array([sources[place] for place in batch], np.int32)
                *state, values, keys, mean = (output.copy() for output in self._start(self._read(source)[0]))
                results = search(
                    step, state, (values, keys, mean), cut, start=0, end=1,
                    forbidden=(0, *{local[slot] for slot in slots}.difference(own)), once=own,
                    must_include=own if options.strategy == "beam" else (),
                )  # fmt: skip
                for place, hypotheses in zip(batch, results, strict=True):
                    found[place] = [replace(one, tokens=tuple(written[list(one.tokens)])) for one in hypotheses]
        return found

    def _step_of(self, language: str):
        """The decoder's step among what a language is written in."""
        self._subwords.start_of(language)  # refuses an unknown one
        with self._compiling:
            if language not in self._steps:
                config, weights = self._decoder
                own = self._subwords.written[language]
                part = {name: weights[name][own] for name in ("embedding/embeddings", "output_bias")}
                self._steps[language] = self._together(
                    step_graph({**config, "vocabulary_size": len(own)}, {**weights, **part})
                )
        run = self._steps[language]

        def step(tokens, state, memory):
            logits, *state, attention = run(tokens, *state, *memory)
            return logits, tuple(state), attention

        return step
