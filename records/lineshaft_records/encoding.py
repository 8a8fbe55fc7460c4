"""Makes files of what people call an image or a sound: PNG and WAV, without further libraries."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Final, Literal, cast

from lineshaft_records import optional

_MAGICS: Final = (
    (b"\x89PNG", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"RIFF", "webp"),
    (b"<svg", "svg"),
)
_COLOURS: Final = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's types of colour by channels: grey, grey with alpha, red green blue, and with alpha."""
Layout = Literal["CHW", "HWC", "HW"]


def image_file(image: object, layout: Layout | None = None) -> tuple[bytes, str]:
    """Return the bytes of a picture and the extension of its file.

    Args:
        image: Bytes of a picture, the path of one, a figure of Matplotlib, a picture of Pillow, or
            an array or tensor: floats from 0 to 1, integers from 0 to 255.
        layout: How an array lies; None guesses that the short side is the channels.

    Raises:
        TypeError: It is none of that.
        ValueError: An array has another shape.
        OSError: The path cannot be read.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(cast("bytes", image))
        return data, next((kind for magic, kind in _MAGICS if data.startswith(magic)), "png")
    if isinstance(image, str | os.PathLike):
        path = Path(cast("str", image))
        return path.read_bytes(), path.suffix.removeprefix(".") or "png"
    thing: Any = image
    for method, words in (("savefig", {"bbox_inches": "tight"}), ("save", {})):
        if hasattr(thing, method) and (method == "savefig" or hasattr(thing, "mode")):
            out = io.BytesIO()
            getattr(thing, method)(out, format="png", **words)
            return out.getvalue(), "png"
    if hasattr(thing, "shape"):
        return _png(_bytes_of(thing, layout)), "png"
    raise TypeError(
        f"{type(image).__name__} is no image: give bytes, a path, a figure, a picture or an array"
    )


def sound_file(sound: object, rate_hz: int) -> tuple[bytes, str]:
    """Return the bytes of a sound and the extension of its file.

    Args:
        sound: Bytes of a file of sound, or an array or tensor of samples from -1 to 1: one channel,
            or channels one above the other.
        rate_hz: Samples a second of an array.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(sound, bytes | bytearray | memoryview):
        return bytes(cast("bytes", sound)), "wav"
    if not hasattr(sound, "shape"):
        raise TypeError(f"{type(sound).__name__} is no sound: give bytes or an array")
    import wave  # noqa: PLC0415 - only who tells sounds pays for it

    np = optional.numbers()
    samples = np.atleast_2d(on_host(sound))
    whole = (np.clip(samples, -1.0, 1.0) * 32767).round().astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(whole.shape[0])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(whole.T.tobytes())
    return out.getvalue(), "wav"


def on_host(array: Any) -> Any:
    """Return an array of NumPy, whatever framework and device it comes from.

    Raises:
        TypeError: It cannot be made one.
    """
    for method in ("detach", "cpu"):
        if hasattr(array, method):
            array = getattr(array, method)()
    try:
        return optional.numbers().asarray(array)
    except TypeError:
        if not hasattr(array, "float"):
            raise
        return optional.numbers().asarray(array.float())  # NumPy has no bfloat16.


def _bytes_of(image: object, layout: Layout | None) -> Any:
    """Return rows of pixels of bytes: height, width, channels."""
    np = optional.numbers()
    array = on_host(image)
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim == 3:
        is_first = layout == "CHW" or (
            layout is None and array.shape[0] in _COLOURS and array.shape[2] not in _COLOURS
        )
        array = array.transpose(1, 2, 0) if is_first else array
    if array.ndim != 3 or array.shape[2] not in _COLOURS or 0 in array.shape:
        raise ValueError(f"an array of shape {tuple(array.shape)} is no image of 1 to 4 channels")
    if array.dtype.kind == "f":
        array = (np.clip(np.nan_to_num(array), 0.0, 1.0) * 255).round()
    elif array.dtype.kind == "b":
        array = array * 255
    return np.clip(array, 0, 255).astype("uint8")


def _png(pixels: Any) -> bytes:
    np = optional.numbers()
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), dtype="uint8")  # each begins with its filter
    rows[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, data) for kind, data in parts)


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
