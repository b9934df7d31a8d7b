"""SAM from segment_anything's classes: sizes, preprocessing, masks for prompts of many images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from segment_anything import sam_model_registry
from segment_anything.utils.transforms import ResizeLongestSide
from torch import nn

from common.data.prompts import Prompts, box_prompts, collate_prompts, point_prompts
from common.errors import UserError
from common.models.sam import (
    SamConfig,
    at_resolution,
    build_sam,
    postprocess_masks,
    predict_masks,
    preprocess,
    resize_longest_side,
    resized_shape,
    scale_boxes,
    scale_points,
)
from common.training.weights import load_weights
from tests.golden import golden_file

GOLDEN = golden_file("mobilesam")
needs_golden = pytest.mark.skipif(not GOLDEN.is_file(), reason=f"no golden vectors at {GOLDEN} (set GOLDEN_ROOT)")
TINY = SamConfig(
    image_size=64,
    patch_size=8,
    embed_dim=32,
    depth=2,
    num_heads=2,
    global_attn_indexes=(1,),
    window_size=3,
    prompt_dim=32,
    decoder_mlp_dim=64,
    decoder_heads=4,
    iou_head_hidden=32,
)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(0)
    return build_sam(TINY).eval()


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")  # only shapes matter there
@pytest.mark.parametrize(("name", "total"), [("vit_h", 641_090_608), ("vit_l", 312_342_832), ("vit_b", 93_735_472)])
def test_published_sizes_load_official_checkpoints(name, total, tmp_path):
    """A file with the official keys and shapes (segment_anything's own builder) fits; each entry is one number."""
    with torch.device("meta"):
        official, ours = sam_model_registry[name](), build_sam(SamConfig.named(name))
    assert count(ours) == count(official) == total
    assert (count(ours.prompt_encoder), count(ours.mask_decoder)) == (6_220, 4_058_340)
    state = {key: torch.full((), 0.5).expand(value.shape) for key, value in official.state_dict().items()}
    torch.save(state, tmp_path / f"sam_{name}.pth")
    load_weights(ours, tmp_path / f"sam_{name}.pth")
    other = "vit_b" if name != "vit_b" else "vit_l"
    with torch.device("meta"), pytest.raises(UserError, match="another size of this model"):
        load_weights(build_sam(SamConfig.named(other)), tmp_path / f"sam_{name}.pth")


def test_size_names():
    with pytest.raises(UserError, match="unknown SAM size 'vit_g'.*vit_h"):
        SamConfig.named("vit_g")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"image_size": 60}, "multiple of patch_size"), ({"decoder_heads": 5}, "multiple of decoder_heads")],
)
def test_impossible_configs_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        SamConfig(**{**TINY.__dict__, **change})


def test_image_encoder_must_have_the_models_size():
    encoder = nn.Identity()
    encoder.img_size = 128
    with pytest.raises(UserError, match="128 pixels in a SAM for 64"):
        build_sam(TINY, encoder)
    encoder.img_size = 64
    assert build_sam(TINY, encoder).image_encoder is encoder


@needs_golden
def test_preprocess_golden():
    with safe_open(GOLDEN, "pt") as file:
        case = {k.split("/")[1]: file.get_tensor(k) for k in file.keys() if k.startswith("preprocess/")}  # noqa: SIM118
        size = int(file.metadata()["preprocess/hp.target_length"])
    image = case["in.image"].numpy()
    resized = resize_longest_side(image, size)
    assert np.abs(resized.astype(int) - case["out.resized"].numpy().astype(int)).max() <= 1
    pixels, shown = preprocess(image, size)
    assert shown == resized.shape[:2] == tuple(case["out.resized"].shape[:2])
    if np.array_equal(resized, case["out.resized"].numpy()):  # else a grey level of difference is allowed: 1/57
        torch.testing.assert_close(pixels[None], case["out.normalized_padded"], atol=1e-5, rtol=0)
    torch.testing.assert_close(pixels[None], case["out.normalized_padded"], atol=0.018, rtol=0)
    points = scale_points(case["in.points"].numpy(), image.shape[:2], size)
    np.testing.assert_allclose(points, case["out.points"].numpy(), atol=1e-5)
    boxes = scale_boxes(case["in.boxes"].numpy(), image.shape[:2], size)
    np.testing.assert_allclose(boxes, case["out.boxes"].numpy(), atol=1e-5)


@needs_golden
def test_postprocess_masks_golden():
    with safe_open(GOLDEN, "pt") as file:
        prefix = "postprocess_masks/"
        case = {k.removeprefix(prefix): file.get_tensor(k) for k in file.keys() if k.startswith(prefix)}  # noqa: SIM118
        size = int(file.metadata()[f"{prefix}hp.img_size"])
    input_size, original_size = case["in.input_size"].tolist(), case["in.original_size"].tolist()
    logits = postprocess_masks(case["in.low_res_logits"], size, input_size, original_size)
    torch.testing.assert_close(logits, case["out.logits"], atol=1e-5, rtol=0)


