"""The commands for people who want the model: segment an image, export to ONNX, and bad input to both."""

import json
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.modeling import Sam
from torch import nn
from torch.nn import functional as F

from common.data.prompts import point_prompts
from common.errors import UserError
from common.models.sam import (
    PIXEL_MEAN,
    PIXEL_STD,
    SamConfig,
    build_sam,
    postprocess_masks,
    predict_masks,
    preprocess,
    scale_boxes,
    scale_points,
)
from common.models.sam_checkpoint import load_segmenter, published_size
from common.models.tiny_vit import TinyViT, TinyViTConfig
from common.training.weights import load_state
from projects.mobilesam.tools import segment
from tests.projects.mobilesam_small import BOX, GROUND, HEIGHT, POINT, SHAPES, WIDTH, picture, write_student


def true_masks() -> np.ndarray:
    """The left rectangle, the right one, the ground; bool [3, 60, 90]."""
    masks = np.zeros((3, HEIGHT, WIDTH), dtype=bool)
    for mask, (x0, y0, x1, y1) in zip(masks, SHAPES.values(), strict=False):
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    masks[2] = ~masks[:2].any(0)
    return masks


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


class Pixels(nn.Module):
    """An image encoder that keeps the colours: [B, 3, 256, 256] -> [B, 3, 128, 128]."""

    img_size = 256

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(images, 2)


class PromptsAsGiven(nn.Module):
    """A prompt encoder that hands prompts on: rows (x, y, label) [N, P, 3], a box as two points of labels 2 and 3."""

    def forward(self, points, boxes, masks) -> tuple[torch.Tensor, None]:
        rows = [] if points is None else [torch.cat([points[0], points[1][..., None]], -1)]
        if boxes is not None:
            rows.append(torch.cat([boxes.reshape(-1, 2, 2), torch.tensor([[[2.0], [3.0]]])], -1))
        return torch.cat(rows, 1), None

    def get_dense_pe(self) -> None:
        return None


