"""Observations -> pictures that people can read -> MP4 or GIF."""

from __future__ import annotations

import colorsys
import importlib
import io
import itertools
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rldarts_tf.errors import RunError, one_line
from rldarts_tf.files import PathLike

FORMATS = ("mp4", "gif")

# Pixels: small images are enlarged to about this, and never made narrower than their caption.
_SIDE = 320
_WIDTH = 240
_LINE = 18
_FONT_SIZE = 14


def format_of(path: PathLike) -> str:
    """Returns the format that the suffix of a path names.

    Raises:
      RunError: it names none of `FORMATS`, or a package that writes it is not installed.
    """
    name = Path(path).suffix.lower()[1:]
    if name not in FORMATS:
        suffixes = " or ".join(f".{known}" for known in FORMATS)
        raise RunError(f"video {str(path)!r}: its name must end in {suffixes}")
    for module in ("PIL", *(["imageio_ffmpeg"] if name == "mp4" else [])):
        _load(module)
    return name


def _load(module: str) -> Any:
    try:
        with warnings.catch_warnings():
            # imageio-ffmpeg before 0.5 imports pkg_resources, which warns.
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise RunError(
            f"no video: {one_line(error)}; run: pip install rldarts_tf[video]"
        ) from error


def picture(observation: np.ndarray, frames: int = 1, bounds: Sequence[float] | None = None) -> Any:
    """Returns an observation as colours.

    One channel is shown in gray, three as red, green and blue. Other numbers of channels, and any
    of bool, are planes: each gets a colour of its own, and where two overlap, the brighter wins.

    Args:
      observation: [H, W, C], uint8, bool or float. Of C channels the last C / frames are shown.
      frames: how many frames stand in it one after another, the newest last.
      bounds: the least and the greatest value that floats take; those of the image by default.

    Returns:
      uint8 [H, W, 3].
    """
    newest = observation[..., -(observation.shape[-1] // frames) :]
    planes = newest.dtype == np.bool_
    if newest.dtype == np.uint8:
        bounds = (0, 255)
    elif planes:
        bounds = (0, 1)
    low, high = bounds or (newest.min(), newest.max())
    scaled = np.clip((newest.astype(np.float32) - low) / ((high - low) or 1), 0, 1)
    channels = scaled.shape[-1]
    if channels == 1:
        scaled = np.repeat(scaled, 3, axis=-1)
    elif channels != 3 or planes:
        scaled = (scaled[..., np.newaxis] * _colours(channels)).max(axis=-2)
    return np.round(scaled * 255).astype(np.uint8)


def _colours(number: int) -> np.ndarray:
    """Hues that are evenly apart, [number, 3] in 0 to 1."""
    return np.array([colorsys.hsv_to_rgb(k / number, 0.7, 1.0) for k in range(number)], np.float32)


def captioned(colours: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """Enlarges a picture by a whole factor and writes lines below it.

    Args:
      colours: uint8 [H, W, 3].
      lines: of text.

    Returns:
      uint8 [height, width, 3], both even.
    """
    from PIL import Image, ImageDraw, ImageFont

    factor = max(1, _SIDE // max(colours.shape[:2]))
    enlarged = colours.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = enlarged.shape[0] + _LINE * len(lines) + 6, max(enlarged.shape[1], _WIDTH)
    canvas = np.full((height + height % 2, width + width % 2, 3), 24, np.uint8)
    left = (width - enlarged.shape[1]) // 2
    canvas[: enlarged.shape[0], left : left + enlarged.shape[1]] = enlarged
    image = Image.fromarray(canvas)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_FONT_SIZE)
    for number, line in enumerate(lines):
        draw.text((6, enlarged.shape[0] + 2 + _LINE * number), line, fill="white", font=font)
    return np.asarray(image)


def encode(pictures: Iterable[np.ndarray], file_format: str, fps: float) -> bytes:
    """Returns the content of an "mp4" or "gif" file.

    Args:
      pictures: uint8 [H, W, 3], at least one, all of one size, both sides even.
      file_format: one of `FORMATS`.
      fps: pictures per second. A GIF counts hundredths of a second.

    Raises:
      RunError: the encoder fails.
    """
    return (_gif if file_format == "gif" else _mp4)(pictures, fps)


def _gif(pictures: Iterable[np.ndarray], fps: float) -> bytes:
    from PIL import Image

    # Without dithering, what is one colour stays one, and the file small.
    frames = (Image.fromarray(p).quantize(256, dither=Image.Dither.NONE) for p in pictures)
    buffer = io.BytesIO()
    # GIF counts in hundredths of a second, and players take less than two of them for ten.
    duration = max(20, 10 * round(100 / fps))
    next(frames).save(buffer, "GIF", save_all=True, append_images=frames, duration=duration, loop=0)
    return buffer.getvalue()


def _mp4(pictures: Iterable[np.ndarray], fps: float) -> bytes:
    ffmpeg = _load("imageio_ffmpeg")
    pictures = iter(pictures)
    first = next(pictures)
    height, width, _ = first.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        try:
            writer = ffmpeg.write_frames(
                str(path),
                (width, height),
                fps=fps,
                quality=7,
                macro_block_size=2,
                ffmpeg_log_level="error",
            )
            writer.send(None)
            for frame in itertools.chain([first], pictures):
                writer.send(np.ascontiguousarray(frame))
            writer.close()
            return path.read_bytes()
        except (OSError, RuntimeError) as error:
            raise RunError(f"no video: ffmpeg fails: {one_line(error)}") from None
