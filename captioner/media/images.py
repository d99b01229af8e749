"""Image files, bytes, PIL images and arrays to RGB arrays; every bad input gets an error that says what is wrong."""

from __future__ import annotations

import importlib
import io
import math
import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image

from captioner.errors import ImageReadError
from captioner.media.files import check_pixels, explained_access
from captioner.media.image_formats import format_of, lacks_end, what_instead, without_metadata
from captioner.names import printable

MAX_PIXELS = 100_000_000
"""Default limit on width x height, checked from the header before anything is decoded."""

MAX_BYTES = 2**30
"""Limit on the size of an image file: 100 million pixels of 16-bit RGB fit."""

RESIZE_FILTER = Image.Resampling.BILINEAR
"""Pillow's triangle filter, in both directions: antialiased when it makes smaller, plain bilinear when it makes larger.

The training photos are 224 x 224 and the encoders want more, so one filter has to serve both directions.
"""

REDUCING_GAP = 3.0
"""Images more than this many times the target are first averaged in whole-pixel boxes, which is much faster."""

LEAST_SHARE = 0.86
"""A JPEG is decoded at reduced size while at least this share of the target is left.

It is what the training photos had: 224 of the 260 pixels of their encoder's input. Decoding at more would give a
sharpness that the models have not seen, and costs twice the time for a photo of 640 x 480.
"""

IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff"}
    | {".jp2", ".j2k", ".avif", ".pbm", ".pgm", ".ppm", ".pnm", ".qoi"}
)
"""Extensions, in lower case, of the files that a folder scan takes for images."""

UNDECODABLE_EXTENSIONS = frozenset(
    {".heic", ".heif", ".hif", ".jxl", ".jxr", ".wdp", ".psd", ".psb", ".xcf", ".exr", ".hdr", ".tga", ".bpg", ".flif"}
    | {".svg", ".svgz", ".eps", ".pcx", ".dds", ".sgi", ".pict", ".wmf", ".emf"}
    # What cameras call raw.
    | {".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw"}
    | {".x3f", ".3fr", ".fff", ".iiq", ".mrw", ".dcr", ".kdc", ".erf", ".mef", ".mos", ".rwl", ".gpr", ".raw"}
)
"""Extensions, in lower case, of photos that nothing here can decode; a folder scan says how many there are."""

# Only these are tried: formats that start other programs (EPS), hold no picture of their own or are recognised by
# guesswork (TGA) stay out. Pillow's plugin classes are called directly: `Image.open` would add a pixel limit of its
# own, which is global to the process and can only be changed for all threads at once.
_PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "JPEG 2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "PNM": ("PIL.PpmImagePlugin", "PpmImageFile"),
    "QOI": ("PIL.QoiImagePlugin", "QoiImageFile"),
}

