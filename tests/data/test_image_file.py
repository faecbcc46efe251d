"""The one reader of image files: right values for every kind of pixel, one line for everything else."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from grfd.api.using import read_image
from grfd.data import image_file
from grfd.data.image_file import IMAGE_FORMATS, IMAGE_SUFFIXES, MOST_PIXELS, read_pixels
from grfd.errors import UserError

GREY = np.arange(0, 240, 12, dtype=np.uint8).reshape(4, 5)
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=2)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(pixels: np.ndarray, colour: int, extra: bytes = b"") -> bytes:
    """The bytes of a PNG of 16 bits a channel, [h, w, channels], written by hand: Pillow writes none in colour."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def alpha(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 77)], axis=2)


@pytest.mark.parametrize("scale", [256, 257])
@pytest.mark.parametrize("colour", [0, 2, 4, 6], ids=["grey", "RGB", "grey and alpha", "RGBA"])
def test_sixteen_bits_have_the_values_of_the_eight_bit_file(tmp_path: Path, colour: int, scale: int) -> None:
    pixels = (COLOUR if colour & 2 else GREY[..., None]).astype(int)
    content = png((alpha(pixels) if colour & 4 else pixels) * scale, colour)
    (tmp_path / "a.png").write_bytes(content)
    assert np.array_equal(read_pixels(tmp_path / "a.png"), pixels.transpose(2, 0, 1))


def test_grey_of_sixteen_bits_in_every_format(tmp_path: Path) -> None:
    wide = GREY.astype(np.uint16) * 257
    Image.fromarray(wide).save(tmp_path / "little.tif")
    Image.frombytes("I;16B", (5, 4), wide.astype(">u2").tobytes()).save(tmp_path / "big.tif")
    Image.fromarray(65535 - wide).save(tmp_path / "white.tif", tiffinfo={262: 0})  # 0 is white
    Image.fromarray(wide).save(tmp_path / "a.png")
    (tmp_path / "a.pgm").write_bytes(b"P5 5 4 65535\n" + wide.astype(">u2").tobytes())
    for path in tmp_path.iterdir():
        assert np.array_equal(read_pixels(path), GREY[None]), path.name
        assert np.array_equal(read_pixels(path, 3), np.stack([GREY] * 3)), path.name


def test_few_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P2 2 1 15\n0 15\n")
    assert read_pixels(tmp_path / "a.pgm").tolist() == [[[0, 255]]]
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    assert np.array_equal(read_pixels(tmp_path / "a.png"), np.where(GREY > 100, 255, 0)[None])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "wide"), [(".png", False), (".png", True), (".tif", False), (".tif", True), (".webp", False)]
)
def test_the_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int, wide: bool) -> None:
    turned = {1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1], 5: GREY.T}
    turned |= {6: np.rot90(GREY, -1), 7: GREY[::-1, ::-1].T, 8: np.rot90(GREY)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = GREY.astype(np.uint16) * 257 if wide else GREY
    Image.fromarray(stored).save(tmp_path / f"a{suffix}", exif=exif, **{"lossless": True} if suffix == ".webp" else {})
    assert np.array_equal(read_pixels(tmp_path / f"a{suffix}", 1)[0], turned[orientation])


def test_the_orientation_of_a_photograph_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).transpose(2, 0, 1)
    assert expected.shape == (3, 5, 4) and np.array_equal(read_pixels(tmp_path / "a.jpg"), expected)


