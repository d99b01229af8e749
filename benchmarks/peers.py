"""What people would use instead: BLIP-base and ViT-GPT2 in ``transformers``, and the loop of the Keras tutorials.

The transformers have random weights (nothing is downloaded) and write 12 words for every photo, which costs what real
weights cost. The tutorial loop calls ``model.predict`` for every word of every photo, greedily.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

import captioner
from benchmarks.material import photos
from benchmarks.measuring import Setup, Table, cores, rates

WORDS = 12


def measure(setup: Setup) -> list[Table]:
    """See the module."""
    files = photos(setup.folder, setup.size(128, 4))
    model = captioner.load(setup.model)
    programs = {"captioner, beam 3": lambda: sum(1 for _ in captioner.caption_many(model, files))}
    programs["captioner, greedy"] = lambda: sum(1 for _ in captioner.caption_many(model, files, strategy="greedy"))
    programs["Keras tutorial loop, greedy"] = _tutorial(files[: setup.size(6, 1)])
    notes = [f"All on {cores()} cores in one process, in turns, from the same JPEG files."]
    try:
        programs |= _transformers(files[: setup.size(6, 1)])
    except ImportError as error:
        notes.append(f"BLIP-base and ViT-GPT2 were left out: {error}; `pip install captioner[bench]`.")
    measured = rates(programs, setup.repeats)
    ours = measured["captioner, beam 3"].median
    return [
        Table(
            "Beside the alternatives",
            ["what", "captions/s", "lower quarter", "upper quarter", "captioner at beam 3 is faster by"],
            [[name, rate.median, rate.low, rate.high, ours / rate.median] for name, rate in measured.items()],
            [*notes, __doc__.split("\n\n")[1].replace("\n", " ").strip()],
        )
    ]


def _tutorial(files: list[str]):
    """A photo vector beside an LSTM over the words so far, as in the widespread Keras tutorials."""
    import keras

    from captioner.models.encoder import EncoderConfig, build_encoder

    encoder = build_encoder(EncoderConfig("lite2"))
    photo, words = keras.Input((1280,)), keras.Input((20,))
    x = keras.layers.Dense(256, activation="relu")(keras.layers.Dropout(0.5)(photo))
    y = keras.layers.LSTM(256)(keras.layers.Dropout(0.5)(keras.layers.Embedding(2500, 256, mask_zero=True)(words)))
    z = keras.layers.Dense(256, activation="relu")(keras.layers.add([x, y]))
    decoder = keras.Model([photo, words], keras.layers.Dense(2500, activation="softmax")(z))

    def run():
        for file in files:
            image = np.asarray(Image.open(file).convert("RGB").resize((encoder.image_size,) * 2), np.float32)
            vector = encoder.predict(image[None], verbose=0)["pooled"]
            text = [1]
            for _ in range(WORDS):
                padded = np.zeros((1, 20), np.float32)
                padded[0, -len(text) :] = text
                text.append(int(decoder.predict([vector, padded], verbose=0)[0].argmax()))
        return len(files)

    return run


def _transformers(files: list[str]) -> dict:
    import torch
    import transformers as t

    torch.set_num_threads(cores())
    torch.manual_seed(0)
    blip = t.BlipForConditionalGeneration(t.BlipConfig()).eval()
    encoder, decoder = t.ViTConfig(), t.GPT2Config(is_decoder=True, add_cross_attention=True)
    vit = t.VisionEncoderDecoderModel(
        t.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    ).eval()
    vit.generation_config.decoder_start_token_id = vit.generation_config.pad_token_id = decoder.eos_token_id

    def program(model, size: int, beams: int):
        def run():
            with torch.inference_mode():
                for file in files:
                    pixels = np.asarray(Image.open(file).convert("RGB").resize((size, size)), np.float32) / 127.5 - 1
                    model.generate(
                        pixel_values=torch.from_numpy(pixels.transpose(2, 0, 1)[None]),
                        num_beams=beams, min_new_tokens=WORDS, max_new_tokens=WORDS, do_sample=False,
                    )  # fmt: skip
            return len(files)

        return run

    return {
        "BLIP-base, beam 3": program(blip, 384, 3),
        "BLIP-base, greedy": program(blip, 384, 1),
        "ViT-GPT2, beam 3": program(vit, 224, 3),
    }
