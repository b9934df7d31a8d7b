"""LLMLingua-2: which compressors are compared, and the stages each of them consists of."""

from typing import Any

from common.recipe import Arm, Download, Recipe, Scale, Stage

MODULE = "projects.llmlingua2"
RELEASED = "microsoft/llmlingua-2-{}-meetingbank"
LLAMA = "NousResearch/Llama-2-7b-hf"
TEACHER = "Qwen/Qwen2.5-7B-Instruct"


def arms(scale: Scale) -> dict[str, Arm]:
    """A world of meetings at mini scale, MeetingBank otherwise."""
    return meetings() if scale == "mini" else meeting_bank()


def judged(method: str, words: str, base: dict[str, Any] | None = None, **settings: Any) -> Arm:
    """A compressor, and what readers find in what it leaves."""
    given = {"model.method": method, **(base or {}), **{f"model.{name}": value for name, value in settings.items()}}
    stage = Stage("evaluate", f"{MODULE}.evaluate", given, "test")
    return Arm([stage], words, method=words.startswith("LLMLingua-2:"))


def meetings() -> dict[str, Arm]:
    """Pretrained models are foundations: they have read both grammars, labels are of one."""
    bert = Stage("meeting_bert", "common.foundations.masked_lm", shared=True).output("model")
    gpt = Stage("meeting_gpt2", "common.foundations.causal_lm", shared=True).output("model")
    reader = Stage("reader", f"{MODULE}.readers", {"model.encoder": bert}, shared=True).output("model")
    read = {"model.readers.bert.init_args.folder": reader}

    def trained(encoder: Any = bert, **data: Any) -> dict[str, Any]:
        given = {"model.encoder": encoder, "data.tokenizer": encoder}
        given |= {f"data.{name}": value for name, value in data.items()}
        return {"compressor": Stage("train", f"{MODULE}.train", given).output("model")}

    return {
        "llmlingua2": judged("llmlingua2", "LLMLingua-2: a bidirectional token classifier", read, **trained()),
        "causal_classifier": judged("llmlingua2", "the same labels, learnt by a causal model", read, **trained(gpt)),
        "selective_context": judged("selective_context", "words with the most self-information", read, compressor=gpt),
        "llmlingua": judged("llmlingua", "tokens with the highest perplexity, a text at once", read, compressor=gpt),
        "llmlingua_budget": judged(
            "llmlingua", "a choice of sentences, then tokens in segments of 40", read,
            compressor=gpt, sentences=True, segment=40,
        ),
        "random": judged("random", "any words: the floor", read),
        "teacher": judged("teacher", "what a teacher without flaws leaves, at every rate: the ceiling", read),
        "full": judged("full", "the whole text", read),
        "no_filter": judged("llmlingua2", "without quality control", read, **trained(percentile=None)),
        "narrow_window": judged("llmlingua2", "labels found by a window of 3 words", read, **trained(window=3)),
    }  # fmt: skip


def meeting_bank() -> dict[str, Arm]:
    """XLM-R and multilingual BERT on GPT-4's compressions; and on those of an open teacher."""
    released, small = (RELEASED.format(name) for name in ("xlm-roberta-large", "bert-base-multilingual-cased"))
    asked = Stage("distill", f"{MODULE}.distill", {"model.teacher": TEACHER}, "test", shared=True)

    def trained(name: str, **data: Any) -> dict[str, Any]:
        given = {f"data.{key}": value for key, value in data.items()}
        return {"compressor": Stage(name, f"{MODULE}.train", given, base="training").output("model")}

    own = {"source.class_path": f"{MODULE}.data.CompressedFile", "source.init_args.file": asked.output("pairs.jsonl")}
    return {
        "llmlingua2": judged("llmlingua2", "LLMLingua-2: XLM-RoBERTa large", **trained("train")),
        "llmlingua2_small": judged("llmlingua2", "multilingual BERT", **trained("train_small")),
        "released": judged("llmlingua2", "the authors' XLM-RoBERTa, as it is", compressor=released),
        "released_small": judged("llmlingua2", "the authors' multilingual BERT, as it is", compressor=small),
        "open_teacher": judged("llmlingua2", "Qwen2.5-7B-Instruct as the teacher", **trained("train", **own)),
        "selective_context": judged("selective_context", "self-information of LLaMA-2-7B", compressor=LLAMA),
        "llmlingua": judged("llmlingua", "perplexity of LLaMA-2-7B, in segments", compressor=LLAMA),
        "random": judged("random", "any words: the floor"),
        "full": judged("full", "the whole transcript"),
    }  # fmt: skip


RECIPE = Recipe(
    title="LLMLingua-2: Data Distillation for Efficient and Faithful Task-Agnostic Prompt Compression",
    modality="prompt compression",
    arms=arms,
    downloads=(
        Download(
            name="MeetingBank with GPT-4's compressions",
            path="$DATA_ROOT/meetingbank_compressed",
            source="huggingface.co/datasets/microsoft/MeetingBank-LLMCompressed",
            gigabytes=0.14,
            licence="CC BY-NC-SA 4.0",
            layout="data/train-*.parquet with columns prompt_list, compressed_prompt_list",
        ),
        Download(
            name="MeetingBank's test transcripts with questions",
            path="$DATA_ROOT/meetingbank_qa",
            source="huggingface.co/datasets/microsoft/MeetingBank-QA-Summary",
            gigabytes=0.02,
            licence="CC BY-NC-SA 4.0",
            layout="data/test-*.parquet with columns prompt, QA_pairs (a list of question, answer)",
        ),
    ),
    disk=60,
    stand_ins=f"{MODULE}.harness.rehearsal:make",
    gpu="a100-80g",
    plan=f"{MODULE}.harness.plan:workload",
    speed=f"{MODULE}.harness.speed:speed",
)
