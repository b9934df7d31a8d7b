"""The reader of ZeShEL's files."""

import json

import pytest

from common.data.linking import Entity, Mention
from common.data.readers.zeshel import CONTEXT, ZeShEL
from common.errors import UserError

DOCUMENTS = [
    {"title": "Kuriboh", "text": "Kuriboh is a small monster .", "document_id": "A1"},
    {"title": "Winged Kuriboh", "text": "Winged Kuriboh has wings", "document_id": "B2"},
    {
        "title": "Episode 3",
        "text": " ".join(["x"] * 200 + ["then", "Kuriboh", "wins"] + ["y"] * 200),
        "document_id": "C3",
    },
]


def mention(context: str, label: str, start: int, end: int, corpus: str = "yugioh", text: str = "Kuriboh") -> dict:
    return {
        "category": "LOW_OVERLAP",
        "text": text,
        "mention_id": f"{context}{start}",
        "context_document_id": context,
        "label_document_id": label,
        "start_index": start,
        "end_index": end,
        "corpus": corpus,
    }


def write(root, documents=DOCUMENTS, mentions=(), broken=""):
    (root / "documents").mkdir(parents=True)
    (root / "mentions").mkdir()
    (root / "documents/yugioh.json").write_text("".join(json.dumps(line) + "\n" for line in documents))
    for split in ("train", "val", "test"):
        elsewhere = [mention("Z", "Z", 0, 0, corpus="lego")]
        lines = [json.dumps(line) + "\n" for line in (mentions if split == "test" else elsewhere)]
        (root / f"mentions/{split}.json").write_text("".join(lines) + (broken if split == "test" else ""))
    return ZeShEL(str(root))


def test_a_world_and_its_mentions(tmp_path):
    mentions = [
        mention("C3", "A1", 201, 201),
        mention("A1", "B2", 0, 1, text="Kuriboh is"),
        mention("X", "X", 0, 0, corpus="lego"),
    ]
    found = write(tmp_path, mentions=mentions).domain("yugioh")
    assert found.entities[0] == Entity("Kuriboh", "Kuriboh is a small monster .") and len(found.entities) == 3
    first, second = found.mentions
    assert first.mention == "Kuriboh" and first.entity == 0
    assert first.left.split() == ["x"] * (CONTEXT - 1) + ["then"] and first.right.split() == ["wins"] + ["y"] * (
        CONTEXT - 1
    )
    assert second == Mention("", "Kuriboh is", "a small monster .", 1)


def test_a_few_broken_mentions_are_left_out(tmp_path, caplog):
    good = [mention("C3", "A1", 201, 201)] * 2000
    found = write(tmp_path, mentions=[*good, mention("C3", "nowhere", 201, 201), mention("A1", "A1", 5, 9)]).domain(
        "yugioh"
    )
    assert len(found.mentions) == 2000
    assert "test.json:2001, a mention of yugioh: 'nowhere'" in caplog.text and "words 5 to 10 of 6" in caplog.text


def test_words_are_what_stands_between_white_space(tmp_path):
    documents = [{"title": "Moon", "text": "A  red\tmoon\nover the\u00a0red  sea", "document_id": "M"}]
    mentions = [mention("M", "M", 1, 2, text="red moon"), mention("M", "M", 5, 6, text="red  sea")]
    first, second = write(tmp_path, documents, mentions).domain("yugioh").mentions
    assert (first.left, first.mention, first.right) == ("A", "red moon", "over the red sea")
    assert (second.left, second.mention, second.right) == ("A red moon over the", "red sea", "")


def test_a_mention_that_is_not_what_its_line_says_is_never_used(tmp_path, caplog):
    wrong = mention("A1", "B2", 1, 1)
    with pytest.raises(UserError, match="1 of 1 mentions of 'yugioh' do not fit"):
        write(tmp_path, mentions=[wrong]).domain("yugioh")
    assert "words 1 to 2 are 'is', not 'Kuriboh'" in caplog.text


@pytest.mark.parametrize("changed", [{"start_index": "0"}, {"end_index": None}, {"text": 5}, {"corpus": ["yugioh"]}])
def test_mistyped_fields_are_broken_lines(tmp_path, changed, caplog):
    with pytest.raises(UserError, match="test.json: 1 of 1 lines are broken"):
        write(tmp_path, mentions=[{**mention("A1", "B2", 0, 0), **changed}]).domain("yugioh")
    assert f"test.json, line 1: {next(iter(changed))}: Input should be a valid" in caplog.text


def test_a_document_id_that_stands_twice_is_an_error(tmp_path):
    twice = [*DOCUMENTS, {"title": "other", "text": "words", "document_id": "A1"}]
    with pytest.raises(UserError, match="yugioh.json:4: document_id A1 stands there twice"):
        write(tmp_path, twice, [mention("A1", "B2", 0, 0)]).domain("yugioh")


@pytest.mark.parametrize(
    ("settings", "world", "message"),
    [
        ({}, "yugiho", "yugiho.json is missing; worlds there: yugioh"),
        ({"mentions": [mention("C3", "nowhere", 0, 0)]}, "yugioh", "1 of 1 mentions of 'yugioh' do not fit"),
        ({"broken": "{"}, "yugioh", "test.json: 1 of 1 lines are broken"),
        ({"broken": "[1]\n"}, "yugioh", "test.json: 1 of 1 lines are broken"),
        ({"documents": [{"title": "no id", "text": ""}]}, "yugioh", "yugioh.json: 1 of 1 lines are broken"),
    ],
)
def test_errors_name_the_file_and_say_where_the_data_comes_from(tmp_path, settings, world, message):
    with pytest.raises(UserError, match=message) as caught:
        write(tmp_path, **settings).domain(world)
    assert "github.com/lajanugen/zeshel" in str(caught.value)


def test_the_whole_document_is_the_context_where_it_is_wanted(tmp_path):
    write(tmp_path, mentions=[mention("C3", "A1", 201, 201)])
    found = ZeShEL(str(tmp_path), context=None).domain("yugioh").mentions[0]
    assert found.left.split() == ["x"] * 200 + ["then"] and found.right.split()[0] == "wins"
    assert len(found.right.split()) > CONTEXT
    with pytest.raises(UserError, match="a context of -1 words"):
        ZeShEL(str(tmp_path), context=-1)
