"""Stand-ins for what the paper's configs read: made-up images as ImageNet's and BLIP3-o's, random weights."""

from pathlib import Path

import torch

from common.models.classifiers import convnext, vgg16
from common.rehearsal.datasets import make_image_folder, make_sentences, make_webdataset, write_jsonl
from common.rehearsal.hub import write_hub
from common.rehearsal.metric_models import write_inception

HUB = ("google/siglip2-so400m-patch16-256", "OpenGVLab/InternVL3-8B-hf", "Qwen/Qwen3-0.6B")
SYNSETS = ("n01440764", "n01443537", "n01484850")


def make(folder: Path) -> None:
    """Write `data/`, `weights/` and `hub/` into `folder`; the nets' sizes are those of `configs/rehearsal/*.yaml`."""
    data = folder / "data"
    for split, images in (("train", 14), ("val", 2)):
        make_image_folder(data / "imagenet" / split, SYNSETS, images)
        for file in (data / "imagenet" / split).glob("*/*.jpg"):
            file.rename(file.with_suffix(".JPEG"))
    names = ("tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark, white shark")
    lines = [f"{synset} {name}\n" for synset, name in zip(SYNSETS, names, strict=True)]
    (data / "imagenet/LOC_synset_mapping.txt").write_text("".join(lines), encoding="utf-8")
    for tar in range(3):
        make_webdataset(data / f"blip3o/{tar:05d}.tar", samples=6, first=6 * tar)
    (data / "geneval").mkdir()
    write_jsonl(data / "geneval/evaluation_metadata.jsonl", [{"tag": "single_object", "prompt": "a photo of a bench"}])
    (data / "dpg_bench/prompts").mkdir(parents=True)
    (data / "dpg_bench/prompts/0.txt").write_text(make_sentences(1)[0], encoding="utf-8")
    write_weights(folder / "weights")
    write_hub(folder / "hub", HUB, layers=2)


def write_weights(folder: Path) -> None:
    """Files in torchvision's and torch-fidelity's layouts."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(vgg16(4).state_dict(), folder / "vgg16-397923af.pth")
    torch.save(convnext((8, 8, 16, 16), (1, 1, 1, 1)).state_dict(), folder / "convnext_small-0c510722.pth")
    write_inception(folder / "pt_inception-2015-12-05-6726825d.pth")
