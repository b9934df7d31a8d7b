"""The authors' weights: read into our networks under whatever names they come, and judged as they are."""

import json

import pytest
import torch
from safetensors.torch import save_file, save_model

from common.errors import UserError
from projects.vlv.harness.rehearsal import official_state
from projects.vlv.model import Captioner, build_captioner, build_encoder
from projects.vlv.released import CAPTIONER, load_captioner, load_encoder, our_name
from tests.projects.vlv_small import QUERIES, florence, images, write_foundations


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, str]:
    return write_foundations(tmp_path_factory.mktemp("foundations"))


def build(models, seed: int) -> Captioner:
    torch.manual_seed(seed)
    net = build_captioner(florence(), *models, QUERIES, pretrained=False)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net.requires_grad_(False).eval()


def same(a: Captioner, b: Captioner) -> bool:
    pictures = images(2)
    rows = len(a.encoder.florence.language_model.shared.weight) - 1  # the last one is beyond the official words
    prefix = torch.allclose(a.prefix(pictures), b.prefix(pictures), atol=1e-5)
    ours, theirs = a.state_dict(), b.state_dict()
    equal = [
        torch.equal(ours[name][:rows], theirs[name][:rows])
        if "florence.language_model" in name and name.endswith(("embed_tokens.weight", "shared.weight"))
        else torch.equal(ours[name], theirs[name])
        for name in ours
    ]
    return prefix and all(equal)


BLOCK = "vision_tower.blocks.2.7."
THEIRS = {  # of Microsoft's code, as transformers' own converter reads them
    "vision_tower.convs.3.proj.bias": "vision_tower.convs.3.conv.bias",
    "vision_tower.convs.0.norm.weight": "vision_tower.convs.0.norm.weight",
    f"{BLOCK}spatial_block.conv1.fn.dw.weight": f"{BLOCK}spatial_block.conv1.weight",
    f"{BLOCK}spatial_block.window_attn.norm.weight": f"{BLOCK}spatial_block.norm1.weight",
    f"{BLOCK}spatial_block.window_attn.fn.qkv.bias": f"{BLOCK}spatial_block.window_attn.qkv.bias",
    f"{BLOCK}spatial_block.conv2.fn.dw.bias": f"{BLOCK}spatial_block.conv2.bias",
    f"{BLOCK}channel_block.channel_attn.norm.bias": f"{BLOCK}channel_block.norm1.bias",
    f"{BLOCK}channel_block.channel_attn.fn.proj.weight": f"{BLOCK}channel_block.channel_attn.proj.weight",
    f"{BLOCK}channel_block.ffn.norm.weight": f"{BLOCK}channel_block.norm2.weight",
    f"{BLOCK}channel_block.ffn.fn.net.fc1.weight": f"{BLOCK}channel_block.ffn.fc1.weight",
    "image_projection": "multi_modal_projector.image_projection.weight",
    "image_proj_norm.bias": "multi_modal_projector.image_proj_norm.bias",
    "image_pos_embed.column_embeddings.weight": "multi_modal_projector.image_position_embed.column_embeddings.weight",
    "visual_temporal_embed.pos_idx_to_embed": "multi_modal_projector.visual_temporal_embed.pos_idx_to_embed",
    "language_model.model.shared.weight": "language_model.shared.weight",
    "language_model.model.decoder.layers.0.encoder_attn.k_proj.bias": (
        "language_model.decoder.layers.0.encoder_attn.k_proj.bias"
    ),
}


def test_microsofts_names_become_transformers():
    for theirs, ours in THEIRS.items():
        assert our_name(f"VLV_model.model.{theirs}", CAPTIONER) == f"encoder.florence.{ours}"
    for theirs in (
        "model.language_model.lm_head.weight",
        "model.language_model.final_logits_bias",
        "unet.conv_in.bias",
    ):
        assert our_name(f"VLV_model.{theirs}", CAPTIONER) is None
    assert our_name("qwen2_model.model.layers.0.mlp.up_proj.weight", CAPTIONER) == (
        "language_model.model.layers.0.mlp.up_proj.weight"
    )
    assert our_name("mlp.layers.2.bias", CAPTIONER) == "adapter.2.bias"


@pytest.mark.parametrize("start", ["", "module.", "model.net."])
def test_an_official_checkpoint_fills_every_tensor(models, tmp_path, start):
    net, other = build(models, 0), build(models, 1)
    state = {start + name: value for name, value in official_state(net).items()}
    state |= {f"{start}VLV_model.{name}": torch.zeros(2) for name in ("unet.conv_in.weight", "vae.encoder.bias")}
    torch.save({"model_state_dict": state, "step": 3} if not start else state, tmp_path / "model.pt")
    assert not same(net, other)
    load_captioner(other, str(tmp_path / "model.pt"))
    assert same(net, other)
    assert other.language_model.lm_head.weight.data_ptr() == other.language_model.model.embed_tokens.weight.data_ptr()


def test_a_folder_in_parts_as_the_hub_has_it_and_half_precision(models, tmp_path):
    net, other = build(models, 0), build(models, 1)
    net.load_state_dict({name: value.bfloat16().float() for name, value in net.state_dict().items()})
    state = {name: value.bfloat16() for name, value in official_state(net).items()}
    parts = [dict(list(state.items())[k::2]) for k in range(2)]
    names = [f"model-0000{k + 1}-of-00002.safetensors" for k in range(2)]
    for name, part in zip(names, parts, strict=True):
        save_file(part, tmp_path / name)
    index = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert same(net, load_captioner(other, str(tmp_path)))
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UserError, match=r"index\.json.*weight_map"):
        load_captioner(other, str(tmp_path))


def test_the_encoder_of_either_stage(models, tmp_path):
    net = build(models, 0)
    save_file(official_state(net), tmp_path / "captioner.safetensors")
    first = {n.removeprefix("VLV_model."): v for n, v in official_state(net).items() if n.startswith("VLV_model.")}
    save_file(first, tmp_path / "stage1.safetensors")
    save_model(net.encoder, str(tmp_path / "ours.safetensors"))
    for name in ("captioner", "stage1", "ours"):
        torch.manual_seed(1)
        encoder = build_encoder(florence(), QUERIES, net.text_encoder.config).requires_grad_(False).eval()
        load_encoder(encoder, str(tmp_path / f"{name}.safetensors"))
        torch.testing.assert_close(encoder(images(2)), net.encoder(images(2)))


def test_weights_of_something_else_are_refused(models, tmp_path):
    net = build(models, 0)
    state = official_state(net)
    save_file(
        {name: value for name, value in state.items() if not name.startswith("mlp.")}, tmp_path / "part.safetensors"
    )
    with pytest.raises(UserError, match=r"part\.safetensors: .*missing: adapter\.0\.weight, adapter\.0\.bias"):
        load_captioner(net, str(tmp_path / "part.safetensors"))
    with pytest.raises(UserError, match="of another shape: encoder.queries"):
        save_file(state | {"VLV_model.query_embed": torch.zeros(1, 9, 16)}, tmp_path / "more.safetensors")
        load_captioner(net, str(tmp_path / "more.safetensors"))
    with pytest.raises(UserError, match="no weight file at"):
        load_captioner(net, str(tmp_path / "none.safetensors"))
    with pytest.raises(UserError, match="neither a folder nor a hub id"):
        load_captioner(net, str(tmp_path / "none"))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="holds no weights of VLV"):
        load_captioner(net, str(tmp_path))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "part.safetensors").read_bytes()[:99])
    with pytest.raises(UserError, match="truncated or damaged"):
        load_captioner(net, str(tmp_path / "cut.safetensors"))
