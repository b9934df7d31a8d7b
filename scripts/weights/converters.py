"""From a package's files to a folder as the hub has it: the formats that need no reader of our own."""

import pickle
import shutil
from pathlib import Path

import timm
import torch
from timm.models import save_for_hf
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from common.errors import UserError
from common.hub import explained


def copy(files: dict[str, Path], folder: Path) -> None:
    """Files that are as the hub has them, each under its name there."""
    for name, file in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, folder / name)


def gguf(files: dict[str, Path], folder: Path) -> None:
    """A Llama of llama.cpp's format: transformers unpacks its blocks of four bits into float32."""
    (file,) = files.values()
    settings = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        import gguf as _  # noqa: F401 - transformers reads the format through it
    except ImportError as error:
        raise UserError('gguf is needed to read this model: pip install "gguf>=0.19"') from error
    with explained("model", str(file.parent)):
        packed = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **settings)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **settings)
    config = packed.config.to_dict()
    config.pop("quantization_config", None)  # of the file: what is saved has plain weights, and says so
    net = LlamaForCausalLM(LlamaConfig(**config))
    net.load_state_dict(packed.state_dict())
    for part in (net, tokenizer):
        part.save_pretrained(folder)


def efficientnet(files: dict[str, Path], folder: Path) -> None:
    """EfficientNet-Lite0 as timm has it: the same layers in the same order, under other names."""
    (file,) = files.values()
    try:
        theirs = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{file.name} is damaged, or holds more than tensors, which is refused") from error
    net = timm.create_model("tf_efficientnet_lite0.in1k")
    ours = net.state_dict()
    if [weight.shape for weight in theirs.values()] != [weight.shape for weight in ours.values()]:
        raise UserError(f"{file.name} has other layers than timm's tf_efficientnet_lite0")
    net.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    save_for_hf(net, str(folder), safe_serialization=True)
