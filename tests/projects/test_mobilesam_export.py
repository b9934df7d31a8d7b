"""Export to ONNX: what onnxruntime computes equals what torch computes."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from segment_anything.utils.onnx import SamOnnxModel

from common.models import sam_onnx
from common.models.sam import (
    build_sam,
    preprocess,
    scale_points,
)
from common.models.sam_checkpoint import load_segmenter
from projects.mobilesam.tools import export
from tests.projects.mobilesam_small import BOX, GROUND, HEIGHT, POINT, SAM, WIDTH, picture, write_student


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return write_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def exported(student, tmp_path_factory):
    """The student through the command -> folder, the model."""
    folder = tmp_path_factory.mktemp("exported") / "new" / "onnx"
    assert export.main(["--checkpoint", str(student), "--out", str(folder)]) == 0
    return folder, load_segmenter(student).requires_grad_(False)


def run_onnx(path: Path, **inputs: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})


def check_encoder(path: Path, sam: Sam) -> None:
    for batch in (1, 3):
        images = torch.randn(batch, 3, 64, 64)
        (embeddings,) = run_onnx(path, images=images)
        expected = sam.image_encoder(images).numpy()
        np.testing.assert_allclose(embeddings, expected, atol=1e-4, rtol=0)  # values are of order 1
        assert expected.std() > 0.1


def test_exported_encoder_equals_torchs(exported):
    folder, sam = exported
    check_encoder(folder / "encoder.onnx", sam)
    for path in (folder / "encoder.onnx", folder / "decoder.onnx"):
        assert {entry.domain: entry.version for entry in onnx.load(path).opset_import}[""] == 18


def test_exported_encoder_of_sam_equals_torchs(tmp_path):
    sam = build_sam(SAM).eval().requires_grad_(False)
    for name, parameter in sam.image_encoder.named_parameters():
        if "pos" in name:  # they start as zeros
            parameter.normal_()
    sam_onnx.export_encoder(sam, tmp_path / "encoder.onnx")
    check_encoder(tmp_path / "encoder.onnx", sam)


@pytest.mark.parametrize(
    ("points", "box"), [([POINT], None), ([POINT, GROUND, POINT], None), ([], BOX), ([POINT, GROUND], BOX)]
)
def test_exported_pair_segments_as_torch_does(points, box, exported):
    """Preprocess, encoder.onnx, decoder.onnx with the prompt as documented = SamPredictor's logits."""
    folder, sam = exported
    image, shape = picture(), (HEIGHT, WIDTH)
    pixels, _ = preprocess(image, 64)
    (embeddings,) = run_onnx(folder / "encoder.onnx", images=pixels[None])
    coords = [(x, y) for x, y, _ in points] + ([(0, 0)] if box is None else [box[:2], box[2:]])
    labels = [label for *_, label in points] + ([-1] if box is None else [2, 3])
    masks, estimate, low = run_onnx(
        folder / "decoder.onnx",
        image_embeddings=torch.from_numpy(embeddings),
        point_coords=torch.tensor(scale_points(np.array([coords], dtype=float), shape, 64)).float(),
        point_labels=torch.tensor([labels]).float(),
        mask_input=torch.randn(1, 1, 16, 16),  # ignored
        has_mask_input=torch.zeros(1),
        orig_im_size=torch.tensor(shape).float(),
    )
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    given = np.array(points, dtype=np.float32).reshape(-1, 3)
    prompt = {"point_coords": given[:, :2], "point_labels": given[:, 2]} if points else {}
    prompt["box"] = None if box is None else np.array(box)
    for multimask, part in ((False, slice(0, 1)), (True, slice(1, 4))):
        expected = predictor.predict(**prompt, multimask_output=multimask, return_logits=True)
        for ours, theirs in zip((masks, estimate, low), expected, strict=True):
            np.testing.assert_allclose(ours[0, part], theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (200, 31), (75, 300)])
