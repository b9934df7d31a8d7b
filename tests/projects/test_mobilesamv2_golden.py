"""MobileSAMv2 against the golden vectors; shapes and hyperparameters come from the file."""

import pytest
import torch
from safetensors import safe_open
from segment_anything.utils import amg

from common.data.prompts import Prompts, box_prompts
from common.models.sam import SamConfig, build_sam
from projects.mobilesamv2.detector import snap_to_border
from projects.mobilesamv2.propose import decode, grid_points
from tests.golden import golden_file


@pytest.fixture(scope="module")
def golden():
    """A function from a case to its tensors and its hyperparameters."""
    file = golden_file("mobilesamv2")
    if not file.exists():
        pytest.skip(f"no golden vectors at {file}; set GOLDEN_ROOT")
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        words = opened.metadata()

    def case(name):
        found = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
        return found, {k.removeprefix(f"{name}/hp."): v for k, v in words.items() if k.startswith(f"{name}/")}

    return case


@pytest.fixture(scope="module")
def sam(golden):
    """The prompt encoder of one case and the mask decoder of another, in the recipe's own class."""
    prompt, sizes = golden("box_prompt")
    decoder, hidden = golden("mask_decoder")
    side = int(sizes["image_hw"])
    config = SamConfig(
        image_size=side, patch_size=side // int(sizes["embedding_hw"]), embed_dim=8, depth=1, num_heads=1,
        global_attn_indexes=(0,), prompt_dim=int(sizes["embed_dim"]),
        mask_in_chans=len(prompt["state.mask_downscaling.3.bias"]), decoder_depth=int(hidden["depth"]),
        decoder_heads=int(hidden["heads"]), decoder_mlp_dim=int(hidden["mlp_dim"]),
        iou_head_depth=int(hidden["iou_head_depth"]), iou_head_hidden=int(hidden["iou_head_hidden"]),
    )  # fmt: skip
    found = build_sam(config).requires_grad_(False).eval()
    for part, given in ((found.prompt_encoder, prompt), (found.mask_decoder, decoder)):
        part.load_state_dict({k.removeprefix("state."): v for k, v in given.items() if k.startswith("state.")})
    return found


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_golden_box_and_point_prompts(golden, sam):
    given, _ = golden("box_prompt")
    sparse, dense = sam.prompt_encoder(points=None, boxes=box_prompts(given["in.boxes"]).boxes, masks=None)
    close(sparse, given["out.sparse"])
    close(dense[:1], given["out.dense"])
    close(sam.prompt_encoder.get_dense_pe(), given["out.dense_pe"])
    given, _ = golden("point_prompt")
    close(sam.prompt_encoder((given["in.points"], given["in.labels"]), None, None)[0], given["out.sparse"])


@pytest.mark.parametrize("chunk", [1, 2, 320])
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_golden_mask_decoder_in_chunks(kind, chunk, golden, sam, monkeypatch):
    """Given tokens stand for the prompts; the dense embedding is the prompt encoder's own."""
    given, _ = golden("mask_decoder")
    tokens = given["in.sparse"]
    dense = golden("box_prompt")[0]["out.dense"]

    def encoded(points, boxes, masks):
        rows = boxes[:, 0].long()
        return tokens[rows], dense.expand(len(rows), -1, -1, -1)

    monkeypatch.setattr(sam.prompt_encoder, "forward", encoded)
    numbers = torch.arange(float(len(tokens)))[:, None].expand(-1, 4)
    prompts: Prompts = box_prompts(numbers.numpy())
    parts = list(decode(sam, given["in.image_embedding"], prompts, kind == "multi", chunk))
    assert [part for part, _, _ in parts][0] == slice(0, chunk)
    close(torch.cat([logits for _, logits, _ in parts]), given[f"out.{kind}_mask_logits"])
    close(torch.cat([iou for _, _, iou in parts]), given[f"out.{kind}_iou"])


def test_golden_border_grid_stability(golden):
    given, words = golden("snap_boxes_to_border")
    shape = tuple(given["in.image_hw"].tolist())
    close(snap_to_border(given["in.boxes"], shape, float(words["threshold"])), given["out.boxes"])
    given, _ = golden("point_grid")
    side = int(given["in.n_per_side"])
    found = grid_points(side, (1000, 1000), 1000)
    close(found.coords[:, 0].double() / 1000, given["out.points"])
    given, words = golden("stability_score")
    logits, count = given["in.mask_logits"], len(given["out.score"])
    threshold = float(words["mask_threshold"])
    close(amg.calculate_stability_score(logits[:count], threshold, float(words["offset"])), given["out.score"])
    assert torch.equal(amg.batched_mask_to_box(logits > threshold), given["out.mask_boxes_xyxy"])
