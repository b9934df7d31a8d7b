"""DeGLA's commands and the rules of negatives: what they make of captions and pictures, and of bad input."""

import json
import random
import re

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from common.data.words import word_tokenizer
from common.data.worlds.tile_words import vocabulary
from common.models.clip import ClipSizes, build_clip
from common.rehearsal.text_models import gpt2
from projects.degla.negatives import ADJECTIVES, NOUNS, TASKS, answered, by_rules, prompt, replaced, swapped
from projects.degla.tools import negatives, score

CAPTIONS = ["A red car and a blue bus on the street.", "An old woman with two dogs", "a man eats an orange", "hello"]


def words(text):
    return sorted(re.findall(r"\w+", text.lower()))


def test_rules_make_one_negative_of_each_kind():
    nouns, adjectives, noun, adjective, order = by_rules(CAPTIONS[0], 5)

    assert words(nouns) == words(adjectives) == words(order) == words(CAPTIONS[0])
    assert adjectives == "A blue car and a red bus on the street."
    for made in (noun, adjective):
        assert sum(a != b for a, b in zip(made.split(), CAPTIONS[0].split(), strict=True)) == 1
    assert len({nouns, adjectives, noun, adjective, order, CAPTIONS[0]}) == 6
    assert by_rules(CAPTIONS[0], 5) == by_rules(CAPTIONS[0], 5) != by_rules(CAPTIONS[0], 5, seed=1)


def test_rules_keep_plurals_and_articles():
    for seed in range(20):
        for made in by_rules("an apple and two dogs", 4, seed):
            if not made.startswith(("and", "two", "dogs", "apple")) and words(made) != words("an apple and two dogs"):
                assert re.search(r"\b(an? )", made)
                assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", made), made
    assert by_rules("hello", 4) == [] and by_rules("", 4) == []
    assert set(by_rules("left right", 4)) == {"right left"}


@pytest.mark.parametrize(
    ("caption", "true"),
    [
        ("a large dog", "a big dog"),
        ("a man on a sofa", "a man on a couch"),
        ("a dog and a cat", "a cat and a dog"),
        ("a large brown horse", "a brown large horse"),
        ("a red and white bus", "a white and red bus"),
        ("a dog next to a bench", "a bench next to a dog"),
    ],
)
def test_rules_do_not_say_the_same_in_other_words(caption, true):
    made = {replaced(caption, words, random.Random(seed)) for seed in range(60) for words in (NOUNS, ADJECTIVES)}
    made |= {swapped(caption, words, random.Random(seed)) for seed in range(60) for words in (NOUNS, ADJECTIVES)}
    assert true not in made and len(made - {None}) >= 1


def test_answers_of_a_model_are_taken_where_they_are_negatives():
    assert answered(" a cat chases a dog\nmore", "nouns swapped", "a dog chases a cat") == "a cat chases a dog"
    assert answered('"a dog chases a cow"', "noun replaced", "a dog chases a cat") == "a dog chases a cow"
    assert answered("a dog sees a cow", "reshuffled", "a dog chases a cat") is None  # other words
    assert answered("A dog chases a cat.", "noun replaced", "a dog chases a cat") is None
    assert answered("  \n", "noun replaced", "a dog") is None
    assert all("a dog" in prompt(kind, "a dog") for kind in TASKS)


def test_any_causal_model_rewrites(tmp_path, capsys):
    gpt2(tmp_path / "model", layers=1)
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS[:2]))
    out = tmp_path / "out.json"
    assert negatives.main([str(tmp_path / "captions.txt"), "--model", str(tmp_path / "model"), "--out", str(out)]) == 0
    assert [len(entry["enhanced"]) for entry in json.loads(out.read_text())] == [4, 4]


def test_negatives_of_own_captions_are_what_finetuning_reads(tmp_path, capsys):
    (tmp_path / "captions.tsv").write_bytes("\ufeffa.jpg\tA red car and a blue bus.\r\n\r\nb.jpg\thello\r\n".encode())
    out = tmp_path / "negatives.json"
    assert negatives.main([str(tmp_path / "captions.tsv"), "--out", str(out)]) == 0
    [entry] = json.loads(out.read_text())
    assert entry["image"] == "a.jpg" and entry["original"] == "A red car and a blue bus."
    said = capsys.readouterr()
    assert "1 captions with 4 negatives" in said.out and "1 captions are left out" in said.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nowhere.txt", "--out", "x.json"], "no such file"),
        (["captions.txt", "--out", "nowhere/x.json"], "folder that is there"),
        (["captions.txt", "--out", "x.json", "--count", "0"], "at least one"),
        (["captions.txt", "--out", "x.json", "--count", "90"], "lower --count"),
    ],
)
def test_negatives_refuses(given, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captions.txt").write_text("a red car")
    assert negatives.main(given) == 2 and said in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tiny CLIP, captions, and two pictures of which one has an odd name."""
    torch.manual_seed(0)
    sizes = ClipSizes(width=16, layers=1, text_width=16, text_layers=1, dim=16, head=8)
    clip = build_clip(sizes, word_tokenizer(vocabulary(), length=32, ends=True))
    clip.save_pretrained(tmp_path / "clip")
    save_file({f"module.{k}": v for k, v in clip.net.state_dict().items()}, tmp_path / "finetuned.safetensors")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (30, 20), "red").save(tmp_path / "photos/a b.png")
    Image.new("L", (20, 30), 200).save(tmp_path / "photos/c.jpg")
    (tmp_path / "captions.txt").write_text("a red disc\n\na blue bar\na red disc\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_score_orders_captions_and_writes_a_table(folder, capsys):
    given = ["photos", "--captions", "captions.txt", "--clip", "clip", "--device", "cpu", "--csv", "out.csv"]
    assert score.main([*given, "--weights", "finetuned.safetensors", "--template", "there is {}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("a b.png") and lines[3].endswith("c.jpg") and len(lines) == 6
    assert sum(float(line.split()[0]) for line in lines[1:3]) == pytest.approx(100, abs=0.2)
    assert float(lines[1].split()[0]) >= float(lines[2].split()[0])
    assert len((folder / "out.csv").read_text().splitlines()) == 5


def test_score_goes_on_behind_a_picture_that_is_none(folder, capsys):
    (folder / "photos/b.png").write_bytes(b"no picture")
    given = ["photos", "--captions", "captions.txt", "--clip", "clip", "--device", "cpu", "--top", "1"]
    assert score.main(given) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 4 and "b.png" in said.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["photos", "--caption", "a disc"], "give two or more"),
        (["photos", "--captions", "nowhere.txt"], "no such file"),
        (["nowhere.jpg", "--captions", "captions.txt"], "no such picture"),
        (["clip", "--captions", "captions.txt"], "no pictures in clip"),
        (["photos", "--captions", "captions.txt", "--template", "a photo"], "has to stand"),
        (["photos", "--captions", "captions.txt", "--top", "0"], "at least one"),
        (["photos", "--captions", "captions.txt", "--run", "photos"], "no run folder"),
        (["photos", "--captions", "captions.txt", "--clip", "photos"], "is no CLIP"),
        (["captions.txt", "--captions", "captions.txt", "--clip", "clip", "--device", "cpu"], "none of the pictures"),
    ],
)
def test_score_refuses(folder, given, said, capsys):
    assert score.main(given) == 2 and said in capsys.readouterr().err
