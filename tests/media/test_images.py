"""Image files, bytes and arrays to RGB arrays: every format trait, every kind of error."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from media_makers import encoded, noisy_picture, png_chunk, png_header, png_with, smooth_picture
from PIL import Image

from captioner.errors import CaptionerError, ImageReadError
from captioner.media.images import IMAGE_EXTENSIONS, name_of, read_image

# Pillow warns of damaged metadata; the package itself ignores that, but pytest resets the filters.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

# How the stored picture is made from the upright one, per EXIF orientation (the inverse of what a reader does).
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def kind_of(source, **options) -> str:
    """Kind of the error that reading raises; its message must name the source and fit one line."""
    with pytest.raises(ImageReadError) as caught:
        read_image(source, **options)
    assert isinstance(caught.value, CaptionerError)
    assert str(caught.value).startswith(name_of(source)) and "\n" not in str(caught.value)
    return caught.value.kind


def exif(orientation) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return float(np.abs(a.astype(int) - b.astype(int)).max())


class TestSources:
    picture = smooth_picture(31, 20)

    def test_all_kinds_of_sources_agree(self, tmp_path):
        png = encoded(self.picture, "PNG")
        path = tmp_path / "a b.png"
        path.write_bytes(png)
        file = io.BytesIO(png)
        file.seek(7)  # read from its start wherever it stands
        with open(path, "rb") as opened:
            sources = [path, str(path), png, bytearray(png), memoryview(png), file, opened]
            sources += [Image.open(io.BytesIO(png)), self.picture, self.picture.astype(np.float32) / 255]
            for source in sources:
                image = read_image(source)
                np.testing.assert_array_equal(image, self.picture)
                assert image.flags.writeable and image.flags.c_contiguous

    def test_stream_without_seeking(self):
        read_end, write_end = os.pipe()
        data = encoded(self.picture, "PNG")
        with os.fdopen(read_end, "rb") as reader, os.fdopen(write_end, "wb") as writer:
            threading.Thread(target=lambda: (writer.write(data), writer.close())).start()
            np.testing.assert_array_equal(read_image(reader), self.picture)

    def test_arrays(self):
        grey = self.picture[:, :, 0]
        expected = np.repeat(grey[:, :, None], 3, axis=2)
        for array in (
            grey,
            grey[:, :, None],
            grey.astype(np.uint16) * 257,
            grey / 255.0,
            (grey / 255).astype(np.float16),
        ):
            assert distance(read_image(array), expected) <= (1 if array.dtype == np.float16 else 0)
        np.testing.assert_array_equal(read_image(grey > 100), np.where(expected > 100, 255, 0).astype(np.uint8))
        half = np.dstack([self.picture, np.full(grey.shape, 128, np.uint8)])
        over_white = self.picture * (128 / 255) + 255 * (127 / 255)
        assert distance(read_image(half), np.rint(over_white).astype(np.uint8)) <= 1
        np.testing.assert_array_equal(read_image(self.picture[:, ::-1]), self.picture[:, ::-1])

    def test_result_does_not_share_memory_with_the_source(self):
        array = self.picture.copy()
        pil = Image.fromarray(array)
        for source in (array, pil):
            read_image(source)[:] = 0
            np.testing.assert_array_equal(np.asarray(source), self.picture)

    def test_pil_image_stays_as_it_is(self):
        image = Image.fromarray(self.picture).convert("P")
        read_image(image, size=8)
        assert image.mode == "P" and image.size == (31, 20)

    @pytest.mark.parametrize("name", ["with space.jpg", "köln 🐕.jpg", "two\nlines.jpg", "a" * 246 + ".jpg"])
    def test_unusual_names(self, tmp_path, name):
        path = tmp_path / name
        path.write_bytes(encoded(self.picture, "JPEG"))
        assert read_image(path).shape == (20, 31, 3)
        path.write_bytes(b"nothing")
        kind_of(path)

    def test_name_that_is_no_utf8(self, tmp_path):
        path = os.fsencode(tmp_path) + b"/\xff.png"
        with open(path, "wb") as file:
            file.write(encoded(self.picture, "PNG"))
        np.testing.assert_array_equal(read_image(os.fsdecode(path)), self.picture)
        assert name_of(os.fsdecode(path)).endswith("\\xff.png")

    def test_extensions_are_lower_case(self):
        assert {".jpg", ".jpeg", ".png", ".webp"} <= IMAGE_EXTENSIONS
        assert all(e.startswith(".") and e == e.lower() for e in IMAGE_EXTENSIONS)


class TestFormats:
    picture = smooth_picture(48, 32)

    @pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "QOI"])
    def test_lossless(self, kind):
        np.testing.assert_array_equal(read_image(encoded(self.picture, kind)), self.picture)

    @pytest.mark.parametrize(
        ("kind", "options"),
        [("JPEG", {"quality": 95}), ("JPEG", {"progressive": True, "quality": 95}), ("WEBP", {"quality": 95}),
         ("WEBP", {"lossless": True}), ("JPEG2000", {}), ("AVIF", {"quality": 95}), ("MPO", {"quality": 95})],
    )  # fmt: skip
    def test_lossy(self, kind, options):
        assert distance(read_image(encoded(self.picture, kind, **options)), self.picture) <= 12

    @pytest.mark.parametrize("orientation", STORED)
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
    def test_orientation(self, orientation, kind):
        stored = np.ascontiguousarray(STORED[orientation](self.picture))
        options = {"lossless": True} if kind == "WEBP" else {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
        data = encoded(stored, kind, exif=exif(orientation), **options)
        for source in (data, Image.open(io.BytesIO(data))):
            assert distance(read_image(source), self.picture) <= (6 if kind == "JPEG" else 0)

    @pytest.mark.parametrize("orientation", [0, 9, 255])
    def test_senseless_orientation(self, orientation):
        data = encoded(self.picture, "PNG", exif=exif(orientation))
        np.testing.assert_array_equal(read_image(data), self.picture)

    def test_damaged_exif_is_no_reason_to_fail(self):
        data = encoded(self.picture, "JPEG", exif=b"Exif\0\0II*\0" + b"\xff" * 40)
        assert read_image(data).shape == self.picture.shape

    def test_orientation_at_reduced_size(self):
        big = np.ascontiguousarray(STORED[6](smooth_picture(960, 640)))
        data = encoded(big, "JPEG", exif=exif(6), quality=95)
        assert distance(read_image(data, size=60), read_image(smooth_picture(960, 640), size=60)) <= 8

    def test_alpha_lies_over_white(self):
        red = np.zeros((4, 256, 4), np.uint8)
        red[..., 0], red[..., 3] = 255, np.arange(256)
        expected = np.rint(255 - np.arange(256) * 1.0)
        image = read_image(encoded(red, "PNG"))
        assert np.abs(image[0, :, 1].astype(float) - expected).max() <= 1
        assert (image[..., 0] == 255).all()

    def test_grey_with_alpha(self):
        data = encoded(Image.merge("LA", [Image.new("L", (3, 2), 0), Image.new("L", (3, 2), 0)]), "PNG")
        assert (read_image(data) == 255).all()

    def test_palette(self):
        image = Image.new("P", (4, 1))
        image.putpalette([0, 0, 0, 200, 10, 20, 30, 200, 40, 50, 60, 200] + [0] * 756)
        image.putdata([0, 1, 2, 3])
        assert read_image(encoded(image, "PNG"))[0].tolist() == [[0, 0, 0], [200, 10, 20], [30, 200, 40], [50, 60, 200]]
        clear = read_image(encoded(image, "PNG", transparency=1))
        assert clear[0, 1].tolist() == [255, 255, 255] and clear[0, 2].tolist() == [30, 200, 40]

    def test_transparent_colour(self):
        data = encoded(Image.new("RGB", (2, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
        assert (read_image(data) == 255).all()

    def test_one_bit(self):
        assert read_image(encoded(Image.new("1", (2, 2), 1), "PNG")).tolist() == [[[255] * 3] * 2] * 2

    def test_cmyk(self):
        cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
        for kind in ("JPEG", "TIFF"):
            red = read_image(encoded(cmyk, kind))
            assert distance(red, np.broadcast_to(np.uint8([255, 0, 0]), (8, 8, 3)).copy()) <= 3

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
    def test_sixteen_bits_are_scaled(self, kind):
        values = np.array([[0, 200, 257, 128 * 257, 40000, 65300, 65535]], np.uint16)
        image = read_image(encoded(Image.fromarray(values), kind))
        assert image[0, :, 0].tolist() == [0, 1, 1, 128, 156, 254, 255]
        assert (image[..., :1] == image).all()

    def test_sixteen_bit_colour(self):
        rows = b"\0" + struct.pack(">6H", 0, 32896, 65535, 257, 40000, 514)
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
        data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
        assert distance(read_image(data), np.uint8([[[0, 128, 255], [1, 156, 2]]])) <= 1

    @pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
    def test_float_tiff(self, top):
        values = np.linspace(0, 0.999 * top, 12, dtype=np.float32).reshape(3, 4)
        image = read_image(encoded(Image.fromarray(values), "TIFF"))
        assert np.abs(image[..., 0] - values / top * 255).max() <= 0.51

    def test_drawings_start_no_other_program(self, monkeypatch):
        monkeypatch.setattr("subprocess.Popen", lambda *arguments, **options: pytest.fail("a process was started"))
        eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
        for source in (eps, io.BytesIO(eps), Image.open(io.BytesIO(eps))):
            with pytest.raises(ImageReadError) as caught:
                read_image(source)
            assert caught.value.kind == "not_an_image"

    @pytest.mark.parametrize(
        ("scale", "outliers"),
        [
            (1.0, [1.001]),
            (1.0, [1.2, 50.0, 3e4, -20.0, np.nan, np.inf, 3.4e38, -9999.0]),
            (255.0, [255.5, 300.0]),
            (255.0, [1e9]),
            (65535.0, [70000.0, np.inf]),
        ],
    )
    def test_a_few_pixels_out_of_range_change_no_other(self, scale, outliers):
        """One pixel at 1.001 made the whole picture black."""
        photo = np.random.default_rng(0).uniform(0.05, 1.0, (40, 50)).astype(np.float32)
        plain = read_image(encoded(Image.fromarray(photo * np.float32(scale)), "TIFF"))
        assert abs(float(plain.mean()) - 133.9) < 3
        values = photo * np.float32(scale)
        values[0, : len(outliers)] = outliers
        image = read_image(encoded(Image.fromarray(values), "TIFF"))
        np.testing.assert_array_equal(image[1:], plain[1:])
        bright = [0 if not 0 <= one < 1e30 else 255 for one in outliers]
        assert image[0, : len(outliers), 0].tolist() == bright

    @pytest.mark.parametrize("highest", [1.3, 4.0, 300.0, 2e5, 1e7])
    def test_values_of_another_range_fill_it(self, highest):
        """Scene-linear light, counts of a sensor: neither black nor white."""
        values = np.linspace(0, highest, 2000, dtype=np.float32).reshape(40, 50)
        image = read_image(encoded(Image.fromarray(values), "TIFF"))
        assert np.abs(image[..., 0].ravel() - np.linspace(0, 255, 2000)).max() <= 0.51

    def test_floats_that_are_whole_numbers_are_those_of_eight_bits(self):
        values = np.arange(256, dtype=np.float32).reshape(16, 16)
        assert read_image(encoded(Image.fromarray(values), "TIFF"))[..., 0].ravel().tolist() == list(range(256))
        mask = (values > 100).astype(np.float32)
        assert set(read_image(encoded(Image.fromarray(mask), "TIFF")).ravel().tolist()) == {0, 255}

    def test_a_dark_photo_stays_dark(self):
        for scale in (0.02, 60.0, 9000.0):
            values = np.random.default_rng(0).uniform(0, scale, (40, 50)).astype(np.float32)
            assert read_image(encoded(Image.fromarray(values), "TIFF")).mean() < 31

    @pytest.mark.parametrize("hot", [2**20, 2**31 - 1])
    def test_a_hot_pixel_among_integers(self, hot):
        values = np.full((30, 40), 32768, np.int32)
        values[3, 4] = hot
        image = read_image(encoded(Image.fromarray(values), "TIFF"))
        assert (image[0, 0, 0], image[3, 4, 0]) == (128, 255)

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
    def test_first_frame_of_an_animation(self, kind):
        frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "lime", "blue")]
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert Image.open(io.BytesIO(data)).n_frames == 3
        assert read_image(data)[5, 5].tolist() == [255, 0, 0]

    def test_huge_text_beside_the_picture(self):
        png = encoded(self.picture, "PNG")
        bomb = zlib.compress(bytes(80_000_000), 9)
        chunks = [
            png_chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000),
            png_chunk(b"zTXt", b"Comment\0\0" + bomb),
            png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + bomb),
            png_chunk(b"iCCP", b"profile\0\0" + bomb),
        ]
        np.testing.assert_array_equal(read_image(png_with(png, *chunks)), self.picture)
        after = png[:-12] + b"".join(chunks[:3]) + png[-12:]
        np.testing.assert_array_equal(read_image(after), self.picture)


class TestSize:
    def test_squashed_with_an_antialiased_triangle_filter(self):
        picture = noisy_picture(70, 50)
        expected = np.empty((20, 20, 3))
        rows, columns = triangle_matrix(50, 20), triangle_matrix(70, 20)
        for channel in range(3):
            expected[..., channel] = rows @ picture[..., channel] @ columns.T
        assert np.abs(read_image(picture, size=20) - expected).max() <= 1.01

    def test_enlarged_as_in_training(self):
        picture = noisy_picture(22, 22)
        expected = Image.fromarray(picture).resize((26, 26), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(read_image(encoded(picture, "PNG"), size=26), np.asarray(expected))

    @pytest.mark.parametrize(
        ("shape", "size"), [((3000, 2000), 60), ((1600, 1201), 60), ((640, 480), 100), ((640, 480), 260)]
    )
    def test_reduced_decoding_changes_little(self, shape, size):
        picture = np.asarray(Image.fromarray(noisy_picture(40, 30)).resize(shape, Image.Resampling.BICUBIC))
        data = encoded(picture, "JPEG", quality=95)
        full = read_image(Image.fromarray(read_image(data)).resize((size, size), Image.Resampling.BILINEAR))
        difference = np.abs(read_image(data, size=size).astype(int) - full.astype(int))
        assert difference.mean() < 2 and difference.max() < 16

    def test_jpeg_is_decoded_at_reduced_size(self, monkeypatch):
        data = encoded(smooth_picture(1600, 1200), "JPEG")
        sizes = []
        original = Image.Image.resize
        monkeypatch.setattr(
            Image.Image, "resize", lambda self, *a, **k: sizes.append(self.size) or original(self, *a, **k)
        )
        assert read_image(data, size=100).shape == (100, 100, 3)
        assert read_image(data, size=300).shape == (300, 300, 3)
        assert read_image(data, size=348).shape == (348, 348, 3)
        assert read_image(data, size=349).shape == (349, 349, 3)
        assert sizes == [(200, 150), (400, 300), (400, 300), (800, 600)]

    @pytest.mark.parametrize("size", [0, -1])
    def test_senseless_size(self, size):
        with pytest.raises(ValueError, match="size"):
            read_image(smooth_picture(4, 4), size=size)

    def test_extreme_shapes(self):
        for shape in ((1, 1), (3000, 1), (1, 3000)):
            assert read_image(smooth_picture(*shape), size=16).shape == (16, 16, 3)


def triangle_matrix(source: int, target: int) -> np.ndarray:
    """Independent definition of the filter: (target, source) weights, each row summing to 1."""
    scale = source / target
    support = max(scale, 1.0)
    centres = (np.arange(target)[:, None] + 0.5) * scale
    weights = np.maximum(0.0, 1 - np.abs(np.arange(source)[None, :] + 0.5 - centres) / support)
    return weights / weights.sum(axis=1, keepdims=True)


class TestBadFiles:
    def test_missing(self, tmp_path):
        assert kind_of(tmp_path / "none.jpg") == "missing"
        assert kind_of("") == "missing"
        assert kind_of("null\0character.jpg") == "missing"
        assert kind_of(tmp_path / ("x" * 300)) == "missing"
        (tmp_path / "link.jpg").symlink_to(tmp_path / "none.jpg")
        assert kind_of(tmp_path / "link.jpg") == "missing"
        (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
        assert kind_of(tmp_path / "loop.jpg") == "missing"
        with pytest.raises(ImageReadError, match="download"):
            read_image("https://example.org/cat.jpg")

    def test_not_a_file(self, tmp_path):
        assert kind_of(tmp_path) == "not_a_file"
        os.mkfifo(tmp_path / "pipe.jpg")
        assert kind_of(tmp_path / "pipe.jpg") == "not_a_file"
        assert kind_of("/dev/zero") == "not_a_file"
        with pytest.raises(ImageReadError, match="is a folder, not an image file"):
            read_image(tmp_path)

    def test_no_permission(self, tmp_path, monkeypatch):
        path = tmp_path / "locked.jpg"
        path.write_bytes(encoded(smooth_picture(4, 4), "JPEG"))
        path.chmod(0)
        if os.access(path, os.R_OK):  # the administrator may read everything

            def refuse(*args, **kwargs):
                raise PermissionError(13, "Permission denied")

            monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
        assert kind_of(path) == "permission"

    def test_empty(self, tmp_path):
        (tmp_path / "empty.jpg").touch()
        assert kind_of(tmp_path / "empty.jpg") == "empty"
        assert kind_of(b"") == "empty"
        assert kind_of(io.BytesIO()) == "empty"

    def test_file_objects_that_cannot_be_read(self):
        assert kind_of(io.StringIO("text")) == "not_an_image"
        closed = io.BytesIO(b"x")
        closed.close()
        assert kind_of(closed) == "missing"

    @pytest.mark.parametrize(
        ("data", "word"),
        [(b"hello", "format"), (b"%PDF-1.7\n%", "PDF"), (b"<?xml version='1.0'?><svg xmlns=''>", "SVG"),
         (b"\n<!DOCTYPE html><html>", "web page"), (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
         (b"\0\0\0\x18ftypisom\0\0\0\0", "video"), (b"RIFF\0\0\0\0AVI LIST", "video"), (bytes(100), "format"),
         (b"%!PS-Adobe-3.0 EPSF-3.0\n", "format")],
    )  # fmt: skip
    def test_not_an_image(self, data, word):
        assert kind_of(data) == "not_an_image"
        with pytest.raises(ImageReadError, match=word):
            read_image(data)

    @pytest.mark.parametrize("source", [None, 3, ["a.jpg"], {"a": 1}])
    def test_other_objects(self, source):
        assert kind_of(source) == "not_an_image"

    @pytest.mark.parametrize(
        ("kind", "options"),
        [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("WEBP", {}),
         ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
         ("JPEG2000", {}), ("AVIF", {}), ("PPM", {})],
    )  # fmt: skip
    def test_truncated_anywhere(self, kind, options):
        data = encoded(noisy_picture(40, 30), kind, **options)
        read_image(data)
        lengths = {1, 2, 3, 8, 12, 20, 40, len(data) - 1, *range(50, len(data), max(1, len(data) // 40))}
        for length in lengths:
            for size in (None, 8):
                kind_now = kind_of(data[:length], size=size)
                # A few bytes do not say yet which format they begin.
                assert kind_now == "truncated" or (length <= 12 and kind_now == "not_an_image")

    def test_truncated_animation_is_an_error(self):
        frames = [Image.fromarray(noisy_picture(40, 30, seed)) for seed in range(3)]
        for kind in ("GIF", "WEBP"):
            data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
            assert kind_of(data[: len(data) - len(data) // 5]) == "truncated"

    def test_jpeg_with_thumbnail_truncated(self):
        """The end mark inside the embedded thumbnail is not the end of the photo."""
        thumbnail = encoded(smooth_picture(16, 16), "JPEG")
        application = b"Exif\0\0" + thumbnail
        data = encoded(noisy_picture(64, 64), "JPEG")
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(application) + 2) + application + data[2:]
        assert read_image(data).shape == (64, 64, 3)
        assert kind_of(data[:-2]) == "truncated"

    def test_bytes_after_the_end_are_fine(self):
        for kind in ("JPEG", "PNG", "GIF", "WEBP"):
            assert read_image(encoded(smooth_picture(9, 7), kind) + b"trailing bytes").shape == (7, 9, 3)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM", "QOI"])
    def test_damaged_bytes_give_a_picture_or_an_image_error(self, kind):
        data = encoded(noisy_picture(24, 18), kind)
        generator = np.random.default_rng(5)
        for _ in range(60):
            broken = bytearray(data)
            for position in generator.integers(0, len(data), 6):
                broken[position] = generator.integers(256)
            try:
                image = read_image(bytes(broken), max_pixels=1_000_000)
            except ImageReadError:
                continue
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3

    def test_too_large(self, monkeypatch, tmp_path):
        bomb = tmp_path / "bomb.png"
        bomb.write_bytes(png_header(60_000, 60_000))
        # Nothing of its size may be made before the check.
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded before the check"))
        assert kind_of(bomb) == "too_large"
        assert kind_of(Image.open(io.BytesIO(png_header(11, 10))), max_pixels=109) == "too_large"
        assert kind_of(smooth_picture(11, 10), max_pixels=109) == "too_large"
        assert kind_of(encoded(smooth_picture(11, 10), "GIF"), max_pixels=109) == "too_large"

    def test_limit_is_adjustable_and_exact(self):
        data = encoded(smooth_picture(20, 10), "PNG")
        assert read_image(data, max_pixels=200).shape == (10, 20, 3)
        assert kind_of(data, max_pixels=199) == "too_large"
        with pytest.raises(ImageReadError, match="max_pixels"):
            read_image(data, max_pixels=199)

    def test_limit_of_pillow_does_not_apply(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        assert read_image(encoded(smooth_picture(20, 10), "PNG")).shape == (10, 20, 3)

    def test_file_of_senseless_length(self, tmp_path):
        path = tmp_path / "sparse.jpg"
        path.touch()
        os.truncate(path, 3 * 2**30)
        assert kind_of(path) == "too_large"

    @pytest.mark.parametrize(
        "array",
        [np.zeros((2, 4, 4, 3), np.uint8), np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 2), np.uint8),
         np.zeros(8, np.uint8), np.zeros((0, 8, 3), np.uint8), np.zeros((4, 4, 3), np.int64),
         np.full((4, 4, 3), 200.0), np.full((4, 4), -0.5), np.full((4, 4), np.nan), np.zeros((4, 4), complex),
         np.array("a")],
    )  # fmt: skip
    def test_bad_arrays(self, array):
        assert kind_of(array) == "bad_array"

    def test_record_of_an_error(self):
        with pytest.raises(ImageReadError) as caught:
            read_image("none.jpg")
        assert caught.value.to_dict() == {
            "type": "ImageReadError", "kind": "missing", "message": "none.jpg: no such file",
        }  # fmt: skip


def test_threads_read_in_parallel():
    pictures = [encoded(noisy_picture(120 + index, 90, index), "JPEG") for index in range(8)]
    one_by_one = [read_image(data, size=40) for data in pictures]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for a, b in zip(pool.map(lambda data: read_image(data, size=40), pictures), one_by_one, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.data
def test_photos_are_squashed_as_in_training(shared):
    paths = sorted((shared / "flickr8k" / "images").iterdir())[:5]
    for path in paths:
        expected = np.asarray(Image.open(path).convert("RGB").resize((260, 260), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(read_image(path, size=260), expected)
