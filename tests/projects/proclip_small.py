"""A tiny CLIP, a tiny BERT and their embeddings, for the tests of ProCLIP."""

from pathlib import Path

import lightning.pytorch as L
import torch
import transformers
import yaml
from safetensors.torch import save_model

from common.data.words import word_tokenizer
from common.data.worlds.tile_words import vocabulary
from common.data.worlds.tiles import TileScenes
from common.foundations.clip import CONTEXT
from common.foundations.masked_lm import build_tokenizer
from common.models.clip import ClipSizes, build_clip
from projects.proclip.data import PairData, TileCaptions
from projects.proclip.embed import Embedding, TextData
from projects.proclip.embedder import Reading
from projects.proclip.sets import Both, Labelled, MeasuredData, Measures
from projects.proclip.tune import Tuning

SEEN = ("red disc", "blue bar")
KINDS = [*SEEN, "green ring", "white dome"]
PAIRS = TileCaptions(TileScenes("train", 24, kinds=["red disc", "blue bar", "green ring"]))


def measures(split="test"):
    labelled = Labelled(
        TileScenes(split, 30, objects=(1, 1), words="kind", kinds=KINDS), ("a {}", "there is a {}"), SEEN
    )
    captioned = {"pairs": TileCaptions(TileScenes(split, 20, objects=(2, 2)), ("long",))}
    captioned |= {f"more/{part}": TileCaptions(TileScenes(split, 8, objects=(2, 2), seed=k), ("short", "long"))
                  for k, part in enumerate("ab")}  # fmt: skip
    return Measures({"kinds": labelled}, captioned)


def trainer(steps=3, **settings):
    return L.Trainer(
        max_steps=steps, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, inference_mode=False, **settings,
    )  # fmt: skip


def embed(folder: Path, source, bert: Path, **settings) -> str:
    stage = Embedding(Reading(str(bert)), "float32", **settings)
    stage.run_dir = folder
    folder.mkdir(parents=True, exist_ok=True)
    trainer().predict(stage, TextData(source, 16), return_predictions=False)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"embedder": {"source": str(bert)}}}))
    return str(folder / "embeddings")


def write_all(root: Path) -> dict[str, str]:
    """Folders of CLIP, BERT and embeddings, and a run folder of stage 2."""
    torch.manual_seed(0)
    sizes = ClipSizes(width=16, layers=1, text_width=16, text_layers=1, dim=12, head=8)
    build_clip(sizes, word_tokenizer(vocabulary(), length=CONTEXT, ends=True)).save_pretrained(root / "clip")
    words = build_tokenizer("bert", vocabulary(), 300)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    transformers.BertForPreTraining(config).save_pretrained(root / "bert")
    words.save_pretrained(root / "bert")
    places = {name: str(root / name) for name in ("clip", "bert")}
    places["pairs"] = embed(root / "pairs", PAIRS, root / "bert")
    places["tests"] = embed(root / "tests", Both(measures(), measures("val")), root / "bert", named=True)
    run = root / "tuned"
    run.mkdir()
    stage = Tuning(places["clip"], 16, warmup_steps=1)
    trainer().fit(stage, PairData(PAIRS, places["pairs"], 16, (2,), 8))
    save_model(stage.exported(), str(run / "weights.safetensors"))
    settings = {"model": {"clip": places["clip"]}, "data": {"embeddings": places["pairs"]}}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    return places | {"run": str(run)}


def measured(stage, folder: Path, val=True):
    """Metrics of an evaluation."""
    stage.run_dir = folder
    data = MeasuredData(measures(), 16, measures("val") if val else None)
    [*_] = (runner := trainer()).test(stage, data, verbose=False)
    return {name.removeprefix("test/"): value.item() for name, value in runner.callback_metrics.items()}
