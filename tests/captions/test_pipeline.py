"""Many images to captions: order, errors in their place, bounded reading ahead, threads that stop."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from captioner.captions.pipeline import caption_stream
from captioner.errors import CaptionerError, ImageReadError
from captioner.models.runtime import Features


class MeanModel:
    """Captions an image with its mean value, so that a caption shows which image it is of."""

    image_size = 4

    def __init__(self, encode_batch=1):
        self.encode_batch = encode_batch
        self.encoded = []
        self.batches = []
        self.words = None

    def encode(self, images):
        self.encoded.append(len(images))
        means = images.reshape(len(images), -1).mean(axis=1, keepdims=True)
        return Features(means[:, None], means)

    def caption_features(self, features, options=None, **words):
        self.batches.append(len(features))
        self.words = (options, words)
        return [f"{mean:.0f}" for mean in features.pooled[:, 0]]


@pytest.fixture
def photos(tmp_path):
    """Photo number i is grey of value i; numbers 3, 4 and 17 are broken."""
    paths = []
    for i in range(40):
        path = tmp_path / f"{i}.png"
        if i in (3, 4, 17):
            path.write_bytes(b"not a picture")
        else:
            Image.new("RGB", (9 + i, 7), (i, i, i)).save(path)
        paths.append(path)
    return paths


def reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(("captioner-read", "prefetch"))]


@pytest.mark.parametrize("batch_size", [1, 2, 7, 16, 64])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("encode_batch", [1, 5])
def test_order_and_errors_in_their_place(photos, batch_size, threads, encode_batch):
    model = MeanModel(encode_batch)
    results = list(caption_stream(model, photos, batch_size=batch_size, threads=threads))
    assert [r if isinstance(r, str) else "error" for r in results] == [
        "error" if i in (3, 4, 17) else str(i) for i in range(40)
    ]
    assert isinstance(results[3], ImageReadError) and "3.png" in str(results[3])
    # Batches are full although broken files lie between: the last alone may be smaller.
    assert sum(model.batches) == 37 and all(size == batch_size for size in model.batches[:-1])
    assert sum(model.encoded) == 37 and max(model.encoded) == min(encode_batch, batch_size)
    assert not reader_threads()


def test_nothing_in_nothing_out():
    assert list(caption_stream(MeanModel(), [])) == []


def test_only_broken_files(tmp_path):
    paths = [tmp_path / f"{i}.jpg" for i in range(100)]
    model = MeanModel()
    results = list(caption_stream(model, paths, batch_size=4))
    assert [type(r) for r in results] == [ImageReadError] * 100 and model.batches == model.encoded == []


def test_reads_only_a_little_ahead(photos):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield photos[0]

    results = caption_stream(MeanModel(), endless(), batch_size=2, threads=2)
    for _ in range(6):
        next(results)
    results.close()
    assert len(taken) < 40
    assert not reader_threads()


def test_the_same_lazy_image_twice(photos):
    """PIL reads from one file position: two threads on the same object would break it."""
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)).save(data, "PNG")
    image = Image.open(data)
    assert len(set(caption_stream(MeanModel(), [image] * 30, threads=4))) == 1


def test_an_error_in_the_sources_or_the_model_reaches_the_caller(photos):
    def broken():
        yield photos[0]
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        list(caption_stream(MeanModel(), broken()))

    model = MeanModel()
    model.encode = lambda images: 1 / 0
    with pytest.raises(ZeroDivisionError):
        list(caption_stream(model, photos))
    assert not reader_threads()


def test_options_reach_the_model(photos):
    model = MeanModel()
    list(caption_stream(model, photos[:1], "the options", prefix="a dog", attention=False))
    assert model.words == ("the options", {"prefix": "a dog", "attention": False})


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"threads": 0}])
def test_senseless_arguments(arguments):
    with pytest.raises(CaptionerError, match="must be 1 or more"):
        caption_stream(MeanModel(), [], **arguments)
