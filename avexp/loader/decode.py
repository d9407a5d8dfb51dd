"""Encoded images to uint8 RGB, scaled in the JPEG transform where that saves work (libjpeg-turbo by simplejpeg)."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import simplejpeg

from avexp.core.errors import DataError

Image = npt.NDArray[np.uint8]
Content = bytes | memoryview
SCALES = [Fraction(eighths, 8) for eighths in range(1, 9)]
REMEDY = "restore the file or ingest it again"


def jpeg_scale(width_px: int, least_width_px: int | None) -> Fraction:
    """The smallest DCT scale (n/8) whose width is at least the wanted one; 1 for None."""
    if least_width_px is None:
        return Fraction(1)
    fitting = [scale for scale in SCALES if width_px * scale >= least_width_px]
    return fitting[0] if fitting else Fraction(1)


def is_jpeg(content: Content) -> bool:
    """Whether it begins as one."""
    return bytes(content[:2]) == b"\xff\xd8"


def image_sizes(content: Content, where: str, least_width_px: int | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Full size, and the size that it is decoded to; both (width, height) [px].

    Raises:
        DataError: no readable image.
    """
    if not is_jpeg(content):
        height, width, _ = _decode_other(content, where).shape
        return (width, height), (width, height)
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError as fault:
        raise DataError(where, f"JPEG cannot be decoded ({fault})", REMEDY) from None
    scale = jpeg_scale(width, least_width_px)
    return (width, height), (_scaled(width, scale), _scaled(height, scale))


def _scaled(length: int, scale: Fraction) -> int:
    """As libjpeg rounds it: up."""
    return -(-length * scale.numerator // scale.denominator)


def decode_into(content: Content, where: str, out: Image) -> None:
    """Decode a JPEG or PNG into memory that is there.

    Args:
        content: the encoded image.
        where: shard and key to name in an error.
        out: uint8 [H, W, 3] RGB, contiguous, as large as ``image_sizes`` says of its like.

    Raises:
        DataError: truncated, no image, or of another size. A truncated JPEG is refused, not filled with grey.
    """
    height, width = out.shape[:2]
    if not is_jpeg(content):
        image = _decode_other(content, where)
        if image.shape != out.shape:
            raise _other_size(where, image.shape[1], image.shape[0], width, height)
        out[:] = image
        return
    if b"\xff\xd9" not in bytes(content[-16:]):
        raise DataError(where, "JPEG cannot be decoded (the end-of-image marker is missing: truncated)", REMEDY)
    try:
        image = simplejpeg.decode_jpeg(content, "RGB", min_height=height - 1, min_width=width - 1, buffer=out)
    except ValueError as fault:
        raise _jpeg_fault(content, where, out, fault) from None
    if image.shape != out.shape:
        raise _other_size(where, image.shape[1], image.shape[0], width, height)


def _jpeg_fault(content: Content, where: str, out: Image, fault: ValueError) -> DataError:
    """Whether it is damaged, or only too large for the memory it should fill."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        height, width = out.shape[:2]
    if height * width > out.shape[0] * out.shape[1] and "buffer" in str(fault).lower():
        return _other_size(where, width, height, out.shape[1], out.shape[0])
    return DataError(where, f"JPEG cannot be decoded ({fault})", REMEDY)


def _other_size(where: str, width: int, height: int, wanted_width: int, wanted_height: int) -> DataError:
    what = f"image is {width}x{height}, others of the dataset are {wanted_width}x{wanted_height}"
    return DataError(where, what, "train on one camera model at a time (data.sensor) or ingest to one size")


def decode(content: Content, where: str, least_width_px: int | None = None) -> tuple[Image, tuple[int, int]]:
    """Decode a JPEG or PNG.

    Args:
        content: the encoded image.
        where: shard and key to name in an error.
        least_width_px: a JPEG may be decoded at a smaller scale that is still this wide; None for full size.

    Returns:
        uint8 [H, W, 3] RGB, and the full size (width, height) [px].

    Raises:
        DataError: truncated or no image.
    """
    if not is_jpeg(content):
        image = _decode_other(content, where)
        return image, (image.shape[1], image.shape[0])
    full, (width, height) = image_sizes(content, where, least_width_px)
    image = np.empty((height, width, 3), np.uint8)
    decode_into(content, where, image)
    return image, full


def _decode_other(content: Content, where: str) -> Image:
    import io

    from PIL import Image as PilImage

    try:
        with PilImage.open(io.BytesIO(content)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as fault:
        raise DataError(where, f"image cannot be decoded ({fault})", REMEDY) from None
