"""MobileSAM's TinyViT: parity with the official pieces, parameter counts, checkpoint formats, learning-rate scales."""

import pytest
import torch
from einops import rearrange
from safetensors import safe_open
from timm.models.tiny_vit import TinyVit, tiny_vit_5m_224
from torch import nn

from common.errors import UserError
from common.models.sam import SamConfig, build_sam
from common.models.tiny_vit import (
    MBConv,
    PatchMerging,
    TinyViT,
    TinyViTBlock,
    TinyViTConfig,
    bias_indices,
    layer_lr_scales,
    load_mobile_sam,
    load_timm_tiny_vit,
    sam_neck,
)
from tests.golden import golden_file

GOLDEN = golden_file("mobilesam")
needs_golden = pytest.mark.skipif(not GOLDEN.is_file(), reason=f"no golden vectors at {GOLDEN} (set GOLDEN_ROOT)")
SMALL = TinyViTConfig(
    image_size=64, embed_dims=(8, 16, 16, 24), depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 3), window_sizes=(3, 3, 4, 3)
)


def golden(
    case: str,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, str]]:
    """Inputs, outputs, state and hyperparameters of one case."""
    with safe_open(GOLDEN, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys() if key.startswith(f"{case}/")}  # noqa: SIM118
        meta = file.metadata()
    parts = [
        {k.split(f"{case}/{p}.")[1]: v for k, v in tensors.items() if f"/{p}." in k} for p in ("in", "out", "state")
    ]
    hp = {k.split("/hp.")[1]: v for k, v in meta.items() if k.startswith(f"{case}/")}
    return *parts, hp


def fill(module: nn.Module, state: dict[str, torch.Tensor]) -> nn.Module:
    """Load all of `state`; the files leave out BatchNorm's counters."""
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    return module.eval()


def randomize(module: nn.Module) -> nn.Module:
    """Random values everywhere, BatchNorm statistics included, at a scale that leaves no branch silent."""
    for key, value in module.state_dict().items():
        if "var" in key or (value.dim() == 1 and key.endswith("weight")):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.normal_(0, value[0].numel() ** -0.5)
    return module.eval()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@needs_golden
def test_tinyvit_block_golden():
    inputs, outputs, state, hp = golden("tinyvit_block")
    side, window = int(hp["resolution"]), int(hp["window"])
    block = fill(TinyViTBlock(int(hp["dim"]), int(hp["heads"]), window, float(hp["mlp_ratio"])), state)
    y = block(rearrange(inputs["x"], "b (h w) c -> b c h w", h=side))
    torch.testing.assert_close(rearrange(y, "b c h w -> b (h w) c"), outputs["y"], atol=1e-5, rtol=0)
    assert torch.equal(bias_indices(window), outputs["bias_idxs"])


@needs_golden
def test_mbconv_golden():
    inputs, outputs, state, hp = golden("mbconv")
    block = fill(MBConv(inputs["x"].shape[1], float(hp["expand"])), state)
    torch.testing.assert_close(block(inputs["x"]), outputs["y"], atol=1e-5, rtol=0)


@needs_golden
def test_patch_merging_golden():
    inputs, outputs, state, hp = golden("patch_merging_stride2")
    merging = fill(PatchMerging(int(hp["dim"]), int(hp["out_dim"]), stride=2), state)
    y = merging(rearrange(inputs["x"], "b (h w) c -> b c h w", h=int(hp["resolution"])))
    torch.testing.assert_close(rearrange(y, "b c h w -> b (h w) c"), outputs["y"], atol=1e-5, rtol=0)


@needs_golden
def test_neck_golden():
    inputs, outputs, state, hp = golden("neck_narrow")
    neck = fill(sam_neck(inputs["x"].shape[1], int(hp["out_chans"])), state)
    assert neck[1].eps == neck[3].eps == float(hp["ln_eps"])
    torch.testing.assert_close(neck(inputs["x"]), outputs["y"], atol=1e-5, rtol=0)


def test_parameter_counts_are_the_papers():
    with torch.device("meta"):
        sam = build_sam(SamConfig(), TinyViT(TinyViTConfig()))
    assert count(sam.image_encoder) == 5_743_892
    assert count(sam.image_encoder.neck) == 672_768
    assert count(sam) == 10_130_092 - 321_640  # the official module less its unused classifier


