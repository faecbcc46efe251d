import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grfd.data import idx, load
from grfd.data.idx import IDX_FILES, from_idx, to_idx
from grfd.errors import UserError

shapes = st.lists(st.integers(0, 5), min_size=1, max_size=4)


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


PARTS = {
    "train images": pixels(12, 7, 6),
    "train labels": torch.arange(12, dtype=torch.uint8) % 10,
    "test images": pixels(5, 7, 6),
    "test labels": torch.arange(5, dtype=torch.uint8),
}


def write(folder: Path, rename=lambda name: name, pack=lambda content: content) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for what, values in PARTS.items():
        (folder / rename(IDX_FILES[what])).write_bytes(pack(to_idx(values)))
    return folder


@settings(deadline=None)
@given(shapes, st.booleans())
def test_round_trip(shape: list[int], as_bytearray: bool) -> None:
    values = pixels(*shape)
    content = to_idx(values)
    assert torch.equal(from_idx(bytearray(content) if as_bytearray else content, len(shape), "file"), values)


def test_bytes_are_those_of_the_format() -> None:
    assert to_idx(torch.tensor([[1, 2, 255]])) == bytes.fromhex("00000802 00000001 00000003 0102ff")


def test_parsed_tensor_can_be_written_to_without_changing_the_bytes_given() -> None:
    content = to_idx(pixels(3))
    before = bytes(content)
    from_idx(content, 1, "file").fill_(7)
    assert content == before


@settings(deadline=None)
@given(shapes, st.data())
def test_any_other_length_is_refused(shape: list[int], draw: st.DataObject) -> None:
    content = to_idx(pixels(*shape))
    short = draw.draw(st.integers(0, len(content) - 1))
    with pytest.raises(UserError, match=r"^file: (truncated|starts with)"):
        from_idx(content[:short], len(shape), "file")
    with pytest.raises(UserError, match=r"^file: trailing bytes"):
        from_idx(content + b"\0", len(shape), "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"starts with bytes \(none\); expected the IDX magic 00000803"),
        (to_idx(pixels(4)), "starts with bytes 00000801; expected the IDX magic 00000803"),
        (b"\x89PNG\r\n", "starts with bytes 89504e47"),
        (to_idx(pixels(2, 3, 3))[:9], "truncated, 9 bytes; expected a header of 16"),
        (to_idx(pixels(2, 3, 3))[:-1], r"truncated, 33 bytes; expected 34 for shape \[2, 3, 3\]"),
        (to_idx(pixels(2, 3, 3)) + b"ab", r"trailing bytes, 36 bytes; expected 34 for shape \[2, 3, 3\]"),
    ],
)
def test_wrong_content_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=f"^some-file: {message}"):
        from_idx(content, 3, "some-file")


LAYOUTS = {
    "official": ("", lambda name: name, lambda content: content),
    "official gz": ("", lambda name: name + ".gz", gzip.compress),
    "dots": ("", lambda name: name.replace("-idx", ".idx"), lambda content: content),
    "dots gz": ("", lambda name: name.replace("-idx", ".idx") + ".gz", gzip.compress),
    "gzip without suffix": ("", lambda name: name, gzip.compress),
    "torchvision root": ("MNIST/raw", lambda name: name, lambda content: content),
    "torchvision MNIST": ("raw", lambda name: name + ".gz", gzip.compress),
}


