"""Captioned images in parquet: every row in its place, few row groups in memory, errors that say what is wrong."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.data.images import Pictures
from common.data.readers import captioned_parquet
from common.data.readers.captioned_parquet import CaptionedParquet
from common.data.scene import UnreadableSample
from common.data.stream import shuffled
from common.errors import UserError
from common.rehearsal.datasets import make_captioned_parquet, make_sentences
from tests.fuzz.formats import picture


def write(path: Path, rows: list[dict[str, object]], groups: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=groups)


def row(number: int, **changes: object) -> dict[str, object]:
    return {"image": {"bytes": picture(number), "path": None}, "caption": f"number {number}", **changes}


def test_rows_of_all_files_in_order(tmp_path):
    write(tmp_path / "data/train-00001.parquet", [row(k) for k in range(5, 9)], groups=3)
    write(tmp_path / "data/train-00000.parquet", [row(k) for k in range(5)], groups=2)
    write(tmp_path / ".cache/left.parquet", [row(0)])
    source = CaptionedParquet(str(tmp_path))
    assert source.blocks == (2, 2, 1, 3, 1) and len(source) == 9
    assert [source[k].caption for k in range(9)] == [f"number {k}" for k in range(9)]
    assert len({source[k].name for k in range(9)}) == 9
    assert [abs(int(source[k].image[..., 0].mean()) - 40 * k % 256) < 4 for k in range(7)] == [True] * 7
    assert len(CaptionedParquet(str(tmp_path), first=1)) == 4
    assert [len(CaptionedParquet(str(tmp_path), last=1)), CaptionedParquet(str(tmp_path), 1, 2)[0].caption] == [
        5,
        "number 5",
    ]


def test_what_the_hub_s_own_library_writes(tmp_path):
    make_captioned_parquet(tmp_path / "a.parquet", samples=3, first=4)
    source = CaptionedParquet(str(tmp_path))
    assert [source[k].caption for k in range(3)] == make_sentences(3, 4)
    assert source[2].image.shape == (96, 144, 3)


def test_images_may_be_plain_bytes_under_other_names(tmp_path):
    write(tmp_path / "a.parquet", [{"jpg": picture(k), "text": f"number {k}"} for k in range(2)])
    assert CaptionedParquet(str(tmp_path), image="jpg", caption="text")[1].caption == "number 1"


def test_a_training_epoch_reads_every_row_group_once_and_keeps_a_few(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", [row(k) for k in range(60)], groups=1)
    source = CaptionedParquet(str(tmp_path))
    reads = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, n, **kw: reads.append(n) or original(self, n, **kw)
    )
    samples = Pictures(source, 8)
    for index in shuffled(len(samples), samples.blocks, np.random.default_rng(0)):
        samples.draw(int(index), np.random.default_rng(0))
        assert len(source._kept) <= captioned_parquet.KEPT
    assert sorted(reads) == list(range(60))
    assert not pickle.loads(pickle.dumps(source))._kept  # a loader's process begins with an empty memory


@pytest.mark.parametrize("changes", [{"caption": None}, {"caption": " "}, {"image": {"bytes": None, "path": "a.jpg"}}])
def test_a_row_that_lacks_something_is_unreadable_and_no_more(tmp_path, changes):
    write(tmp_path / "a.parquet", [row(0), row(1, **changes)])
    source = CaptionedParquet(str(tmp_path))
    assert source[0].caption == "number 0"
    with pytest.raises(UnreadableSample, match=r"a\.parquet:0:1"):
        source[1]


def test_errors_say_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="no folder of parquet files"):
        CaptionedParquet(str(tmp_path / "none"))
    with pytest.raises(UserError, match="no parquet files in"):
        CaptionedParquet(str(tmp_path))
    write(tmp_path / "a.parquet", [row(0)])
    with pytest.raises(UserError, match="no files 3 to None among the 1"):
        CaptionedParquet(str(tmp_path), first=3)
    with pytest.raises(UserError, match="no column 'text', only image, caption"):
        CaptionedParquet(str(tmp_path), caption="text")
    write(tmp_path / "a.parquet", [{"image": "a.jpg", "caption": "a"}])
    with pytest.raises(UserError, match="no column 'image' of encoded images"):
        CaptionedParquet(str(tmp_path))
    write(tmp_path / "a.parquet", [row(0)])
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(UserError, match=r"cannot read .*b\.parquet as parquet"):
        CaptionedParquet.check(str(tmp_path))
    with pytest.raises(UserError, match="no files 7"):
        CaptionedParquet.check(str(tmp_path), first=7)