def test_embedding_follows_the_input_size():
    model = randomize(TinyViT(SMALL))
    assert model.img_size == 64 and SMALL.stride == 16
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 256, 4, 4)
    assert model(torch.zeros(1, 3, 48, 80)).shape == (1, 256, 3, 5)
    with pytest.raises(ValueError, match="50x64: both sides must be multiples of 16"):
        model(torch.zeros(1, 3, 50, 64))


def test_real_size_has_sams_embedding():
    with torch.device("meta"):
        embedding = TinyViT(TinyViTConfig())(torch.zeros(1, 3, 1024, 1024))
    assert embedding.shape == (1, 256, 64, 64)


def test_bias_table_has_no_stale_copy():
    block = randomize(TinyViTBlock(8, 2, 3))
    x = torch.randn(1, 8, 6, 6)
    before = block(x)
    block.load_state_dict({**block.state_dict(), "attn.attention_biases": torch.randn(2, 9)})  # while in eval mode
    assert not torch.allclose(before, block(x))
    assert torch.equal(block(x), block.train().eval()(x))


@pytest.mark.parametrize("window", [1, 7, 14])
def test_bias_indices_by_definition(window):
    index = bias_indices(window)
    assert index.unique().numel() == window * window
    offsets = {}
    for a in range(window * window):
        for b in range(0, window * window, 5):
            offset = abs(a // window - b // window), abs(a % window - b % window)
            assert offsets.setdefault(offset, int(index[a, b])) == int(index[a, b])


def test_windows_do_not_see_each_other():
    block = randomize(TinyViTBlock(8, 2, 4))
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[..., 4:, 4:] = torch.randn(1, 8, 4, 4)
    difference = (block._windowed_attention(x) - block._windowed_attention(changed)).abs().amax((0, 1))
    assert difference[4:, 4:].min() > 1e-4
    assert difference[:4].max() < 1e-6 and difference[:, :4].max() < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": (2, 2)}, "embed_dims has 4 stages"),
        ({"num_heads": (1, 3, 2, 3)}, "3 heads do not divide 16 channels"),
        ({"image_size": 100}, "image_size 100 must be a multiple of the stride 16"),
    ],
)
def test_impossible_configs_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        TinyViTConfig(**{**SMALL.__dict__, **change})