def test_exported_decoder_takes_any_image_size_and_earlier_masks(size, exported):
    folder, sam = exported
    inputs = dict(zip(sam_onnx.DECODER_INPUTS, sam_onnx.decoder_example(sam), strict=True))
    inputs["image_embeddings"] = torch.randn(1, 32, 4, 4)
    inputs["orig_im_size"] = torch.tensor(size).float()
    without, *_ = run_onnx(folder / "decoder.onnx", **inputs)
    inputs |= {"mask_input": torch.randn(1, 1, 16, 16), "has_mask_input": torch.ones(1)}
    masks, estimate, low = run_onnx(folder / "decoder.onnx", **inputs)
    assert masks.shape == (2, 4, *size) and np.abs(masks - without).max() > 1e-2
    for ours, expected in zip((masks, estimate, low), SamOnnxModel(sam, False)(*inputs.values()), strict=True):
        np.testing.assert_allclose(ours, expected.numpy(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("prompts", "points"), [(1, 1), (3, 2), (5, 4)])
def test_exported_decoder_answers_any_number_of_prompts_at_once(prompts, points, exported):
    folder, sam = exported
    inputs = dict(zip(sam_onnx.DECODER_INPUTS, sam_onnx.decoder_example(sam), strict=True))
    inputs["image_embeddings"] = torch.randn(1, 32, 4, 4)
    coords, labels = torch.rand(prompts, points, 2) * 64, torch.randint(0, 2, (prompts, points)).float()
    together = run_onnx(folder / "decoder.onnx", **{**inputs, "point_coords": coords, "point_labels": labels})
    for n in range(prompts):
        one = {**inputs, "point_coords": coords[n : n + 1], "point_labels": labels[n : n + 1]}
        expected = SamOnnxModel(sam, False)(*one.values())
        for all_answers, answer in zip(together, expected, strict=True):
            assert len(all_answers) == prompts
            np.testing.assert_allclose(all_answers[n], answer[0].numpy(), atol=1e-4, rtol=0)


def test_export_refuses_what_it_cannot_write(student, tmp_path, capsys):
    (tmp_path / "file").touch()
    for arguments, message in (
        (["--out", str(tmp_path / "new"), "--opset", "13"], "in opset 14 and newer"),
        (["--out", str(tmp_path / "file")], "is a file: give a folder"),
        (["--out", str(tmp_path / "new"), "--config", "gone.yaml"], "cannot read gone.yaml"),
    ):
        assert export.main(["--checkpoint", str(student), *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("points", [1, 3])
def test_a_single_mask_is_the_one_that_segment_anything_returns(points, exported):
    """For the newest opset, too, whose export of the decoder takes 20 seconds: the network that is written."""
    _, sam = exported
    inputs = dict(zip(sam_onnx.DECODER_INPUTS, sam_onnx.decoder_example(sam), strict=True))
    inputs["image_embeddings"] = torch.randn(1, 32, 4, 4)
    inputs["point_coords"], inputs["point_labels"] = torch.rand(1, points, 2) * 64, torch.ones(1, points)
    ours = sam_onnx.onnx_decoder(sam, True)(*inputs.values())
    for mine, theirs in zip(ours, SamOnnxModel(sam, return_single_mask=True)(*inputs.values()), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert ours[0].shape[1] == 1


def test_weights_of_8_bits_in_the_newest_opset(exported, tmp_path):
    folder, sam = exported
    path = Path(shutil.copy(folder / "encoder.onnx", tmp_path))
    images = torch.randn(2, 3, 64, 64)
    (rough,) = run_onnx(export.quantize(path), images=images)
    expected = sam.image_encoder(images).numpy()
    assert 0 < np.abs(rough - expected).mean() < 0.1 * expected.std()


@pytest.mark.parametrize(("opset", "single"), [(14, True)])
def test_older_opsets_single_masks_and_quantised_weights(opset, single, student, tmp_path):
    words = ["--checkpoint", str(student), "--out", str(tmp_path), "--opset", str(opset), "--quantize"]
    assert export.main([*words, *(["--return-single-mask"] if single else [])]) == 0
    sam = load_segmenter(student).requires_grad_(False)
    check_encoder(tmp_path / "encoder.onnx", sam)
    images = torch.randn(2, 3, 64, 64)
    expected = sam.image_encoder(images).numpy()
    (rough,) = run_onnx(tmp_path / "encoder.quantized.onnx", images=images)
    assert 0 < np.abs(rough - expected).mean() < 0.1 * expected.std()
    assert {entry.domain: entry.version for entry in onnx.load(tmp_path / "encoder.onnx").opset_import}[""] == opset
    inputs = dict(zip(sam_onnx.DECODER_INPUTS, sam_onnx.decoder_example(sam), strict=True))
    inputs["image_embeddings"] = torch.randn(1, 32, 4, 4)
    for points, size in ((1, (64, 64)), (3, (75, 300))):
        inputs["point_coords"], inputs["point_labels"] = torch.rand(2, points, 2) * 64, torch.ones(2, points)
        inputs["orig_im_size"] = torch.tensor(size).float()
        answers = run_onnx(tmp_path / "decoder.onnx", **inputs)
        rough = run_onnx(tmp_path / "decoder.quantized.onnx", **inputs)
        for n in range(2):
            one = {**inputs, "point_coords": inputs["point_coords"][n : n + 1], "point_labels": torch.ones(1, points)}
            wanted = SamOnnxModel(sam, return_single_mask=single)(*one.values())
            for ours, quantised, theirs in zip(answers, rough, wanted, strict=True):
                np.testing.assert_allclose(ours[n], theirs[0].numpy(), atol=1e-4, rtol=0)
                assert quantised.shape == ours.shape
        assert answers[0].shape == (2, 1 if single else 4, *size)
