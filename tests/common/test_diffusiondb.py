"""DiffusionDB's parts, zipped or unpacked: every picture with its prompt, errors that say what is wrong."""

import json
import pickle
import zipfile

import pytest

from common.data.readers.diffusiondb import DiffusionDB, write_diffusiondb
from common.data.scene import UnreadableSample
from common.errors import UserError
from tests.fuzz.formats import picture


def part(folder, number, count=3, first=0):
    pictures = {f"{number}-{k}.png": (picture(first + k), f" prompt {number} {k} ") for k in range(count)}
    write_diffusiondb(folder / f"part-{number:06d}.zip", pictures)


def test_pictures_of_all_parts_in_order_with_their_prompts(tmp_path):
    part(tmp_path / "images", 2)
    part(tmp_path / "images", 1, 2)
    source = DiffusionDB(str(tmp_path))
    said = ["prompt 1 0", "prompt 1 1", "prompt 2 0", "prompt 2 1", "prompt 2 2"]
    assert [source[k].caption for k in range(len(source))] == said
    assert source[0].image.ndim == 3 and len({source[k].name for k in range(5)}) == 5
    assert len(DiffusionDB(str(tmp_path), 1)) == 3 and DiffusionDB(str(tmp_path), 0, 1)[1].caption == "prompt 1 1"
    assert pickle.loads(pickle.dumps(source))[3].caption == said[3]
    DiffusionDB.check(str(tmp_path))


def test_an_unpacked_part_is_the_same_and_counts_once(tmp_path):
    part(tmp_path, 1)
    packed = [DiffusionDB(str(tmp_path))[k] for k in range(3)]
    with zipfile.ZipFile(tmp_path / "part-000001.zip") as archive:
        archive.extractall(tmp_path / "part-000001")
    both = DiffusionDB(str(tmp_path))
    assert len(both) == 3 and both.parts[0].is_dir()
    for found, expected in zip((both[k] for k in range(3)), packed, strict=True):
        assert found.caption == expected.caption and (found.image == expected.image).all()


def test_pictures_without_a_prompt_are_left_out_and_damaged_ones_are_named(tmp_path):
    pictures = {"a.png": (picture(0), "  "), "b.png": (picture(1)[:40], "torn"), "c.png": (picture(2), "whole")}
    write_diffusiondb(tmp_path / "part-000001.zip", pictures)
    source = DiffusionDB(str(tmp_path))
    assert len(source) == 2 and source[1].caption == "whole"
    with pytest.raises(UnreadableSample, match="part-000001.zip:b.png"):
        source[0]


def rewritten(folder, entries):
    with zipfile.ZipFile(folder / "part-000001.zip", "w") as archive:
        archive.writestr("part-000001.json", entries)


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        DiffusionDB(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no part-"):
        DiffusionDB(str(tmp_path))
    part(tmp_path, 1)
    with pytest.raises(UserError, match="no parts 3 to 4 among the 1"):
        DiffusionDB(str(tmp_path), 3, 4)
    content = (tmp_path / "part-000001.zip").read_bytes()
    for torn in (content[: len(content) // 2], b"", b"no zip at all"):
        (tmp_path / "part-000001.zip").write_bytes(torn)
        with pytest.raises(UserError, match="download that part again"):
            DiffusionDB(str(tmp_path))
    for entries in ("[]", "{}", '{"a.png": {}}', '{"a.png": {"p": 3}}', "{", json.dumps({"a.png": "prompt"})):
        rewritten(tmp_path, entries)
        with pytest.raises(UserError, match="damaged|again"):
            DiffusionDB(str(tmp_path))
    rewritten(tmp_path, '{"a.png": {"p": " "}}')
    with pytest.raises(UserError, match="has a prompt"):
        DiffusionDB(str(tmp_path))
    rewritten(tmp_path, '{"../../a.png": {"p": "there"}}')
    with pytest.raises(UnreadableSample):
        DiffusionDB(str(tmp_path))[0]
