"""Emo Pillars' pipeline: how answers become labels, the grammar as a language model, the steps, splits by plot."""

import json
from collections import Counter
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch

from common.data.tokenizers import build_wordpieces
from common.errors import UserError
from common.models.text_classifier import ClassifierConfig, build_classifier
from common.rehearsal.text_models import gpt2, mistral
from projects.emo_pillars import grammar, prompts
from projects.emo_pillars.grammar import BESIDE, EMOTIONS, FELT, GOLD, SITUATIONS, STORY, OnlineRemarks, StoryGrammar
from projects.emo_pillars.language import Grader, HubModel
from projects.emo_pillars.prompts import prompt
from projects.emo_pillars.records import (
    Comments,
    EmoPillars,
    HalfOfGoEmotions,
    StoryPlots,
    WikiPlots,
    Written,
    plot_split,
    read_jsonl,
)
from projects.emo_pillars.synthesize import Batches, Synthesis
from projects.emo_pillars.taxonomy import GOEMOTIONS, REMAP, mapped, parse_levels, targets
from projects.emo_pillars.vocabulary import Texts

LEVELS = [("joy", 0.9), ("love", 0.3), ("hope", 0.5), ("fear", 0.2), ("xyz", 0.8)]


def positives(levels, cut=0.3):
    return {name for name, label in zip(GOEMOTIONS, targets(levels, GOEMOTIONS, cut), strict=True) if label}


def test_levels_from_the_cut_on_are_labels_and_other_words_are_remapped_or_dropped():
    found = mapped(LEVELS, GOEMOTIONS)
    assert found == {"joy": 0.9, "love": 0.3, "optimism": 0.5, "fear": 0.2}
    assert positives(found) == {"joy", "love", "optimism"}  # 0.3 is kept
    assert positives(found, 0.1) == {"joy", "love", "optimism", "fear"}
    assert positives(mapped(LEVELS, GOEMOTIONS, {})) == {"joy", "love"}
    assert mapped([("hope", 0.5), ("optimism", 0.2)], GOEMOTIONS) == {"optimism": 0.5}
    assert targets({"joy": 0.7}, ("joy", "fear"), None) == (0.7, 0.0)
    steps = [round(k / 10, 1) for k in range(11)]
    assert [targets({"joy": x}, ("joy",))[0] for x in steps] == [0.0] * 3 + [1.0] * 8


def test_the_taxonomy_is_goemotions_and_words_are_remapped_into_it():
    assert len(set(GOEMOTIONS)) == 28 and "neutral" in GOEMOTIONS
    assert set(REMAP.values()) <= set(GOEMOTIONS) and not set(REMAP) & set(GOEMOTIONS)
    assert (REMAP["anxiety"], REMAP["indignation"], REMAP["hope"]) == ("nervousness", "anger", "optimism")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("1. Joy: 0.8\n2. fear (0.3)\n- Self-doubt - 0.4", [("joy", 0.8), ("fear", 0.3), ("self-doubt", 0.4)]),
        ("joy: 0.8, fear: 0.3 and none", [("joy", 0.8), ("fear", 0.3)]),
        ("Joy (expressiveness level: 0.8)\n**Grief**: .7", [("joy", 0.8), ("grief", 0.7)]),
        ("joy: 0.8/1.0\nfear: 0.3 (of 1)", [("joy", 0.8), ("fear", 0.3)]),
        ("Admiration - 0,6; pride: 1", [("admiration", 0.6), ("pride", 1.0)]),
        ("Here are the emotions:\njoy: 10\n\nno emotion", []),
        ("\n".join(f"emotion{'x' * k}: 0.5" for k in range(9)), [(f"emotion{'x' * k}", 0.5) for k in range(5)]),
    ],
)
def test_levels_are_read_from_what_language_models_write(answer, found):
    assert parse_levels(answer) == found


def test_lists_are_read_from_what_language_models_write():
    assert prompts.names('1. Anna - a baker\n2) "Ben"\n\n* The King: old\n- Anna (again)') == [
        "Anna",
        "Ben",
        "The King",
    ]
    answer = 'Sure!\n1. (Joy) "What a day!"\n2. fear: who is there?\nhope springs\n3. (hope) so be it\n4. (anger)'
    assert prompts.utterances(answer, GOEMOTIONS) == [
        ("joy", "What a day!"),
        ("fear", "who is there?"),
        ("hope", "so be it"),
    ]
    assert prompts.grounded("The Old King", "a king dies") and not prompts.grounded("The Narrator", "the king dies")