def saved(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


def test_palette_alpha_and_cmyk(tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR)
    assert np.array_equal(read_pixels(saved(image.quantize(64), tmp_path / "p.png")), COLOUR.transpose(2, 0, 1))
    seen_through = image.copy()
    seen_through.putalpha(9)
    assert np.array_equal(read_pixels(saved(seen_through, tmp_path / "a.png")), COLOUR.transpose(2, 0, 1))
    assert np.array_equal(read_pixels(saved(image.convert("CMYK"), tmp_path / "c.tif")), COLOUR.transpose(2, 0, 1))
    assert read_pixels(saved(image.convert("LA"), tmp_path / "l.png")).shape == (1, 4, 5)
    assert np.array_equal(read_pixels(tmp_path / "a.png", 1)[0], np.asarray(image.convert("L")))


@pytest.mark.parametrize(
    ("image", "mode"),
    [(Image.new("F", (5, 4)), "F"), (Image.new("I", (5, 4)), "I"), (Image.new("LAB", (5, 4)), "LAB")],
    ids=["float", "32 bits", "LAB"],
)
def test_other_kinds_of_pixels_are_refused(tmp_path: Path, image: Image.Image, mode: str) -> None:
    with pytest.raises(UserError, match=rf"a.tif has pixels of kind '{mode}'; expected 8 or 16 bits per channel"):
        read_pixels(saved(image, tmp_path / "a.tif"))


def content_of(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["EPS", "ICO", "TGA", "PCX", "PDF", "SGI", "DDS"])
def test_formats_that_are_not_named_are_refused_whatever_the_suffix(tmp_path: Path, kind: str) -> None:
    image = Image.new("RGB", (16, 16))
    (tmp_path / "a.png").write_bytes(content_of(image, kind))
    with pytest.raises(UserError, match=r"a.png cannot be read as an image: expected one of PNG, JPEG, BMP"):
        read_pixels(tmp_path / "a.png")


def test_a_suffix_of_each_format_is_one_that_pillow_knows_it_by() -> None:
    Image.init()
    for kind, suffixes in IMAGE_FORMATS.items():
        assert {Image.EXTENSION[suffix] for suffix in suffixes} == {kind}
    assert len(set(IMAGE_SUFFIXES)) == len(IMAGE_SUFFIXES) == sum(len(suffixes) for suffixes in IMAGE_FORMATS.values())


def large(height: int, width: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "side", [8193, 9500, 14_000, 2**31 - 1], ids=["limit", "Pillow warns", "Pillow raises", "huge"]
)
def test_too_many_pixels_are_one_line(tmp_path: Path, side: int, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "a.png").write_bytes(large(side, side))
    with pytest.raises(UserError, match=rf"a.png has .*expected .*{MOST_PIXELS:,}"):
        read_pixels(tmp_path / "a.png")
    assert not len(recwarn)


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_small_chunk_that_unpacks_to_much_is_refused_or_not_unpacked(tmp_path: Path, name: bytes) -> None:
    bomb = zlib.compress(bytes(2**22), 9)
    head = b"a\0\1\0\0\0" if name == b"iTXt" else b"a\0\0"
    (tmp_path / "a.png").write_bytes(png(GREY[..., None].astype(int) * 257, 0, chunk(name, head + bomb)))
    with pytest.raises(UserError, match=r"a.png cannot be read as an image: Decompressed data too large"):
        read_pixels(tmp_path / "a.png")


EXAMPLES = {
    kind: content_of(Image.fromarray(COLOUR), kind) for kind in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM"])
def test_half_a_file_is_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(EXAMPLES[kind][: len(EXAMPLES[kind]) // 2])
    with pytest.raises(UserError, match=r"a.png cannot be read as an image"):
        read_pixels(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.touch, "cannot be read as an image"),
        (Path.mkdir, "is a folder"),
        (os.mkfifo, "is a named pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: None, "is not there"),
    ],
    ids=["empty", "folder", "FIFO", "device", "nothing"],
)
def test_what_is_no_file_with_an_image(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "[x].png")
    with pytest.raises(UserError, match=rf"\[x\].png {message}"):
        read_pixels(tmp_path / "[x].png")


def test_a_file_too_large_for_an_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as handle:
        handle.write(EXAMPLES["PNG"])
        handle.truncate(image_file.MOST_BYTES + 1)
    with pytest.raises(UserError, match=r"a.png has 536,870,913 bytes; expected at most"):
        read_pixels(tmp_path / "a.png")


def test_the_filters_of_warnings_are_given_back(tmp_path: Path) -> None:
    before = list(warnings.filters)
    read_pixels(saved(Image.fromarray(GREY), tmp_path / "a.png"))
    assert warnings.filters == before


def test_predict_reads_as_the_folder_does(tmp_path: Path) -> None:
    (tmp_path / "wide.png").write_bytes(png(np.full((4, 5, 1), 38 * 257), 0))
    Image.new("L", (5, 4), 38).save(tmp_path / "a.png")
    for shape in ((1, 4, 5), (3, 4, 5)):
        wide, narrow = (read_image(tmp_path / name, shape) for name in ("wide.png", "a.png"))
        assert torch.equal(wide, narrow) and torch.equal(narrow, torch.full(shape, 38 / 255))
    with pytest.raises(UserError, match=r"a.png is 4×5: expected 5×4"):
        read_image(tmp_path / "a.png", (1, 5, 4))
    with pytest.raises(UserError, match="takes images with 2 channels"):
        read_image(tmp_path / "a.png", (2, 4, 5))


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """An image file of which a few bytes are others, or that is cut or prolonged."""
    content = bytearray(draw(st.sampled_from([*EXAMPLES.values(), png(COLOUR.astype(int) * 257, 2)])))
    for position in draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[position] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))]) + draw(st.binary(max_size=8))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | spoilt(), channels=st.sampled_from([None, 1, 3]))
def test_any_bytes_are_an_image_or_one_line(tmp_path: Path, content: bytes, channels: int | None) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    try:
        pixels = read_pixels(path, channels)
    except UserError as error:
        assert str(path) in str(error) and str(error).isprintable()
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3
        assert pixels.shape[0] == channels if channels else pixels.shape[0] in (1, 3)
    assert path.read_bytes() == content