def test_square_image_of_the_right_size_is_only_normalised():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels, shown = preprocess(image, 64)
    assert shown == (64, 64)
    back = pixels * torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1) + torch.tensor([123.675, 116.28, 103.53]).view(
        3, 1, 1
    )
    np.testing.assert_allclose(back.permute(1, 2, 0).numpy(), image, atol=1e-3)


@pytest.mark.parametrize("shape", [(37, 50), (50, 37), (200, 33), (64, 63)])
def test_preprocess_agrees_with_segment_anything(shape, sam):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    transform = ResizeLongestSide(64)
    pixels, (h, w) = preprocess(image, 64)
    assert (h, w) == resized_shape(*shape, 64) == transform.get_preprocess_shape(*shape, 64)
    expected = sam.preprocess(torch.from_numpy(transform.apply_image(image)).permute(2, 0, 1).float())
    torch.testing.assert_close(pixels, expected)
    assert not pixels[:, h:].any() and not pixels[:, :, w:].any()
    corner = np.array([[shape[1] - 1.0, shape[0] - 1.0]])
    scaled = scale_points(corner, shape, 64)
    assert (scaled < [w, h]).all()
    np.testing.assert_allclose(scaled, transform.apply_coords(corner, shape))
    logits = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        postprocess_masks(logits, 64, (h, w), shape), sam.postprocess_masks(logits, (h, w), shape)
    )


def test_preprocess_takes_rgb_bytes_only():
    with pytest.raises(ValueError, match="uint8"):
        preprocess(np.zeros((8, 8, 3), dtype=np.float32), 64)
    with pytest.raises(ValueError, match=r"\[8, 8\]"):
        preprocess(np.zeros((8, 8), dtype=np.uint8), 64)


def batch(kind: str) -> Prompts:
    """Two, one and three prompts of three images: unequal numbers, to catch any mix-up of rows."""
    rng = np.random.default_rng(0)
    items = []
    for n in (2, 1, 3):
        points = point_prompts(rng.uniform(0, 63, (n, 2, 2)), rng.integers(-1, 2, (n, 2)))
        boxes = box_prompts(np.sort(rng.uniform(0, 63, (n, 2, 2)), axis=1).reshape(n, 4))
        both = Prompts(points.coords, points.labels, boxes.boxes, points.image)
        items.append({"points": points, "boxes": boxes, "both": both}[kind])
    return collate_prompts(items)


@pytest.mark.parametrize("kind", ["points", "boxes", "both"])
@pytest.mark.parametrize("multimask", [False, True])
def test_predict_masks_equals_the_classes_own_forward(kind, multimask, sam):
    """One pass over prompts of many images = segment_anything's forward, image by image."""
    prompts = batch(kind)
    images = torch.randn(3, 3, 64, 64)
    embeddings = sam.image_encoder(images)
    logits, iou = predict_masks(sam, embeddings, prompts, multimask)
    m = TINY.num_masks if multimask else 1
    assert logits.shape == (6, m, 32, 32) and iou.shape == (6, m)
    for i in range(3):
        rows = prompts.image == i
        points = (prompts.coords[rows], prompts.labels[rows]) if prompts.coords.shape[1] else None
        boxes = None if prompts.boxes is None else prompts.boxes[rows]
        sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=None)
        expected = sam.mask_decoder(
            image_embeddings=embeddings[i : i + 1],
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        torch.testing.assert_close(logits[rows], expected[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(iou[rows], expected[1], atol=1e-5, rtol=1e-4)


def test_predict_masks_sends_gradients_to_the_prompted_images_only(sam):
    embeddings = torch.randn(3, 32, 8, 8, requires_grad=True)
    prompts = Prompts(torch.full((2, 1, 2), 5.0), torch.ones(2, 1), None, torch.tensor([2, 0]))
    predict_masks(sam, embeddings, prompts, True)[0].square().sum().backward()
    assert (embeddings.grad.abs().amax((1, 2, 3)) > 0).tolist() == [True, False, True]


def test_weights_move_to_another_resolution():
    small, large = (build_sam(replace(TINY, image_size=size)) for size in (64, 96))
    state = small.state_dict()
    state["image_encoder.pos_embed"] = torch.arange(8.0)[None, :, None, None].expand(1, 8, 8, 32)  # grows downwards
    state["image_encoder.blocks.1.attn.rel_pos_h"] = torch.arange(-7.0, 8)[:, None].expand(15, 16)  # an offset each
    moved = at_resolution(state, large)
    load_weights(large, moved)
    rows = moved["image_encoder.pos_embed"][0, :, 0, 0]
    assert torch.allclose(rows[1:-1], ((torch.arange(12) + 0.5) * 8 / 12 - 0.5)[1:-1])
    offsets = moved["image_encoder.blocks.1.attn.rel_pos_h"][:, 0]
    assert torch.allclose(offsets, torch.linspace(-7, 7, 23), atol=1e-5)
    same = at_resolution(state, small)
    assert all(torch.equal(same[name], value) for name, value in state.items())