def test_a_prompt_can_be_taken_apart_again():
    text = prompt("context", plot="A story.\n\nIn two parts.", actor="Anna", utterance="Task: none", emotions="")
    found = prompts.sections_of(text)
    assert found == {"plot": "A story.\n\nIn two parts.", "actor": "Anna", "utterance": "Task: none", "task": "context"}


def test_the_world_needs_both_situation_and_character_and_shares_half_of_its_words():
    for kind in (1, 2):  # a timid and a bold character can feel anything
        assert {situation[kind] for situation in SITUATIONS} == set(FELT)
    assert sum(situation[1] != situation[2] for situation in SITUATIONS) > len(SITUATIONS) / 2
    words = Counter(word for cues in grammar.CUES.values() for word in cues.split())
    assert max(words.values()) == 1
    for emotion in FELT:
        assert len(set(STORY[emotion]) & set(GOLD[emotion])) == 3 and len(STORY[emotion]) == len(GOLD[emotion]) == 6
        assert BESIDE[BESIDE[emotion]] == emotion != BESIDE[emotion]
    assert not set(grammar.VAGUE) & set(words)


def test_the_vocabulary_has_every_word_of_both_registers_whole():
    tokenizer = build_wordpieces(Texts().texts(), 1000)
    llm, texts = StoryGrammar(), [example.text for example in OnlineRemarks(val=200).read("val")]
    for record in StoryPlots(20).read(9):
        actor = prompts.names(llm.answers([prompt("characters", plot=record["plot"])], 300)[0])[0]
        [said] = llm.answers([prompt("utterances", plot=record["plot"], actor=actor, emotions="")], 500)
        for emotion, text in prompts.utterances(said, EMOTIONS):
            asked = prompt("context", plot=record["plot"], actor=actor, utterance=text, emotions=emotion)
            texts += [text, *llm.answers([asked, prompt("rewrite", utterance=text, context="")], 300)]
    split = {piece for text in texts for piece in tokenizer.tokenize(text) if piece.startswith("##")}
    assert not split and tokenizer.unk_token not in {piece for text in texts for piece in tokenizer.tokenize(text)}


def test_contexts_and_rewritten_utterances_name_no_emotion():
    llm, told = StoryGrammar(), StoryPlots(1).read(3)[0]["plot"]
    [actor, *_] = prompts.names(llm.answers([prompt("characters", plot=told)], 300)[0])
    [said] = llm.answers([prompt("utterances", plot=told, actor=actor, emotions="")], 500)
    telling = {word for words in STORY.values() for word in words}
    for emotion, text in prompts.utterances(said, EMOTIONS):
        [context] = llm.answers([prompt("context", plot=told, actor=actor, utterance=text, emotions=emotion)], 300)
        [clean] = llm.answers([prompt("clean", context=context)], 300)
        [veiled] = llm.answers([prompt("rewrite", utterance=text, context=clean)], 300)
        assert not telling & set(clean.split()) and not telling & set(veiled.split())
        assert clean.startswith(f"{actor} is a ") and len(veiled.split()) == len(text.split())
        assert (emotion == "neutral") == (veiled == text)
    assert llm.answers([prompt("clean", context="x")] * 2, 9) == ["x", "x"]


def run(tmp_path: Path, step, source, llm=None, **data):
    model = Synthesis(step, llm or StoryGrammar(), list(EMOTIONS), (0.2, 0.2))
    model.run_dir = tmp_path / step
    model.run_dir.mkdir(exist_ok=True)
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.test(model, Batches(source, **data), verbose=False)
    return model.run_dir, {name: value.item() for name, value in trainer.callback_metrics.items()}


