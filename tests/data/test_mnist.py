import gzip
import hashlib
import lzma
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grfd.data import Data, build_mnist, describe, load, mnist
from grfd.data.idx import IDX_FILES, to_idx
from grfd.errors import UserError

OFFICIAL_MD5 = {
    "train images": "6bbc9ace898e44ae57da46a324031adb",
    "train labels": "a25bea736e30d166cdddb491f175f624",
    "test images": "2646ac647ad5339dbf082846283269ea",
    "test labels": "27ae3e4e09519cfbb04c329615203637",
}


@pytest.fixture(scope="module")
def embedded() -> Data:
    return load("mnist")


def as_idx(data: Data, what: str) -> bytes:
    split = getattr(data, what.split()[0])
    return to_idx(split.images[:, 0] if what.endswith("images") else split.labels)


@pytest.mark.parametrize("what", OFFICIAL_MD5)
def test_embedded_data_are_the_official_bytes(embedded: Data, what: str) -> None:
    assert hashlib.md5(as_idx(embedded, what)).hexdigest() == OFFICIAL_MD5[what]


def test_shapes_and_types(embedded: Data) -> None:
    for split, n in ((embedded.train, 60_000), (embedded.test, 10_000)):
        assert (split.images.shape, split.images.dtype) == ((n, 1, 28, 28), torch.uint8)
        assert (split.labels.shape, split.labels.dtype) == ((n,), torch.int64)
    assert (embedded.name, embedded.classes) == ("mnist", tuple("0123456789"))
    assert "http://yann.lecun.com/exdb/mnist/" in embedded.source


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_own_copy_equals_the_embedded_one(embedded: Data, tmp_path: Path, pack) -> None:
    small = Data("small", embedded.train.take(50), embedded.test.take(20), embedded.classes, "test")
    for what, name in IDX_FILES.items():
        (tmp_path / name).write_bytes(pack(as_idx(small, what)))
    own = load("mnist", tmp_path)
    for mine, theirs in ((own.train, embedded.train.take(50)), (own.test, embedded.test.take(20))):
        assert torch.equal(mine.images, theirs.images) and torch.equal(mine.labels, theirs.labels)


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(1, 5))
def test_cut_pieces_join_to_the_content(content: bytes, count: int) -> None:
    pieces = build_mnist.cut(content, count)
    assert len(pieces) == count and b"".join(pieces) == content
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_build_refuses_files_that_are_not_the_official_ones(tmp_path: Path) -> None:
    (tmp_path / IDX_FILES["train images"]).write_bytes(to_idx(torch.zeros(2, 28, 28)))
    with pytest.raises(UserError, match=f"train-images-idx3-ubyte: MD5 .*; expected {OFFICIAL_MD5['train images']}"):
        build_mnist.build(tmp_path, tmp_path)


def test_build_makes_the_label_file_again(embedded: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels only: compressing the images takes a minute."""
    monkeypatch.setattr(build_mnist, "MNIST_PIECES", {"test labels": 2})
    (tmp_path / IDX_FILES["test labels"]).write_bytes(as_idx(embedded, "test labels"))
    build_mnist.build(tmp_path, tmp_path)
    made = b"".join(lzma.decompress((tmp_path / f"t10k-labels-idx1-ubyte.{piece}.xz").read_bytes()) for piece in (0, 1))
    assert hashlib.md5(made).hexdigest() == OFFICIAL_MD5["test labels"]


def test_describe_finds_the_embedded_mnist_whole() -> None:
    row = describe()[0]
    assert (row.name, row.train, row.test, row.shape) == ("mnist", 60_000, 10_000, (1, 28, 28))
    assert row.classes == 10 and "CC BY-SA 3.0" in row.licence
    assert (Path(row.location) / "LICENSE").is_file()
    assert row.checksum_right and row.problem == ""


@pytest.fixture
def labels_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the embedded label files, for a test to damage; without the images, which take long to unpack."""
    for name in ("train-labels-idx1-ubyte.0.xz", "t10k-labels-idx1-ubyte.0.xz"):
        (tmp_path / name).write_bytes((mnist.EMBEDDED_FILES / name).read_bytes())
    monkeypatch.setattr(mnist, "EMBEDDED_FILES", tmp_path)
    monkeypatch.setattr(mnist, "MNIST_PIECES", {"train labels": 1, "test labels": 1})
    return tmp_path


def test_missing_embedded_file(labels_only: Path) -> None:
    (labels_only / "train-labels-idx1-ubyte.0.xz").unlink()
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte.0.xz: cannot be read .*reinstall grfd"):
        load("mnist")
    row = describe()[0]
    assert not row.checksum_right and "train-labels-idx1-ubyte.0.xz" in row.problem and row.train == 0


def test_truncated_embedded_file(labels_only: Path) -> None:
    path = labels_only / "t10k-labels-idx1-ubyte.0.xz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte.0.xz: cannot be read .*reinstall grfd"):
        load("mnist")


def test_describe_sees_one_changed_label(labels_only: Path) -> None:
    path = labels_only / "t10k-labels-idx1-ubyte.0.xz"
    content = bytearray(lzma.decompress(path.read_bytes()))
    content[8] ^= 1
    path.write_bytes(lzma.compress(content, preset=0))
    row = describe()[0]
    assert not row.checksum_right and row.problem.startswith("test labels: MD5")


def test_no_more_of_a_piece_is_unpacked_than_one_can_hold(labels_only: Path) -> None:
    path = labels_only / "t10k-labels-idx1-ubyte.0.xz"
    path.write_bytes(lzma.compress(bytes(mnist.LARGEST_PIECE + 1), preset=0))
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte.0.xz: cannot be read \(it is not a complete xz file"):
        load("mnist")
