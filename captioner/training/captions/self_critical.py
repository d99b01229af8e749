"""Self-critical sequence training: the captions that the model itself samples, weighted by how good they are.

The reward is CIDEr-D (Rennie et al. 2017); the baseline of a sample is the mean reward of the other samples of its
photo (Luo 2020, "A better variant of self-critical sequence training"). The end token belongs to the sampled and to
the reference captions, or the model learns to leave captions unfinished. Each batch also holds reference captions with
their cross-entropy weights, which keeps endings and variety.

CIDEr-D alone favours captions that suit many photos. What a caption would earn on a photo drawn at random can be taken
off its reward, so that words which tell photos apart pay (in the spirit of Wang et al. 2020, "Compare and reweight",
and Luo et al. 2018, "Discriminability objective").
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops, random

from captioner.evaluation.coco_metrics import CiderD
from captioner.media.ahead import Epoch, prefetch
from captioner.models.compiling import compiled
from captioner.models.decoder import Decoder
from captioner.models.tokenizer import Tokenizer, normalize
from captioner.training.captions.batches import CachedBatches
from captioner.training.captions.mixture import Mixture


class Sampler:
    """Draws captions from a decoder, all photos and samples together, in one compiled function.

    Args:
        decoder: The decoder; its current weights are used at every call.
        tokenizer: Gives the special tokens.
        samples: Captions a photo.
        max_length: Most words.
        encoder: Encodes photos with its current weights; without it the sampler is given grids.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        samples: int,
        max_length: int,
        encoder: keras.Model | None = None,
    ):
        self.decoder = decoder
        self.encoder = encoder
        self.samples = samples
        self.max_length = max_length
        self._end, self._pad = tokenizer.end, tokenizer.pad
        banned = np.zeros(len(tokenizer), np.float32)
        banned[list(tokenizer.forbidden)] = -1e9
        self._banned = banned
        self._noise = random.SeedGenerator(0)
        self._sample = compiled(self._draw)

    def __call__(self, seen: np.ndarray, starts: np.ndarray, seed: int) -> np.ndarray:
        """Samples captions.

        Args:
            seen: Encoder grid (photos, positions, C), or the photos (photos, S, S, 3) where there is an encoder.
            starts: int32 (photos,), the start token of every photo's style.
            seed: The same seed gives the same captions.

        Returns:
            int32 (photos, samples, max_length + 1): words, end, padding.
        """
        self._noise.state.assign(np.array([seed % 2**31, 0], "uint32"))
        return np.asarray(self._sample(seen, starts)).reshape(len(seen), self.samples, -1)

    def _draw(self, seen, starts):
        grid = seen if self.encoder is None else self.encoder(seen, training=False)["grid"]
        state, memory = self.decoder.initial_state(grid)
        state = tuple(ops.repeat(part, self.samples, axis=0) for part in state)
        rows = ops.shape(state[0])[0]
        token = ops.repeat(ops.cast(starts, "int32"), self.samples, axis=0)
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


class SelfCriticalBatches:
    """Batches of sampled captions with their advantages, and of reference captions.

    Args:
        batches: Photos or grids with the reference captions that go with the samples.
        mixture: The data sets. The reward of a photo weighs n-grams by how many photos of its own data set have them,
            as its scores on dev do, and counts by `Mixture.worth`.
        tokenizer: The vocabulary.
        sampler: Draws the captions.
        mix: Weight of the policy gradient; cross-entropy has the rest.
        common_weight: How much of what a caption would earn on a photo drawn at random is taken off its reward.
    """

    def __init__(
        self,
        batches: CachedBatches,
        *,
        mixture: Mixture,
        tokenizer: Tokenizer,
        sampler: Sampler,
        mix: float,
        common_weight: float = 0.0,
    ):
        self.batches = batches
        self.sampler = sampler
        self.mix = mix
        self.common_weight = common_weight
        self._end = tokenizer.end
        self._mixture = mixture
        references: dict[str, dict] = {}
        for file in batches.files:
            own = references.setdefault(mixture.source_of[file], {})
            own[file] = [_reward_tokens(tokenizer, text) for text in mixture.captions[file]]
        self._rewards = {name: CiderD(own) for name, own in references.items()}

    def __call__(self, epoch: int) -> Epoch:
        """Batches (x, y); the captions are sampled when their batch is asked for, from the weights of that moment."""
        return _Lazy(len(self), self._produce(epoch))

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.batches)

    def _produce(self, epoch: int):
        for number, (files, x, y) in enumerate(prefetch(self.batches.named(epoch), depth=3)):
            (seen,) = (value for name, value in x.items() if name != "tokens")
            starts = x["tokens"][:, 0, 0]
            sampled = self.sampler(seen, starts, seed=(self.batches.seed * 1009 + epoch) * 100003 + number)
            worth = np.array([self._mixture.worth(file) for file in files], np.float32)
            yield self.join(x, y, sampled, self.rewards(files, sampled), worth)

    def rewards(self, files, sampled: np.ndarray) -> np.ndarray:
        """Rewards of sampled captions, end token included: float32 (photos, samples).

        CIDEr-D, 0..10, less ``common_weight`` times the caption's `CiderD.commonness`.
        """
        rewards = np.zeros(sampled.shape[:2], np.float32)
        for row, (file, samples) in enumerate(zip(files, sampled, strict=True)):
            captions = [_until_end(sample, self._end) for sample in samples]
            reward = self._rewards[self._mixture.source_of[file]]
            rewards[row] = reward.score([file] * len(captions), captions)
            if self.common_weight:
                rewards[row] -= self.common_weight * reward.commonness(captions)
        return rewards

    def join(self, x: dict, y: dict, sampled: np.ndarray, rewards: np.ndarray, worth: np.ndarray) -> tuple[dict, dict]:
        """A cross-entropy batch with samples (photos, samples, steps) before its captions.

        Args:
            x: The batch's inputs.
            y: Its targets.
            sampled: The samples.
            rewards: Their rewards (photos, samples).
            worth: How much those of each photo count (photos,).
        """
        steps = x["tokens"].shape[-1]
        starts = np.broadcast_to(x["tokens"][:, :1, :1], (*sampled.shape[:2], 1))
        inputs = np.concatenate([starts, sampled], axis=2)[:, :, :steps]
        counted = sampled != 0
        weights = self.mix * (worth[:, None] * advantages(rewards))[..., None] * counted / counted.sum()
        smoothing = np.zeros((*sampled.shape[:2], 1))
        x = {**x, "tokens": np.concatenate([inputs, x["tokens"]], axis=1).astype(np.int32)}
        y = {
            **y,
            "targets": np.concatenate([sampled, y["targets"]], axis=1).astype(np.int32),
            "weights": np.concatenate([weights, (1 - self.mix) * y["weights"]], axis=1).astype(np.float32),
            "smoothing": np.concatenate([smoothing, y["smoothing"]], axis=1).astype(np.float32),
            "logs": {"reward": float(rewards.mean()), "sampled_words": float(counted.sum(axis=2).mean() - 1)},
        }
        return x, y


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