def test_the_four_steps_make_a_set_that_is_split_by_plot(tmp_path):
    folder, found = run(tmp_path, "characters", StoryPlots(30))
    assert found["test/actors"] == 4 and 0 < found["test/invented"] < 0.2
    folder, found = run(tmp_path, "utterances", Written(str(folder / "records.jsonl")))
    assert found["test/neutral_within"] > found["test/neutral_across"]
    said = Counter(record["actor"] + str(record["plot_id"]) for record in read_jsonl(folder / "records.jsonl"))
    assert set(said.values()) == {10}
    folder, found = run(tmp_path, "levels", Written(str(folder / "records.jsonl")))
    assert 0.05 < found["test/outside"] < 0.2 and 0 < found["test/unmapped"] < found["test/outside"]
    assert 1 < found["test/labels"] < 2 and (folder / "pictures/index.json").exists()
    folder, found = run(tmp_path, "contexts", Written(str(folder / "records.jsonl")), share=0.5)
    plots = {}
    for split in ("train", "val", "test"):
        records = list(read_jsonl(folder / "data" / {"val": "dev.jsonl"}.get(split, f"{split}.jsonl")))
        plots[split] = {record["plot_id"] for record in records}
        assert records and all(plot_split(record["plot_id"], (0.2, 0.2)) == split for record in records)
    assert sum(map(len, plots.values())) == len(set().union(*plots.values())) == 15
    source = EmoPillars(
        str(folder / "data"), list(EMOTIONS), [("context", "utterance"), ("clean_context", "rewritten")]
    )
    examples = source.read("train")
    assert len(examples) == 2 * len(EmoPillars(str(folder / "data"), list(EMOTIONS)).read("train"))
    assert examples[0].scores == examples[1].scores  # the rewritten one keeps the original's labels
    joined = EmoPillars(str(folder / "data"), list(EMOTIONS), [("context", "utterance")], joined=True).read("train")[0]
    assert joined.pair is None and joined.text == f"{examples[0].text} {examples[0].pair}"
    few = EmoPillars(str(folder / "data"), list(EMOTIONS), plots=0.2).read("train")
    assert 0 < len(few) < len(examples) / 4
    assert EmoPillars(str(folder / "data"), list(EMOTIONS), plots=0.2).read("test") == source.__class__(
        str(folder / "data"), list(EMOTIONS)
    ).read("test")


def test_what_was_answered_is_not_asked_again(tmp_path):
    class Counting(StoryGrammar):
        asked = 0

        def answers(self, texts, max_tokens):
            Counting.asked += len(texts)
            return super().answers(texts, max_tokens)

    folder, _ = run(tmp_path, "characters", StoryPlots(6), Counting(), batch_size=2)
    whole = (folder / "records.jsonl").read_bytes()
    part = folder / "part-0.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[: len(lines) // 2]) + lines[-1][:7])  # interrupted while it wrote
    answered = sum(b'"done"' in line for line in lines[: len(lines) // 2])
    part.rename(folder / "part-1.jsonl")  # another process's
    Counting.asked = 0
    run(tmp_path, "characters", StoryPlots(6), Counting(), batch_size=2)
    assert Counting.asked == 6 - answered < 6 and (folder / "records.jsonl").read_bytes() == whole


def test_a_step_on_the_wrong_records_says_so(tmp_path):
    (tmp_path / "records.jsonl").write_text('{"id": "1", "plot_id": 1, "plot": "x"}\n')
    with pytest.raises(UserError, match="has no 'utterance'"):
        run(tmp_path, "levels", Written(str(tmp_path / "records.jsonl")))
    (tmp_path / "records.jsonl").write_text('{"id": "1"\n')
    with pytest.raises(UserError, match="line 1, is no JSON object"):
        Written(str(tmp_path / "records.jsonl")).read(0)
    with pytest.raises(UserError, match="no absent.jsonl"):
        Written(str(tmp_path / "absent.jsonl")).read(0)


def test_a_model_of_the_hub_answers_greedily_and_one_that_does_not_chat_is_refused(tmp_path):
    mistral(tmp_path / "chat", layers=1, chat=True)
    llm = HubModel(str(tmp_path / "chat"))
    asked = [prompt("clean", context="It rains."), prompt("rewrite", utterance="Oh no, it rains again!", context="x")]
    both = llm.answers(asked, 6)
    assert len(both) == 2 and both == llm.answers(asked, 6)
    assert llm.answers(asked[1:], 6)[0] == both[1]  # padding at the left changes nothing
    gpt2(tmp_path / "plain", layers=1)
    with pytest.raises(UserError, match="no chat template"):
        HubModel(str(tmp_path / "plain"))


def test_a_classifier_grades_and_does_nothing_else(tmp_path):
    from safetensors.torch import save_model

    tokenizer = build_wordpieces(["so happy"], 300)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    config = ClassifierConfig(family="roberta", hidden=16, layers=1, heads=2)
    save_model(build_classifier(config, 28, len(tokenizer)), str(tmp_path / "w.safetensors"))
    llm = Grader(config, str(tmp_path / "w.safetensors"), str(tmp_path / "tokenizer"))
    found = parse_levels(llm.answers([prompt("levels", utterance="so happy")], 100)[0])
    assert len(found) == 5 and {name for name, _ in found} <= set(GOEMOTIONS)
    assert all(level == round(level, 1) for _, level in found)
    with pytest.raises(UserError, match="cannot do 'rewrite'"):
        llm.answers([prompt("rewrite", utterance="so happy")], 100)


def test_the_two_halves_of_goemotions_share_no_comment(tmp_path):
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in GOEMOTIONS))
    rows = "".join(f"comment {k % 7}\t{k % 28},27\tid{k}\n" for k in range(20))
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.tsv").write_text(rows)
    halves = [HalfOfGoEmotions(str(tmp_path), second).read("train") for second in (False, True)]
    first, second = ({example.text for example in half} for half in halves)
    assert not first & second and sum(map(len, halves)) == 20
    records = Comments(str(tmp_path)).read(0)
    assert {record["utterance"] for record in records if record["split"] == "train"} == second
    assert not any("all_emotions" in record or "scores" in record for record in records)
    assert len({record["id"] for record in records}) == len(records)


