"""CIFAR's archives: as they lie on a user's disk, packed, downloaded in pieces; and what is no CIFAR archive."""

import hashlib
import io
import os
import pickle
import runpy
import struct
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from grfd.data import cifar, describe, download, load
from grfd.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "unpack.py"


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 did, as the official files hold them."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def pickled(entries: dict) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump({key.encode(): value for key, value in entries.items()})
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def batch(count: int, seed: int, labels: str = "labels") -> dict:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    return {"data": pixels, labels: [index % 10 for index in range(count)], "filenames": [b"a.png"] * count}


BATCHES = {f"data_batch_{number}": batch(4, number) for number in range(1, 6)} | {"test_batch": batch(10, 9)}
NAMES = b"airplane automobile bird cat deer dog frog horse ship truck".split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "mine" / "cifar-10-batches-py"
    inside.mkdir(parents=True)
    for name, entries in BATCHES.items():
        (inside / name).write_bytes(pickled(entries))
    (inside / "batches.meta").write_bytes(pickled({"label_names": NAMES}))
    return inside.parent


def packed(folder: Path, out: Path) -> Path:
    with tarfile.open(out, "w:gz") as archive:
        archive.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    return out


def test_a_folder_is_read_as_it_lies(folder: Path) -> None:
    data = load("cifar10", folder)
    assert data.train.images.shape == (20, 3, 32, 32) and data.train.images.dtype == torch.uint8
    expected = BATCHES["data_batch_2"]["data"][1].reshape(3, 32, 32)
    assert np.array_equal(data.train.images[5].numpy(), expected)
    assert data.test.labels.tolist() == list(range(10)) and data.classes[9] == "truck"
    assert "20 training and 10 test images" in data.source and "holds 50,000 and 10,000" in data.source
    assert torch.equal(load("cifar10", folder / "cifar-10-batches-py").test.images, data.test.images)


def test_the_archive_itself_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    packed(folder, tmp_path / "packed" / "cifar-10-python.tar.gz")
    found = load("cifar10", tmp_path / "packed")
    assert torch.equal(found.train.images, load("cifar10", folder).train.images)


def test_a_hundred_classes_are_the_fine_ones(tmp_path: Path) -> None:
    inside = tmp_path / "cifar-100-python"
    inside.mkdir()
    for name in ("train", "test"):
        entries = batch(12, 1, "fine_labels") | {"coarse_labels": [0] * 12}
        (inside / name).write_bytes(pickled(entries))
    names = [f"class {index}".encode() for index in range(100)]
    (inside / "meta").write_bytes(pickled({"fine_label_names": names, "coarse_label_names": [b"one"]}))
    data = load("cifar100", tmp_path)
    assert len(data.classes) == 100 and data.train.labels.tolist()[:3] == [0, 1, 2]


class Harmful:
    def __reduce__(self) -> tuple:
        return (print, ("run",))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(pickle.dumps({"data": Harmful()}, 2)), r"refers to .*print"),
        (lambda file: file.write_bytes(file.read_bytes()[:200]), "cannot be read"),
        (lambda file: file.write_bytes(pickle.dumps([1], 2)), "holds a list"),
        (lambda file: file.unlink(), "data_batch_3 is not there"),
        (lambda file: file.write_bytes(pickled({"labels": [1]})), "holds no 'data'"),
        (lambda file: file.write_bytes(pickled({"data": np.zeros((2, 9), np.uint8), "labels": [0, 1]})), r"\(2, 9\)"),
        (lambda file: file.write_bytes(pickled(batch(3, 0) | {"labels": [1]})), "3 images but 1 labels"),
    ],
    ids=["harmful", "truncated", "list", "missing", "other keys", "other shape", "fewer labels"],
)
def test_damage_is_one_line(folder: Path, damage, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage(folder / "cifar-10-batches-py" / "data_batch_3")
    with pytest.raises(UserError, match=message):
        load("cifar10", folder)
    assert capsys.readouterr().out == ""


LABELS = {
    "None": ([0, None, 2], "label 1 is None"),
    "float": ([0, 1, 2.0], "label 2 is 2.0"),
    "NaN": ([float("nan"), 1, 2], "label 0 is nan"),
    "huge": ([0, 10**30, 2], f"label 1 is {10**30}"),
    "too huge to print": ([0, 10**5000, 2], "label 1 is an integer of 16610 bits"),
    "string": ([0, "1", 2], "label 1 is '1'"),
    "truth": ([0, True, 2], "label 1 is True"),
    "list": ([0, [1], 2], "label 1 is a list"),
    "negative": ([0, -1, 2], "label 1 is -1"),
    "eleventh class": ([0, 1, 10], "label 2 is 10; expected an integer from 0 to 9"),
    "array of floats": (np.array([0.0, 1, 2]), "label 0 is 0.0"),
    "matrix": (np.zeros((3, 1), int), r"labels are int64 \(3, 1\); expected a list"),
    "no list": (7, "labels are 7; expected a list"),
    "nothing": (None, "labels are None; expected a list"),
    "dictionary": ({0: 1, 1: 1, 2: 1}, "labels are a dict; expected a list"),
}


@pytest.mark.parametrize(("labels", "message"), LABELS.values(), ids=LABELS.keys())
def test_odd_labels_are_one_line_that_names_the_member(folder: Path, labels: object, message: str) -> None:
    member = folder / "cifar-10-batches-py" / "data_batch_3"
    member.write_bytes(pickled(batch(3, 0) | {"labels": labels}))
    with pytest.raises(UserError, match=f"^data_batch_3: {message}"):
        load("cifar10", folder)


def test_labels_may_be_an_array(folder: Path) -> None:
    member = folder / "cifar-10-batches-py" / "test_batch"
    member.write_bytes(pickled(batch(3, 0) | {"labels": np.array([3, 1, 2], dtype=">i2")}))
    assert load("cifar10", folder).test.labels.tolist() == [3, 1, 2]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "label_names are None"),
        (b"airplane", "label_names are b'airplane'"),
        ([1, 2], "label_names are a list"),
        (NAMES[:3], "3 label_names; expected 10"),
    ],
)
def test_odd_names_are_one_line(folder: Path, names: object, message: str) -> None:
    (folder / "cifar-10-batches-py" / "batches.meta").write_bytes(pickled({"label_names": names}))
    with pytest.raises(UserError, match=f"^batches.meta: {message}"):
        load("cifar10", folder)


