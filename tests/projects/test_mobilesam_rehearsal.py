"""MobileSAM's paper configs, run on stand-ins from the first stage to the table."""

import torch

from benchmarks import report, reproduce
from common.models.sam import SamConfig, build_sam
from common.models.tiny_vit import TinyViT
from common.recipe import walk
from common.training.weights import load_state
from projects.mobilesam.harness.rehearsal import SAM, STUDENT, make
from projects.mobilesam.recipe import RECIPE
from tests.projects.rehearsing import rehearse

ARMS = RECIPE.arms("rehearsal")
FITS = {stage.name: 1 for arm in ARMS.values() for stage in walk(arm.stages) if stage.run == "fit"}


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys, monkeypatch):
    found = rehearse("mobilesam", tmp_path, request, capsys, FITS, {"embed": 1, "evaluate": 4, "evaluate_vit_b": 2})
    for arm in ARMS:
        assert f"\n{arm} " in found.shown  # its row of the table
    for stage in FITS:
        (folder,) = found.folders(stage)
        assert {path.name for path in folder.glob("checkpoints/*.ckpt")} == {"step=1.ckpt", "step=2.ckpt"}
        assert {"train/loss", "val/miou_point", "val/miou_two_points", "val/miou_box"} <= set(found.metrics(stage)[0])
    student = sum(p.numel() for p in TinyViT(STUDENT).parameters())
    for folder, metrics in zip(found.folders("evaluate"), found.metrics("evaluate"), strict=True):
        own = "encoder: teacher" in (folder / "config.yaml").read_text()
        assert (metrics["encoder_params"] == student) is not own  # in spite of the teacher's size
        assert (metrics["miou_teacher_point"] == 1) >= own

    monkeypatch.setattr(report, "REPORTS", tmp_path / "reports")
    assert reproduce.main(["mobilesam", "--scale", "rehearsal", "--runs", str(tmp_path / "runs")]) == 0
    assert "\n0 stages run" in capsys.readouterr().out


def test_the_stand_in_checkpoint_has_the_keys_of_the_published_one(tmp_path):
    make(tmp_path)
    stand_in = load_state(tmp_path / "weights/sam_vit_h_4b8939.pth")
    with torch.device("meta"):
        published = build_sam(SamConfig()).state_dict()
    blocks = [key.split(".")[2] if ".blocks." in key else "0" for key in published]
    assert list(stand_in) == [k for k, block in zip(published, blocks, strict=True) if int(block) < SAM.depth]
    smaller = {key.split(".")[0] for key in stand_in if stand_in[key].shape != published[key].shape}
    assert len(published) == 594 and smaller == {"image_encoder", "mask_decoder"}
    assert all(".mlp." in key for key in stand_in if stand_in[key].shape != published[key].shape and "mask_d" in key)