def test_wikiplots_are_read_as_they_are_released(tmp_path):
    (tmp_path / "plots").write_text("A king dies.\nHis son mourns.\n<EOS>\nA ship sinks.\n<EOS>\n")
    assert [record["plot"] for record in WikiPlots(str(tmp_path), 2).read(0)] == [
        "A king dies. His son mourns.",
        "A ship sinks.",
    ]
    with pytest.raises(UserError, match="holds 2 plots, 3 are asked for"):
        WikiPlots(str(tmp_path), 3).read(0)
    with pytest.raises(UserError, match="no plots in"):
        WikiPlots(str(tmp_path / "absent")).read(0)


def test_released_records_are_read_with_their_authors_mapping_or_without(tmp_path):
    record = {"utterance": "so", "plot_id": 1, "all_emotions": [["hope", "0.5"], ["Joy", 0.2]]}
    record["all_emotions_mapped"] = [["optimism", 0.5]]
    (tmp_path / "train.jsonl").write_text(json.dumps(record) + "\n" + json.dumps(record | {"utterance": ""}) + "\n")
    [example] = EmoPillars(str(tmp_path)).read("train")
    assert example.label == GOEMOTIONS.index("optimism") and sum(example.scores) == 1
    with pytest.raises(UserError, match="no example with utterance"):  # no label is left: it is dropped
        EmoPillars(str(tmp_path), remap=False).read("train")
    with pytest.raises(UserError, match="no example with situation and utterance.*its fields are utterance, plot_id"):
        EmoPillars(str(tmp_path), parts=[("situation", "utterance")]).read("train")
    (tmp_path / "dev.jsonl").write_text('{"utterance": "so", "all_emotions": ["joy"]}\n')
    with pytest.raises(UserError, match="no pairs of an emotion and its level"):
        EmoPillars(str(tmp_path)).read("val")
    (tmp_path / "dev.jsonl").write_text('{"utterance": "so", "all_emotions": [["joy", 7]]}\n')
    with pytest.raises(UserError, match="its level from 0 to 1"):
        EmoPillars(str(tmp_path)).read("val")
    (tmp_path / "dev.jsonl").write_text('{"utterance": ["so"], "all_emotions": [["joy", 0.7]]}\n')
    with pytest.raises(UserError, match="no text"):
        EmoPillars(str(tmp_path)).read("val")
    with pytest.raises(UserError, match="a share is above 0"):
        EmoPillars(str(tmp_path), plots=0)
    (tmp_path / "train.jsonl").write_text('{"utterance": "so", "all_emotions": [["joy", 0.7]]}\n')
    assert len(EmoPillars(str(tmp_path)).read("train")) == 1
    with pytest.raises(UserError, match="without plot_id.*its fields are utterance, all_emotions"):
        EmoPillars(str(tmp_path), plots=0.1).read("train")


def test_remarks_are_the_same_every_time_and_in_one_split():
    source = OnlineRemarks(train=200, val=200, test=300)
    assert source.read("train") == OnlineRemarks(train=400).read("train")[:200]
    texts = {split: Counter(example.text for example in source.read(split)) for split in ("train", "val", "test")}
    leaked = sum(count for text, count in texts["test"].items() if text in texts["train"])
    assert leaked < 0.15 * 300  # short remarks recur by chance
    labels = torch.tensor([example.scores for example in source.read("test")])
    assert labels.sum(1).ge(1).all() and 1.15 < labels.sum(1).mean() < 1.4