class SameColor(nn.Module):
    """A mask decoder of one rule: pixels of the colours under the object's points, none of those under the others.

    A box limits the mask; without a point on the object, the colour at its middle counts. An ambiguous prompt is
    answered with everything, the mask, and nothing; the second has the highest predicted IoU, 0.95.
    """

    def forward(
        self, image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, multimask_output
    ) -> tuple[torch.Tensor, torch.Tensor]:
        masks = torch.stack([self.mask(image_embeddings[0], rows) for rows in sparse_prompt_embeddings])[:, None]
        estimate = torch.full((len(masks), 1), 0.9)
        if multimask_output:
            masks = torch.cat([torch.ones_like(masks), masks, torch.zeros_like(masks)], 1)
            estimate = torch.tensor([0.5, 0.95, 0.1]).expand(len(masks), 3)
        return masks * 16.0 - 8, estimate

    def mask(self, colors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """[3, 128, 128] and (x, y, label) [P, 3] -> 0 or 1, [128, 128]."""
        corners, points = rows[rows[:, 2] > 1, :2], rows[rows[:, 2] <= 1]
        area = torch.ones(128, 128)
        if len(corners):
            (x0, y0), (x1, y1) = corners.tolist()
            at = torch.arange(128) * 2 + 0.5  # a cell's middle
            area = ((at >= y0) & (at <= y1))[:, None] * ((at >= x0) & (at <= x1))
            if not (points[:, 2] == 1).any():
                points = torch.cat([points, torch.tensor([[(x0 + x1) / 2, (y0 + y1) / 2, 1]])])
        like = {0: torch.zeros(128, 128, dtype=bool), 1: torch.zeros(128, 128, dtype=bool)}
        for x, y, label in points.tolist():
            color = colors[:, int(y) // 2, int(x) // 2]
            like[int(label)] |= (colors - color[:, None, None]).norm(dim=0) < 1.3  # half of the least difference
        return (like[1] & ~like[0]) * area


def color_sam() -> Sam:
    """A SAM whose answers are known in closed form, to see where the tool puts prompts and masks."""
    return Sam(Pixels(), PromptsAsGiven(), SameColor(), list(PIXEL_MEAN), list(PIXEL_STD)).eval()


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(picture()).save(path)
    return path


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return write_student(tmp_path_factory.mktemp("student"))


@pytest.fixture
def command(photo, tmp_path, capsys, monkeypatch):
    """Run segment's command line on the photo -> exit code, standard output, standard error, contents of the npz.

    Without a checkpoint, the model is `color_sam`.
    """

    def run(*arguments: str, image: Path = photo, checkpoint: Path | None = None):
        out, npz = tmp_path / "out.png", tmp_path / "masks.npz"
        given = [str(image), "--checkpoint", str(checkpoint), "--out", str(out), "--npz", str(npz), "--device", "cpu"]
        with monkeypatch.context() as patch:
            if checkpoint is None:
                patch.setattr("common.models.sam_checkpoint.load_segmenter", lambda *_: color_sam())
            try:
                code = segment.main([*given, *arguments])
            except SystemExit as stop:  # argparse
                code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err, dict(np.load(npz)) if npz.exists() else None

    return run


@pytest.mark.parametrize("which", [0, 1])
def test_a_click_selects_the_shape_under_it(which, command, tmp_path):
    x0, y0, x1, y1 = list(SHAPES.values())[which]
    x, y = (x0 + x1) // 2, (y0 + y1) // 2
    code, out, err, found = command("--point", f"{x},{y}")
    assert (code, err) == (0, "")
    assert found["masks"].shape == (1, HEIGHT, WIDTH) and found["masks"].dtype == bool
    mask = found["masks"][0]
    assert iou(mask, true_masks()[which]) > 0.95 and found["predicted_iou"] == pytest.approx(0.95)
    rows, columns = np.nonzero(mask)
    assert found["boxes"][0].tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
    corners = ",".join(map(str, found["boxes"][0]))
    assert f"mask 1: area {mask.sum()} px ({mask.mean():.1%}), box {corners}, predicted IoU 0.950" in out

    drawn, scale = np.array(Image.open(tmp_path / "out.png")), 14  # 1280 // 90
    assert drawn.shape == (HEIGHT * scale, WIDTH * scale, 3)
    dimmed = (picture() * 0.6).astype(np.uint8)
    assert np.array_equal(drawn[5::scale, 5::scale][~mask], dimmed[~mask])
    reddish = drawn[5::scale, 5::scale][mask].astype(int) - dimmed[mask]
    assert (reddish[:, 0] > 0).all()
    assert drawn[y * scale + 7, x * scale + 7].tolist() == [230, 80, 60]  # the dot, in the middle of its pixel


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        (["--point", "20,30", "--point", "60,30"], [[0, 1]]),  # one object of both colours
        (["--point", "20,30", "--point", "60,30", "--point", "75,45,0"], [[0]]),
        (["--box", "49,19,81,51", "--box", "7,11,35,45"], [[1], [0]]),  # two objects, in this order
        (["--box", "0,0,90,60"], [[2]]),  # the colour of the middle; a box may end at the image's edge
        (["--box", "0,0,90,60", "--point", "60,30", "--point", "45,5"], [[1, 2]]),
        (["--box", "0,0,90,60", "--point", "60,30", "--point", "10,15", "--point", "11,15,0"], [[1]]),
    ],
)
def test_points_make_one_object_and_each_box_another(prompts, expected, command):
    code, out, _, found = command(*prompts)
    assert code == 0 and len(found["masks"]) == out.count("predicted IoU") == len(expected)
    for mask, regions in zip(found["masks"], expected, strict=True):
        assert iou(mask, true_masks()[regions].any(0)) > 0.95


def test_a_box_limits_the_mask(command):
    *_, found = command("--box", "50,20,64,50")
    assert found["masks"][0, 21:49, 51:63].all() and not found["masks"][0, :, 66:].any()


def test_everything_finds_all_regions(command):
    code, out, _, found = command("--everything", "--points-per-side", "8", "--min-stability", "0.9")
    assert code == 0 and len(found["masks"]) == out.count("predicted IoU") == 3
    for mask, region in zip(found["masks"], true_masks()[[2, 1, 0]], strict=True):  # the largest first
        assert iou(mask, region) > 0.95
    assert found["predicted_iou"] == pytest.approx(0.95) and found["boxes"].shape == (3, 4)