def test_stochastic_depth_grows_with_depth_and_rests_in_eval():
    model = TinyViT(TinyViTConfig(**{**SMALL.__dict__, "drop_path": 0.4}))
    rates = [block.drop_path.p for layer in model.layers for block in layer.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    x = torch.randn(2, 3, 64, 64)
    randomize(model)
    assert torch.equal(model(x), model(x))


def test_layer_lr_scales():
    model = TinyViT(TinyViTConfig())
    groups = list(layer_lr_scales(model, 0.8))
    assert [group["lr_scale"] for group in groups] == pytest.approx([0.8**i for i in range(11, -1, -1)])
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert scale[id(model.patch_embed.seq[0].c.weight)] == pytest.approx(0.8**11)
    assert scale[id(model.layers[0].downsample.conv1.c.weight)] == pytest.approx(0.8**10)  # as its stage's last block
    assert scale[id(model.layers[2].blocks[0].attn.qkv.weight)] == pytest.approx(0.8**7)
    assert scale[id(model.neck[0].weight)] == 1


def test_timm_weights_give_timms_features():
    sizes = {"embed_dims": (8, 16, 16, 24), "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 3)}
    theirs = randomize(TinyVit(**sizes, window_sizes=(3, 3, 4, 3), drop_path_rate=0.0, num_classes=5))
    ours = TinyViT(TinyViTConfig(**sizes, image_size=64, window_sizes=(3, 3, 4, 3), strides=(2, 2, 2)))
    neck = ours.neck[0].weight.clone()
    load_timm_tiny_vit(ours, theirs.state_dict()).eval()
    x = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(ours.forward_features(x), theirs.forward_features(x), atol=1e-5, rtol=1e-4)
    assert torch.equal(ours.neck[0].weight, neck)


def test_timm_weights_fit_the_real_size():
    theirs = tiny_vit_5m_224()
    load_timm_tiny_vit(TinyViT(TinyViTConfig()), theirs.state_dict())
    with pytest.raises(UserError, match="another size"):
        load_timm_tiny_vit(TinyViT(SMALL), theirs.state_dict())


def official_encoder_shapes() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the image encoder in `mobile_sam.pt`, from the published sizes alone."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv_bn(name: str, weight: tuple[int, ...]) -> None:
        shapes[f"{name}.c.weight"] = weight
        shapes.update({f"{name}.bn.{key}": weight[:1] for key in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.bn.num_batches_tracked"] = ()

    def affine(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    conv_bn("patch_embed.seq.0", (32, 3, 3, 3))
    conv_bn("patch_embed.seq.2", (64, 32, 3, 3))
    for i in range(2):
        conv_bn(f"layers.0.blocks.{i}.conv1", (256, 64, 1, 1))
        conv_bn(f"layers.0.blocks.{i}.conv2", (256, 1, 3, 3))
        conv_bn(f"layers.0.blocks.{i}.conv3", (64, 256, 1, 1))
    for stage, dim, out in ((0, 64, 128), (1, 128, 160), (2, 160, 320)):
        conv_bn(f"layers.{stage}.downsample.conv1", (out, dim, 1, 1))
        conv_bn(f"layers.{stage}.downsample.conv2", (out, 1, 3, 3))
        conv_bn(f"layers.{stage}.downsample.conv3", (out, out, 1, 1))
    for stage, depth, dim, heads, window in ((1, 2, 128, 4, 7), (2, 6, 160, 5, 14), (3, 2, 320, 10, 7)):
        for i in range(depth):
            block = f"layers.{stage}.blocks.{i}"
            shapes[f"{block}.attn.attention_biases"] = (heads, window * window)
            affine(f"{block}.attn.norm", dim)
            affine(f"{block}.attn.qkv", 3 * dim, dim)
            affine(f"{block}.attn.proj", dim, dim)
            affine(f"{block}.mlp.norm", dim)
            affine(f"{block}.mlp.fc1", 4 * dim, dim)
            affine(f"{block}.mlp.fc2", dim, 4 * dim)
            conv_bn(f"{block}.local_conv", (dim, 1, 3, 3))
    affine("norm_head", 320)
    affine("head", 1000, 320)
    shapes["neck.0.weight"], shapes["neck.2.weight"] = (256, 320, 1, 1), (256, 256, 3, 3)
    affine("neck.1", 256)
    affine("neck.3", 256)
    return shapes


def mobile_sam_state() -> dict[str, torch.Tensor]:
    """A state dict like `mobile_sam.pt`, every tensor a broadcast single number so that its file stays small."""
    encoder = {f"image_encoder.{key}": shape for key, shape in official_encoder_shapes().items()}
    with torch.device("meta"):
        rest = build_sam(SamConfig(), TinyViT(TinyViTConfig())).state_dict()
    others = {key: tuple(value.shape) for key, value in rest.items() if not key.startswith("image_encoder.")}
    counters = {key: torch.zeros((), dtype=torch.int64) for key in encoder if key.endswith("num_batches_tracked")}
    return {key: torch.full((), 0.25).expand(shape) for key, shape in {**encoder, **others}.items()} | counters


def test_mobile_sam_pt_loads(tmp_path):
    state = mobile_sam_state()
    encoder = sum(v.numel() for k, v in state.items() if k.startswith("image_encoder.") and ".bn.running" not in k)
    assert encoder - sum(k.endswith("num_batches_tracked") for k in state) == 6_065_532  # the official encoder's count
    torch.save(state, tmp_path / "mobile_sam.pt")
    sam = build_sam(SamConfig(), TinyViT(TinyViTConfig()))
    assert load_mobile_sam(sam, str(tmp_path / "mobile_sam.pt")) is sam
    assert all((p == 0.25).all() for p in sam.parameters())


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")  # only shapes matter there
def test_mobile_sam_pt_tolerates_the_unused_keys_and_no_others():
    with torch.device("meta"):
        sam = build_sam(SamConfig(), TinyViT(TinyViTConfig()))
    state = mobile_sam_state()
    cached = {"image_encoder.layers.1.blocks.0.attn.ab": torch.zeros(4, 49, 49)}
    index = {"image_encoder.layers.1.blocks.0.attn.attention_bias_idxs": torch.zeros(49, 49)}
    load_mobile_sam(sam, {**state, **cached, **index})
    load_mobile_sam(sam, {k: v for k, v in state.items() if "norm_head" not in k})
    with pytest.raises(UserError, match=r"unexpected: image_encoder\.extra_head\.weight"):
        load_mobile_sam(sam, {**state, "image_encoder.extra_head.weight": torch.zeros(1)})
    without = {k: v for k, v in state.items() if not k.startswith("mask_decoder.iou_prediction_head")}
    with pytest.raises(UserError, match=r"missing: mask_decoder\.iou_prediction_head"):
        load_mobile_sam(sam, without)