@pytest.mark.parametrize(("folder", "rename", "pack"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_loads_the_same(tmp_path: Path, folder: str, rename, pack) -> None:
    write(tmp_path / folder, rename, pack)
    data = load("mnist", tmp_path)
    assert torch.equal(data.train.images[:, 0], PARTS["train images"])
    assert torch.equal(data.test.images[:, 0], PARTS["test images"])
    assert torch.equal(data.train.labels, PARTS["train labels"].long())
    assert torch.equal(data.test.labels, PARTS["test labels"].long())
    assert data.classes == tuple("0123456789") and str(tmp_path) in data.source


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a folder; expected one with train-images-idx3-ubyte"):
        load("mnist", tmp_path / "nowhere")


@pytest.mark.parametrize("what", IDX_FILES)
def test_missing_file(tmp_path: Path, what: str) -> None:
    (write(tmp_path) / IDX_FILES[what]).unlink()
    with pytest.raises(UserError, match=f"no {what} in {tmp_path}; expected {IDX_FILES[what]}"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("what", IDX_FILES)
def test_truncated_file_is_named(tmp_path: Path, what: str) -> None:
    path = write(tmp_path) / IDX_FILES[what]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{IDX_FILES[what]}: truncated"):
        load("mnist", tmp_path)


def test_truncated_gzip(tmp_path: Path) -> None:
    path = write(tmp_path, lambda name: name + ".gz", gzip.compress) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz: truncated gzip file"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("position", [12, -5], ids=["deflate stream", "checksum"])
def test_damaged_gzip(tmp_path: Path, position: int) -> None:
    path = write(tmp_path, lambda name: name + ".gz", gzip.compress) / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte.gz: (cannot be read|truncated gzip)"):
        load("mnist", tmp_path)


def test_images_and_labels_of_different_number(tmp_path: Path) -> None:
    (write(tmp_path) / IDX_FILES["test labels"]).write_bytes(to_idx(pixels(4)))
    with pytest.raises(UserError, match="labels-idx1-ubyte: 4 labels; expected 5, the number of images in t10k-images"):
        load("mnist", tmp_path)


def test_label_above_nine_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / IDX_FILES["test labels"]).write_bytes(to_idx(torch.tensor([0, 1, 2, 10, 3])))
    with pytest.raises(UserError, match="test label 3 is 10; expected 0…9"):
        load("mnist", tmp_path)


def header(*shape: int) -> bytes:
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize(
    "shape",
    [(2**32 - 1, 28, 28), (60000, 2**31, 28), (2**32 - 1, 0, 2**32 - 1), (0, 2**31, 1)],
    ids=["-1 images", "negative rows", "zero among huge", "huge among zero"],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_header_that_claims_too_much_is_refused(tmp_path: Path, shape: tuple[int, ...], pack) -> None:
    (write(tmp_path) / IDX_FILES["train images"]).write_bytes(pack(header(*shape) + bytes(100)))
    with pytest.raises(UserError, match=r"the header claims shape \[\d+, \d+, \d+\]; expected at most 1,073,741,824"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("shape", [(0, 28, 28), (12, 0, 6), (12, 7, 0)])
def test_images_without_pixels_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (write(tmp_path) / IDX_FILES["train images"]).write_bytes(header(*shape))
    (tmp_path / IDX_FILES["train labels"]).write_bytes(to_idx(PARTS["train labels"][: shape[0]]))
    with pytest.raises(UserError, match="train is empty"):
        load("mnist", tmp_path)


def test_no_more_is_unpacked_than_the_header_claims(tmp_path: Path) -> None:
    bomb = gzip.compress(header(12, 7, 6) + bytes(2**26), compresslevel=1)
    (write(tmp_path) / IDX_FILES["train images"]).write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte: trailing bytes, .*expected 520 for shape"):
        load("mnist", tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_the_files_for_building_the_package_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "LARGEST_IDX_FILE", 1000)
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1001)))
    with pytest.raises(UserError, match=r"a.gz: unpacks to more than 1,000 bytes"):
        idx.read_content(tmp_path / "a.gz")


def test_a_fifo_is_refused_and_a_folder_of_the_name_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / IDX_FILES["test labels"]
    path.rename(tmp_path / "t10k-labels.idx1-ubyte")
    path.mkdir()
    assert len(load("mnist", tmp_path).test) == 5
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte is a named pipe"):
        load("mnist", tmp_path)


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened: File name too long"):
        load("mnist", tmp_path / ("n" * 300))


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """An IDX file, plain or packed, of which a few bytes are others, or that is cut or prolonged."""
    whole = to_idx(pixels(3, 2, 2))
    content = bytearray(draw(st.sampled_from([whole, gzip.compress(whole, mtime=0), gzip.compress(whole * 2)])))
    for position in draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[position] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))]) + draw(st.binary(max_size=4))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | spoilt())
def test_any_bytes_are_a_tensor_or_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    try:
        found = idx.read_idx(path, 3)
    except UserError as error:
        assert str(path) in str(error) and str(error).isprintable()
    else:
        unpacked = gzip.decompress(content) if content.startswith(idx.GZIP_MAGIC) else content
        assert to_idx(found) == unpacked
    assert path.read_bytes() == content