def test_everything_may_find_nothing(command, tmp_path):
    code, out, _, found = command("--everything", "--points-per-side", "4", "--min-iou", "0.96")
    assert code == 0 and "nothing found: try a lower --min-iou" in out
    assert found["masks"].shape == (0, HEIGHT, WIDTH) and found["boxes"].shape == (0, 4)
    dimmed = (picture() * 0.6).astype(np.uint8)
    assert np.array_equal(np.array(Image.open(tmp_path / "out.png"))[::14, ::14], dimmed)


def test_the_picture_of_a_photograph_fits_a_screen():
    photograph = np.zeros((3000, 4000, 3), dtype=np.uint8)
    drawn = segment.overlay(photograph, np.zeros((0, 3000, 4000), dtype=bool), [(2000.0, 1000.0, 1)], [])
    assert drawn.shape == (960, 1280, 3) and drawn[320, 640].any() and not drawn[320, 660].any()


@pytest.mark.parametrize(
    ("points", "boxes"), [([POINT], []), ([POINT, GROUND], []), ([], [BOX]), ([POINT, GROUND], [BOX])]
)
def test_masks_are_those_of_the_recipes_own_path(points, boxes, student):
    """SamPredictor (its resizing, its prompts) = common.models.sam, which training and evaluation use."""
    sam = load_segmenter(student)
    found = segment.segment(sam, picture(), points, boxes)
    shape = (HEIGHT, WIDTH)
    pixels, size = preprocess(picture(), 64)
    given = np.array(points).reshape(1, -1, 3)
    prompts = point_prompts(scale_points(given[..., :2], shape, 64), given[..., 2])
    if boxes:
        prompts.boxes = torch.tensor(scale_boxes(np.array(boxes), shape, 64)).float()
    with torch.no_grad():
        ambiguous = len(points) == 1 and not boxes
        logits, estimate = predict_masks(sam, sam.image_encoder(pixels[None]), prompts, multimask=ambiguous)
        masks = postprocess_masks(logits, 64, size, shape)[0]
    best = int(estimate[0].argmax())
    assert logits.shape[1] == (3 if ambiguous else 1)
    assert (found.masks[0] == (masks[best] > 0).numpy()).mean() > 0.999 and 0 < found.masks[0].mean() < 1
    assert found.iou[0] == pytest.approx(estimate[0, best].item(), abs=1e-5)


def test_photographs_are_turned_as_their_exif_says(command, tmp_path):
    turned = Image.fromarray(picture()).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    code, out, _, found = command("--point", "65,35", image=tmp_path / "turned.png")
    assert code == 0 and f"{WIDTH} x {HEIGHT} pixels" in out
    assert iou(found["masks"][0], true_masks()[1]) > 0.95


def test_background_points_are_drawn_unlike_points_on_the_object():
    drawn = segment.overlay(picture(), np.zeros((1, HEIGHT, WIDTH), dtype=bool), [POINT, GROUND], [])
    ground, point = drawn[50 * 14 + 7, 60 * 14 + 7], drawn[20 * 14 + 7, 30 * 14 + 7]
    assert ground.tolist() == [255, 255, 255] and point.tolist() == [230, 80, 60]


def test_the_official_mobile_sam_pt_segments_at_its_own_size(command, tmp_path, monkeypatch):
    torch.manual_seed(0)
    sam = build_sam(SamConfig(), TinyViT(TinyViTConfig()))
    head = {"norm_head.weight": torch.ones(320), "norm_head.bias": torch.zeros(320)}
    head |= {"head.weight": torch.zeros(1000, 320), "head.bias": torch.zeros(1000)}
    unused = {f"image_encoder.{key}": value for key, value in head.items()}
    torch.save({**sam.state_dict(), **unused}, tmp_path / "mobile_sam.pt")
    forward, seen = TinyViT.forward, []

    def noted(encoder: TinyViT, images: torch.Tensor) -> torch.Tensor:
        seen.append((encoder, images, forward(encoder, images)))
        return seen[-1][2]

    monkeypatch.setattr(TinyViT, "forward", noted)
    code, out, _, found = command("--point", "20,30", "--point", "60,50,0", checkpoint=tmp_path / "mobile_sam.pt")
    assert code == 0 and "TinyViT at 1024 on cpu" in out
    ((encoder, images, embedding),) = seen
    theirs = sam.image_encoder.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in encoder.state_dict().items())

    def again(_: TinyViT, wanted: torch.Tensor) -> torch.Tensor:
        """The same weights give the same embedding of the same picture: seconds that need no second time."""
        torch.testing.assert_close(wanted, images)
        return embedding

    monkeypatch.setattr(TinyViT, "forward", again)
    predictor = SamPredictor(sam.eval())
    predictor.set_image(picture())
    masks, estimate, _ = predictor.predict(np.array([[20, 30], [60, 50]]), np.array([1, 0]), multimask_output=False)
    assert np.array_equal(found["masks"], masks) and found["predicted_iou"] == pytest.approx(estimate, abs=1e-5)