def test_what_is_no_file_is_refused(folder: Path, tmp_path: Path) -> None:
    member = folder / "cifar-10-batches-py" / "test_batch"
    member.unlink()
    os.mkfifo(member)
    with pytest.raises(UserError, match="test_batch is a named pipe"):
        load("cifar10", folder)
    os.mkfifo(tmp_path / "cifar-100-python.tar.gz")
    with pytest.raises(UserError, match=r"cifar-100-python.tar.gz is a named pipe"):
        load("cifar100", tmp_path)
    with pytest.raises(UserError, match="cannot be opened: File name too long"):
        load("cifar10", tmp_path / ("n" * 300))


def test_half_an_archive_and_no_archive(folder: Path, tmp_path: Path) -> None:
    whole = packed(folder, tmp_path / "cifar-10-python.tar.gz")
    whole.write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(UserError, match="is not a complete archive"):
        load("cifar10", tmp_path)
    with pytest.raises(UserError, match=r"holds neither cifar-100-python/ nor cifar-100-python.tar.gz"):
        load("cifar100", folder)
    with pytest.raises(UserError, match="is not a folder"):
        load("cifar10", tmp_path / "nowhere")


class Server(ThreadingHTTPServer):
    """Serves one file from memory, knows ranges, and may break off."""

    content = b""
    break_at: int | None = None
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content, wanted = self.server.content, self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.break_at])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The official address, played by this machine; the cache is empty."""
    served = Server(("127.0.0.1", 0), Handler)
    served.content = packed(folder, tmp_path / "served.tar.gz").read_bytes()
    served.asked = []
    threading.Thread(target=served.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{served.server_address[1]}/cifar-10-python.tar.gz"
    digest = hashlib.md5(served.content).hexdigest()
    monkeypatch.setattr(cifar, "CIFAR10", replace(cifar.CIFAR10, url=url, md5=digest))
    monkeypatch.setattr(cifar, "cache", lambda: tmp_path / "cache")
    yield served
    served.shutdown()
    served.server_close()


def test_it_is_downloaded_once_and_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.break_at = 70_000
    with pytest.raises(UserError, match=r"cannot be downloaded .*: put it at .*10-python.tar.gz, or give --data-dir"):
        load("cifar10")
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["cifar-10-python.tar.gz.part"]
    server.break_at = None
    data = load("cifar10")
    load("cifar10")
    assert server.asked == [None, f"bytes={download.BYTES_AT_ONCE}-"] and len(data.train) == 20
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["cifar-10-python.tar.gz"]


def test_another_file_under_the_address_is_refused(server: Server, tmp_path: Path) -> None:
    server.content = server.content[:-1] + b"x"
    with pytest.raises(UserError, match="does not have the checksum"):
        load("cifar10")
    assert not list((tmp_path / "cache").iterdir())


def test_no_network_says_which_file_goes_where(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9/cifar-10-python.tar.gz"
    with pytest.raises(UserError, match=r"cannot be downloaded \(ConnectionError\): put it at"):
        download.downloaded(nobody, "0" * 32, tmp_path / "file.tar.gz")


@pytest.mark.skipif(not SHARED.exists(), reason="the tiles of CIFAR are not here")
def test_real_images_in_the_official_layout(tmp_path: Path) -> None:
    unpack = runpy.run_path(str(SHARED))
    rows = unpack["read"]("cifar100", "test")
    inside = tmp_path / "cifar-100-python"
    labels = [int(value) for value in rows["labels"]]
    for name in ("train", "test"):
        unpack["write"](inside / name, data=rows["data"], fine_labels=labels, coarse_labels=labels)
    unpack["write"](inside / "meta", fine_label_names=[b"%d" % index for index in range(100)])
    data = load("cifar100", tmp_path)
    assert len(data.test) == 10_000 and data.test.labels.bincount().tolist() == [100] * 100
    assert 0.4 < data.test.images.float().mean() / 255 < 0.55


def test_describe_says_what_is_not_here_yet_and_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "cache", lambda: tmp_path)
    absent = {row.name: row for row in describe()}
    assert not absent["cifar10"].there and absent["cifar100"].classes == 100 and absent["cifar10"].train == 50_000
    os.mkfifo(tmp_path / "cifar-100-python.tar.gz")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"half an archive")
    rows = {row.name: row for row in describe()}
    assert "is a named pipe" in rows["cifar100"].problem
    damaged = rows["cifar10"]
    assert damaged.there and damaged.train == 0 and "MD5" in damaged.problem and cifar.CIFAR10.md5 in damaged.problem
