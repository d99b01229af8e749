"""Self-critical sequence training: the captions that the model itself samples, weighted by how good they are.

The reward is CIDEr-D (Rennie et al. 2017); the baseline of a sample is the mean reward of the other samples of its
photo (Luo 2020, "A better variant of self-critical sequence training"). The end token belongs to the sampled and to
the reference captions, or the model learns to leave captions unfinished. Each batch also holds reference captions with
their cross-entropy weights, which keeps endings and variety.
"""

from __future__ import annotations

import numpy as np
from keras import ops, random

from captioner.evaluation.coco_metrics import CiderD
from captioner.models.compiling import compiled
from captioner.models.decoder import Decoder
from captioner.models.tokenizer import Tokenizer, normalize
from captioner.training.batches import CachedBatches, Epoch


class Sampler:
    """Draws captions from a decoder, all photos and samples together, in one compiled function.

    Args:
        decoder: The decoder; its current weights are used at every call.
        tokenizer: Gives the special tokens.
        samples: Captions a photo.
        max_length: Most words.
    """

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, samples: int, max_length: int):
        self.decoder = decoder
        self.samples = samples
        self.max_length = max_length
        self._start, self._end, self._pad = tokenizer.start, tokenizer.end, tokenizer.pad
        banned = np.zeros(len(tokenizer), np.float32)
        banned[[tokenizer.pad, tokenizer.start, tokenizer.unknown]] = -1e9
        self._banned = banned
        self._noise = random.SeedGenerator(0)
        self._sample = compiled(self._draw)

    def __call__(self, grid: np.ndarray, seed: int) -> np.ndarray:
        """Samples captions.

        Args:
            grid: Encoder grid (photos, positions, C).
            seed: The same seed gives the same captions.

        Returns:
            int32 (photos, samples, max_length + 1): words, end, padding.
        """
        self._noise.state.assign(np.array([seed % 2**31, 0], "uint32"))
        return np.asarray(self._sample(grid)).reshape(len(grid), self.samples, -1)

    def _draw(self, grid):
        state, memory = self.decoder.initial_state(grid)
        state = tuple(ops.repeat(part, self.samples, axis=0) for part in state)
        rows = ops.shape(state[0])[0]
        token = ops.full((rows,), self._start, dtype="int32")
        finished = ops.zeros((rows,), dtype="bool")
        drawn = []
        for _ in range(self.max_length + 1):
            logits, state, _ = self.decoder.step(token, state, memory)
            noise = random.uniform(ops.shape(logits), minval=1e-7, maxval=1.0, seed=self._noise)
            # The Gumbel trick: the largest of logit + noise is a draw from the softmax.
            token = ops.cast(ops.argmax(logits + self._banned - ops.log(-ops.log(noise)), axis=-1), "int32")
            token = ops.where(finished, self._pad, token)
            drawn.append(token)
            finished = ops.logical_or(finished, ops.equal(token, self._end))
        return ops.stack(drawn, axis=1)


class SelfCriticalBatches(CachedBatches):
    """Batches of sampled captions with their advantages, and of reference captions.

    Args:
        files: Training photos.
        grids: As `CachedBatches`.
        table: The captions.
        references: File to captions as written, for the reward.
        tokenizer: The vocabulary.
        sampler: Draws the captions.
        mix: Weight of the policy gradient; cross-entropy has the rest.
        **options: As `CachedBatches`; ``captions`` reference captions a photo go with the samples.
    """

    def __init__(
        self, files, grids, table, *, references, tokenizer: Tokenizer, sampler: Sampler, mix: float, **options
    ):
        super().__init__(files, grids, table, **options)
        self.sampler = sampler
        self.mix = mix
        self._end = tokenizer.end
        self._reward = CiderD(
            {file: [_reward_tokens(tokenizer, text) for text in references[file]] for file in self.files}
        )

    def __call__(self, epoch: int) -> Epoch:
        """Batches (x, y); the captions are sampled when their batch is asked for, from the weights of that moment."""
        return _Lazy(len(self.files) // self.batch_size, self._produce(epoch))

    def _produce(self, epoch: int):
        for number, (files, rng) in enumerate(self.shuffled(epoch)):
            grid = self.grid(files, rng)
            sampled = self.sampler(grid, seed=(self.seed * 1009 + epoch) * 100003 + number)
            rewards = self.rewards(files, sampled)
            yield self.batch(files, grid, sampled, rewards, rng)

    def rewards(self, files, sampled: np.ndarray) -> np.ndarray:
        """CIDEr-D of sampled captions, end token included: float32 (photos, samples), 0..10."""
        captions = [_until_end(row, self._end) for row in sampled.reshape(-1, sampled.shape[-1])]
        keys = np.repeat(np.arange(len(files)), sampled.shape[1])
        return self._reward.score([files[key] for key in keys], captions).reshape(sampled.shape[:2]).astype(np.float32)

    def batch(self, files, grid, sampled: np.ndarray, rewards: np.ndarray, rng):
        """One batch from samples (photos, samples, steps) and their rewards."""
        tokens, y = self.table.targets(self.table.draw(files, self.captions, rng), self.label_smoothing)
        steps = tokens.shape[-1]
        inputs = np.concatenate([np.full((*sampled.shape[:2], 1), self.table.start), sampled], axis=2)[:, :, :steps]
        counted = sampled != 0
        weights = self.mix * advantages(rewards)[..., None] * counted / counted.sum()
        y = {
            "targets": np.concatenate([sampled, y["targets"]], axis=1).astype(np.int32),
            "weights": np.concatenate([weights, (1 - self.mix) * y["weights"]], axis=1).astype(np.float32),
            "smoothing": np.concatenate([np.zeros((*sampled.shape[:2], 1)), y["smoothing"]], axis=1).astype(np.float32),
            "logs": {"reward": float(rewards.mean()), "sampled_words": float(counted.sum(axis=2).mean() - 1)},
        }
        return {"grid": grid, "tokens": np.concatenate([inputs, tokens], axis=1).astype(np.int32)}, y


class _Lazy(Epoch):
    def __iter__(self):
        return self._batches


def advantages(rewards: np.ndarray) -> np.ndarray:
    """Reward minus the mean of the photo's other samples; (photos, samples) to the same shape, rows sum to 0."""
    samples = rewards.shape[1]
    others = (rewards.sum(axis=1, keepdims=True) - rewards) / (samples - 1)
    return rewards - others


def _until_end(row: np.ndarray, end: int) -> list[int]:
    tokens = row.tolist()
    return tokens[: tokens.index(end) + 1] if end in tokens else [token for token in tokens if token]


def _reward_tokens(tokenizer: Tokenizer, text: str) -> list:
    """Numbers where the vocabulary has the word, the word itself otherwise, and the end token."""
    words = normalize(text)
    numbers = tokenizer.encode(words)
    return [word if n == tokenizer.unknown else n for word, n in zip(words, numbers, strict=True)] + [tokenizer.end]
