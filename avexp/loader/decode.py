"""Encoded images to uint8 RGB, scaled in the JPEG transform where that saves work (libjpeg-turbo by simplejpeg)."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import simplejpeg

from avexp.core.errors import DataError

Image = npt.NDArray[np.uint8]
SCALES = [Fraction(eighths, 8) for eighths in range(1, 9)]


def jpeg_scale(width_px: int, least_width_px: int | None) -> Fraction:
    """The smallest DCT scale (n/8) whose width is at least the wanted one; 1 for None."""
    if least_width_px is None:
        return Fraction(1)
    fitting = [scale for scale in SCALES if width_px * scale >= least_width_px]
    return fitting[0] if fitting else Fraction(1)


def decode(content: bytes, where: str, least_width_px: int | None = None) -> tuple[Image, tuple[int, int]]:
    """Decode a JPEG or PNG.

    Args:
        content: the encoded image.
        where: shard and key to name in an error.
        least_width_px: a JPEG may be decoded at a smaller scale that is still this wide; None for full size.

    Returns:
        uint8 [H, W, 3] RGB, and the full size (width, height) [px].

    Raises:
        DataError: truncated or no image. A truncated JPEG is refused, not filled with grey.
    """
    if content[:2] != b"\xff\xd8":
        return _decode_other(content, where)
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
        scale = jpeg_scale(width, least_width_px)
        if b"\xff\xd9" not in content[-16:]:
            raise ValueError("the end-of-image marker is missing: truncated")
        image = simplejpeg.decode_jpeg(
            content,
            colorspace="RGB",
            min_height=max(1, int(height * scale)),
            min_width=max(1, int(width * scale)),
        )
    except ValueError as fault:
        raise DataError(where, f"JPEG cannot be decoded ({fault})", "restore the file or ingest it again") from None
    return np.asarray(image, np.uint8), (width, height)


def _decode_other(content: bytes, where: str) -> tuple[Image, tuple[int, int]]:
    import io

    from PIL import Image as PilImage

    try:
        with PilImage.open(io.BytesIO(content)) as picture:
            image = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as fault:
        raise DataError(where, f"image cannot be decoded ({fault})", "restore the file or ingest it again") from None
    return image, (image.shape[1], image.shape[0])