def test_official_sam_checkpoints_are_known_by_their_width(tmp_path):
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in build_sam(SamConfig.named("vit_b")).state_dict().items()}
    torch.save({key: torch.full((), 0.5).expand(shape) for key, shape in shapes.items()}, tmp_path / "sam_vit_b.pth")
    sam = load_segmenter(tmp_path / "sam_vit_b.pth")
    assert len(sam.image_encoder.blocks) == 12 and not sam.training
    assert all((p == 0.5).all() for p in sam.parameters())
    for name, width in (("vit_b", 768), ("vit_l", 1024), ("vit_h", 1280)):
        state = {"image_encoder.pos_embed": torch.empty(1, 64, 64, width)}
        assert published_size(tmp_path, state) == SamConfig.named(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing says what to segment: give --point"),
        (["--point", "3"], "'3' is no point: write x,y"),
        (["--point", "3,a"], "'3,a' is no point"),
        (["--point", "3,4,2"], "'3,4,2' is no point"),
        (["--point", "90,10"], r"point 90,10 lies outside the image \(90 x 60 pixels\)"),
        (["--point=-1,10"], "point -1,10 lies outside"),
        (["--point", "nan,10"], "point nan,10 lies outside"),
        (["--point", "5,5,0"], "all points are background"),
        (["--box", "1,2,3"], "'1,2,3' is no box: write x0,y0,x1,y1"),
        (["--box", "9,2,3,8"], "'9,2,3,8' is no box: .* with x0 < x1"),
        (["--box", "1,2,3,61"], "box 1,2,3,61 reaches outside the image"),
        (["--box", "1,2,9,9", "--box", "3,4,8,8", "--point", "3,3"], "points beside 2 boxes: which object"),
        (["--everything", "--point", "3,3"], "--everything takes no prompts"),
        (["--everything", "--points-per-side", "0"], "at least 1 is needed"),
        (["--point", "3,3", "--out", "picture.xyz"], r"name must end in \.png"),
        (["--point", "3,3", "--out", "nowhere/picture.png"], "no folder nowhere to write picture.png into"),
        (["--point", "3,3", "--npz", "masks.png"], r"must end in \.npz"),
    ],
)
def test_bad_arguments(arguments, message, command):
    code, _, err, found = command(*arguments)
    assert code == 2 and found is None
    assert re.search(f"error: .*{message}", err)


def test_bad_images(command, photo, tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "half.png").write_bytes(photo.read_bytes()[:100])
    (tmp_path / "empty.png").touch()
    Image.new("RGB", (2000, 1)).save(tmp_path / "line.png")
    (tmp_path / "nothing").mkdir()
    for image, message in (
        (tmp_path / "none.jpg", "No such file"),
        (tmp_path / "nothing", "no pictures in"),
        (tmp_path / "text.jpg", "no picture of a known kind"),
        (tmp_path / "half.png", "cannot be decoded as an image"),
        (tmp_path / "empty.png", "the file is empty"),
        (tmp_path / "line.png", "too narrow (2000 x 1 pixels)"),
    ):
        code, _, err, _ = command("--point", "0,0", image=image)
        assert code == 2 and err.startswith("error: ") and str(image) in err and message in err
    code, _, err, _ = command("--point", "0,0", "--out", str(photo))
    assert code == 2 and "the image itself" in err and np.array_equal(np.array(Image.open(photo)), picture())