_NEARLY_ALL = 0.99  # of the pixels
_NO_DATA = 1e30

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Damaged metadata beside an intact picture is no reason to fail, nor to write on stderr. A filter set here once is safe
# with threads; `warnings.catch_warnings` around each image would not be.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read_image(source: Any, *, size: int | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read one image as RGB.

    EXIF orientation is applied, transparency is laid over white, 16-bit values are scaled to 8 bits, and of an
    animation the first frame is taken. Colour profiles are not applied.

    Args:
        source: Path, bytes, binary file object (read from its start), PIL image, or array: uint8, uint16 (0..65535),
            bool or float (0..1), of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB order, alpha last.
        size: Side of the square to squash the image into, aspect not kept, with `RESIZE_FILTER`; None keeps the size.
            A JPEG is decoded at a half, a quarter or an eighth of its size while `LEAST_SHARE` of that is left.
        max_pixels: Limit on width x height.

    Returns:
        uint8 (H, W, 3), RGB, writable; (size, size, 3) where ``size`` is given.

    Raises:
        ImageReadError: With ``kind`` ``missing``, ``not_a_file``, ``permission``, ``empty``, ``truncated`` (which
            includes damaged), ``not_an_image``, ``too_large`` or ``bad_array``.
    """
    if size is not None and size < 1:
        raise ValueError(f"size must be 1 or more, not {size}")
    name = name_of(source)
    if isinstance(source, Image.Image):
        if source.format == "EPS" and source.tile:  # not decoded yet; Pillow would start Ghostscript
            raise ImageReadError(
                f"{name}: is an EPS drawing, not an image of pixels; export it as PNG", kind="not_an_image"
            )
        check_pixels(*source.size, max_pixels, name, "image")
        image = _upright_rgb(source, name, size)
    elif isinstance(source, (str, os.PathLike)):
        image = _decode(_read_file(source, name), name, size, max_pixels)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        image = _decode(bytes(source), name, size, max_pixels)
    elif hasattr(source, "read"):
        image = _decode(_read_stream(source, name), name, size, max_pixels)
    elif hasattr(source, "__array__"):
        image = _squashed(_from_array(np.asarray(source), name, max_pixels), size)
    else:
        raise ImageReadError(
            f"{name}: cannot be read as an image; give a path, bytes, a binary file, a PIL image or an array",
            kind="not_an_image",
        )
    return np.array(image)


def name_of(source: Any) -> str:
    """Name of an image source for messages, on one line whatever the file is called.

    >>> name_of("photos/cat.jpg")
    'photos/cat.jpg'
    >>> name_of(b"1234")
    '<4 bytes>'
    """
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        text = os.fsdecode(text) if isinstance(text, bytes) else text
        return printable(text) or "''"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"<{len(source)} bytes>"
    if isinstance(source, Image.Image):
        filename = getattr(source, "filename", "")
        return name_of(filename) if filename else f"<PIL image {source.width}x{source.height}>"
    if hasattr(source, "read"):
        filename = getattr(source, "name", None)
        return name_of(filename) if isinstance(filename, str) and filename else "<file object>"
    if hasattr(source, "shape") and hasattr(source, "dtype"):
        return f"<array {tuple(source.shape)} {source.dtype}>"
    return f"<{type(source).__name__}>"


def _read_file(source: str | os.PathLike, name: str) -> bytes:
    with explained_access(source, name, "image") as status:
        if status.st_size > MAX_BYTES:
            raise ImageReadError(
                f"{name}: the file has {status.st_size:,} bytes; the limit is {MAX_BYTES:,}", kind="too_large"
            )
        return Path(source).read_bytes()


def _read_stream(source: BinaryIO, name: str) -> bytes:
    try:
        if getattr(source, "seekable", bool)():  # a network stream is read from where it stands
            source.seek(0)
        data = source.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: closed
        raise ImageReadError(f"{name}: cannot be read ({error})", kind="missing") from error
    if not isinstance(data, bytes):
        raise ImageReadError(f"{name}: gives no bytes; open the file in binary mode ('rb')", kind="not_an_image")
    if len(data) > MAX_BYTES:
        raise ImageReadError(f"{name}: has more than {MAX_BYTES:,} bytes, which is the limit", kind="too_large")
    return data


def _decode(data: bytes, name: str, size: int | None, max_pixels: int) -> Image.Image:
    if not data:
        raise ImageReadError(f"{name}: is empty (0 bytes)", kind="empty")
    kind = format_of(data)
    if kind is None:
        raise ImageReadError(f"{name}: {what_instead(data)}", kind="not_an_image")
    module, plugin = _PLUGINS[kind]
    data = without_metadata(data) if kind == "PNG" else data
    try:
        # Pillow's parsers raise nearly every kind of exception on damaged files, so nothing narrower would do here.
        image = getattr(importlib.import_module(module), plugin)(io.BytesIO(data))
    except Exception as error:
        raise ImageReadError(f"{name}: {kind} file, truncated or damaged ({error})", kind="truncated") from error
    check_pixels(*image.size, max_pixels, name, "image")
    if lacks_end(data, kind):
        raise ImageReadError(f"{name}: {kind} file, truncated: its end is missing", kind="truncated")
    drafted = None
    if size is not None:
        # The decoder itself averages 2 x 2, 4 x 4 or 8 x 8 pixels.
        least = math.ceil(LEAST_SHARE * size)
        drafted = image.draft(None, (least, least))
    # The last averages may reach beyond the photo: the box says where it ends.
    return _upright_rgb(image, name, size, box=drafted[1] if drafted else None)


def _upright_rgb(image: Image.Image, name: str, size: int | None, box: tuple | None = None) -> Image.Image:
    """Decode a lazily opened image; the given object itself keeps its mode and size."""
    try:
        image.load()
        # Only after loading: TIFF turns itself while it loads and forgets its orientation then.
        transpose = _TRANSPOSE.get(_orientation(image))
        rgb = _squashed(_to_rgb(image), size, box)  # before it is turned: a square is a square either way
        return rgb.transpose(transpose) if transpose is not None else rgb
    except MemoryError as error:
        raise ImageReadError(f"{name}: not enough memory to decode it", kind="too_large") from error
    except Exception as error:
        raise ImageReadError(
            f"{name}: {image.format or 'image'} data truncated or damaged ({error})", kind="truncated"
        ) from error


def _squashed(rgb: Image.Image, size: int | None, box: tuple | None = None) -> Image.Image:
    if size is None or rgb.size == (size, size):
        return rgb
    return rgb.resize((size, size), RESIZE_FILTER, box=box, reducing_gap=REDUCING_GAP)


def _orientation(image: Image.Image) -> int | None:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged metadata; the picture is intact
        return None
    return value if isinstance(value, int) else None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray(_from_uint16(np.asarray(image))).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_from_wide(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def _from_uint16(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_wide(values: np.ndarray) -> np.ndarray:
    """32-bit integers or floats, whose range no header tells, to uint8.

    The range is chosen by nearly all pixels (`_NEARLY_ALL`) and the rest is clipped: a few that are far too bright must
    not make the others black. It is the smallest usual one that holds them: 0..1 (floats only), 0..255 (floats only) or
    0..65535; where they would fill less than a tenth of it (light measured in other units), or exceed them all, it is
    their own. Negative values and NaN, the usual marks for "no data", and values near the end of what floats can hold,
    another, become black.
    """
    usual = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (65535.0,)
    with np.errstate(invalid="ignore"):  # some kinds of NaN
        values = values.astype(np.float64)
    values[~(np.abs(values) < _NO_DATA)] = 0.0
    highest = float(values.max(initial=0.0))
    high = float(np.quantile(values, _NEARLY_ALL, method="lower")) if values.size else 0.0
    top = next((top for top in usual if high <= top), math.inf)
    if math.isinf(top) or (top > 10 * high and top > usual[0]):
        top = highest if highest <= 2 * high else high
    return np.rint(np.clip(values / top, 0.0, 1.0) * 255.0).astype(np.uint8)


def _from_array(array: np.ndarray, name: str, max_pixels: int) -> Image.Image:
    def bad(reason: str) -> ImageReadError:
        return ImageReadError(f"{name}: {reason}", kind="bad_array")

    if array.ndim == 4:
        raise bad("is a batch of images; give a list of arrays, each (height, width, 3)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = "; move the channels last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise bad(f"an image has shape (height, width) or (height, width, 1, 3 or 4){hint}")
    if array.size == 0:
        raise bad("has no pixels")
    check_pixels(array.shape[1], array.shape[0], max_pixels, name, "image")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = _from_uint16(array)
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise bad("holds NaN or infinite values")
        low, high = float(array.min()), float(array.max())
        if low < -1e-3 or high > 1 + 1e-3:  # resizing and storing as float16 leave such overshoots
            raise bad(f"float values must lie in 0..1, these lie in {low:g}..{high:g}; for 0..255 convert to uint8")
        array = np.rint(np.clip(array.astype(np.float32), 0.0, 1.0) * 255.0).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise bad(
            "values must be uint8 (0..255), uint16 (0..65535), bool or float (0..1); convert with .astype(np.uint8)"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)))