def test_bad_checkpoints(command, student, tmp_path):
    sam_state = {key: torch.zeros(1) for key in ("student.image_encoder.pos_embed", "student.mask_decoder.x")}
    torch.save({"state_dict": sam_state}, tmp_path / "step=9.ckpt")
    torch.save({"layer.weight": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save({f"{name}.image_encoder.pos_embed": torch.zeros(1) for name in "ab"}, tmp_path / "two.pth")
    torch.save({"image_encoder.pos_embed": torch.zeros(1, 4, 4, 96)}, tmp_path / "small.pth")
    torch.save({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 768)}, tmp_path / "sam_vit_b.pth")
    (tmp_path / "weights.safetensors").write_bytes(student.read_bytes())
    for checkpoint, message in (
        (tmp_path / "mobile_sam.pt", "no weight file at"),
        (tmp_path / "step=9.ckpt", "no published size of SAM"),
        (tmp_path / "other.pth", "holds no segmenter (its first key is 'layer.weight')"),
        (tmp_path / "two.pth", "holds 2 segmenters (a., b.)"),
        (tmp_path / "small.pth", "no published size of SAM (its encoder is 96 wide): give --config"),
        (tmp_path / "sam_vit_b.pth", "with the published sizes (--config gives others): "),
        (tmp_path / "weights.safetensors", "with the published sizes (--config gives others): "),
    ):
        code, _, err, _ = command("--point", "0,0", checkpoint=checkpoint)
        assert code == 2 and err.startswith("error: ") and str(checkpoint) in err and message in err
    code, _, _, found = command(
        "--point", "0,0", "--config", str(student.with_name("config.yaml")), checkpoint=tmp_path / "weights.safetensors"
    )
    assert code == 0 and found["masks"].shape == (1, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "cannot read .* as a configuration"),
        ("just text", "neither model.sam nor model.teacher"),
        ("model: {lr: 1}", "neither model.sam nor model.teacher"),
        ("model: {teacher: {patch_size: 16}}", "holds a student, but .* has no model.student"),
        ("model: {teacher: {patch_sise: 16}}", "unknown setting of SamConfig 'patch_sise': did you mean patch_size"),
        ("model: {teacher: {patch_size: big}}", "a setting of SamConfig is not a number"),
        ("model: {teacher: {}, student: {}}", "with the sizes in .*another size of this model"),
    ],
)
def test_bad_configurations(text, message, student, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_segmenter(student, tmp_path / "c.yaml")
    with pytest.raises(UserError, match="cannot read .*gone.yaml"):
        load_segmenter(student, tmp_path / "gone.yaml")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(command):
    code, _, err, _ = command("--point", "3,3", "--device", "cuda")
    assert code == 2 and "torch sees no GPU here" in err


@pytest.mark.parametrize("module", ["segment", "export"])
def test_help_does_not_wait_for_torch(module):
    code = (
        f"import sys, projects.mobilesam.tools.{module} as m\ntry: m.main(['--help'])\n"
        "except SystemExit as stop: sys.exit(stop.code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--checkpoint" in done.stdout, done.stderr


def written(*arguments: str, monkeypatch) -> int:
    """The command line with `color_sam` for a model."""
    with monkeypatch.context() as patch:
        patch.setattr("common.models.sam_checkpoint.load_segmenter", lambda *_: color_sam())
        return segment.main(["--checkpoint", "sam.pt", "--device", "cpu", *arguments])


def test_masks_are_written_as_amg_writes_them(photo, tmp_path, monkeypatch, capsys):
    """`amg.py --convert-to-rle`: a list of the generator's records, whose encodings pycocotools decodes."""
    out = tmp_path / "masks.json"
    grid = ("--everything", "--points-per-side", "8", "--min-stability", "0.9")
    assert written(str(photo), *grid, "--json", str(out), monkeypatch=monkeypatch) == 0
    found = json.loads(out.read_text())
    generator = SamAutomaticMaskGenerator(
        color_sam(), points_per_side=8, stability_score_thresh=0.9, output_mode="coco_rle"
    )
    assert sorted(found, key=str) == sorted(generator.generate(picture()), key=str)
    assert written(str(photo), "--point", "20,30", "--json", str(out), monkeypatch=monkeypatch) == 0
    (record,) = json.loads(out.read_text())
    mask = coco_mask.decode(record["segmentation"]).astype(bool)
    assert record.keys() == found[0].keys() and iou(mask, true_masks()[0]) > 0.95
    assert record["area"] == mask.sum() and record["bbox"] == coco_mask.toBbox(record["segmentation"]).tolist()[:2] + [
        side - 1
        for side in coco_mask.toBbox(record["segmentation"]).tolist()[2:]  # amg's are from first to last pixel
    ]
    assert record["point_coords"] == [[20, 30]] and record["stability_score"] == 1
    assert "wrote" in capsys.readouterr().out


def test_a_folder_of_images_one_of_them_broken(tmp_path, monkeypatch, capsys):
    photos, bad = tmp_path / "photos", os.fsdecode(b"caf\xe9.jpg")
    photos.mkdir()
    for name in ("b.png", "a.jpg", "10.png", "9.png"):
        Image.fromarray(picture()).save(photos / name, quality=95)
    (photos / bad).write_text("no picture")
    where = [word for kind in ("out", "json", "npz") for word in (f"--{kind}", str(tmp_path / kind))]
    assert written(str(photos), "--point", "20,30", *where, monkeypatch=monkeypatch) == 2
    shown = capsys.readouterr()
    assert "passed over: cannot read" in shown.err and "caf\\xe9.jpg" in shown.err and "1 of 5 images" in shown.err
    for kind, ending in (("out", "png"), ("json", "json"), ("npz", "npz")):
        assert {file.name for file in (tmp_path / kind).iterdir()} == {f"{n}.{ending}" for n in ("a", "b", "9", "10")}
    for file in (tmp_path / "npz").iterdir():
        assert iou(np.load(file)["masks"][0], true_masks()[0]) > 0.95
    Image.fromarray(picture()).save(photos / "a.png")
    assert written(str(photos), "--point", "20,30", *where, monkeypatch=monkeypatch) == 2
    assert "would have the same results' name" in capsys.readouterr().err
    assert written(str(photos), "--point", "20,30", monkeypatch=monkeypatch) == 2
    assert "nothing to write" in capsys.readouterr().err


def test_a_single_mask_is_the_one_for_clear_prompts(student):
    sam = load_segmenter(student)
    single, best = (segment.segment(sam, picture(), [POINT], [], single=single) for single in (True, False))
    predictor = SamPredictor(sam)
    predictor.set_image(picture())
    coords, labels = np.array([POINT[:2]]), np.array([1])
    for found, several in ((single, False), (best, True)):
        masks, estimate, _ = predictor.predict(coords, labels, multimask_output=several)
        assert np.array_equal(found.masks[0], masks[estimate.argmax()])
    assert single.iou[0] != best.iou[0]


def test_everything_never_holds_all_masks(monkeypatch, tmp_path):
    """Thirty masks of two megapixels are 60 MB; encoded and written one after the other, they need a few."""
    mask = np.zeros((1000, 2000), np.uint8, order="F")
    mask[:500, :1500] = 1
    encoded = coco_mask.encode(mask)
    record = {"segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()}, "area": 750_000}
    found = segment.Found([{**record, "bbox": [0, 0, 1499, 499], "predicted_iou": 0.9}] * 30, (1000, 2000))
    tracemalloc.start()
    segment.write_npz(tmp_path / "masks.npz", found)
    segment.overlay(np.zeros((1000, 2000, 3), np.uint8), found.masks, [], [])
    assert tracemalloc.get_traced_memory()[1] < 45e6
    tracemalloc.stop()
    read = np.load(tmp_path / "masks.npz")
    assert read["masks"].shape == (30, 1000, 2000) and np.array_equal(read["masks"][29], mask.astype(bool))
    assert read["boxes"][0].tolist() == [0, 0, 1499, 499]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "student.", "module.student.", "model."])
def test_weights_load_under_any_wrappers_prefix(prefix, student, tmp_path):
    state = load_state(student)
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / "wrapped.pth")
    sam = load_segmenter(tmp_path / "wrapped.pth", student.with_name("config.yaml"))
    assert all(torch.equal(value, state[key]) for key, value in sam.state_dict().items())


def test_a_compiled_encoder_and_a_second_segmenter_in_the_file(student, tmp_path):
    state = load_state(student)
    inner = {key.replace("image_encoder.", "image_encoder._orig_mod."): value for key, value in state.items()}
    teacher = {f"teacher.{key}": torch.zeros(1) for key in state}
    torch.save({**teacher, **{f"student.{key}": value for key, value in inner.items()}}, tmp_path / "both.ckpt")
    sam = load_segmenter(tmp_path / "both.ckpt", student.with_name("config.yaml"))
    assert all(torch.equal(value, state[key]) for key, value in sam.state_dict().items())
