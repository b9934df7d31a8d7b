"""MobileSAM's paper configs, run on stand-ins from the first stage to the table."""

import json

import pytest
import torch

from benchmarks import report, reproduce
from common.models.sam import SamConfig, build_sam
from common.training.weights import load_state
from projects.mobilesam.rehearsal import make

STAGES = {"embed", "distill", "semi_coupled", "coupled", "decoder_finetuning", "evaluate"}
FITS = STAGES - {"embed", "evaluate"}


@pytest.fixture(scope="module")
def rehearse(tmp_path_factory):
    """Runs the rehearsal; every call in the same folder. Returns exit code and run folder."""
    root = tmp_path_factory.mktemp("rehearsal")

    def run():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report, "REPORTS", root / "reports")
            patch.setenv("WANDB_MODE", "offline")
            code = reproduce.main(["mobilesam", "--scale", "rehearsal", "--runs", str(root / "runs")])
        return code, root / "runs/mobilesam/rehearsal"

    return run


def folders(runs, stage):
    return [path.parent for path in runs.glob(f"{stage}-*/seed0/done.json")]


def test_every_stage_runs_resumes_and_ends_in_the_table(rehearse, capsys):
    code, runs = rehearse()
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert {stage: len(folders(runs, stage)) for stage in STAGES} == {stage: 1 for stage in STAGES} | {"evaluate": 6}
    assert "covered: 6 of 6 stages" in shown
    assert shown.count("resumed after step 1 with equal weights") == len(FITS)
    for arm in ("teacher", "decoupled", "semi_coupled", "coupled", "decoupled_finetuned", "untrained"):
        assert f"\n{arm} " in shown  # its row of the table
    for stage in FITS:
        (folder,) = folders(runs, stage)
        assert "continuing from" in (folder / "log.txt").read_text()
        assert {path.name for path in folder.glob("checkpoints/*.ckpt")} == {"step=1.ckpt", "step=2.ckpt"}
        metrics = json.loads((folder / "done.json").read_text())["metrics"]
        assert {"train/loss", "val/miou_point", "val/miou_two_points", "val/miou_box"} <= set(metrics)
    for folder in folders(runs, "evaluate"):  # the real student's size, in spite of the small teacher
        metrics = json.loads((folder / "done.json").read_text())["metrics"]
        own = "encoder: teacher" in (folder / "config.yaml").read_text()
        assert (metrics["encoder_params"] == 5_743_892) is not own
        assert (metrics["miou_teacher_point"] == 1) >= own

    code, _ = rehearse()
    shown = capsys.readouterr().out
    assert code == 0 and "\n0 stages run" in shown and "covered: 6 of 6 stages" in shown


def test_the_stand_in_checkpoint_has_the_keys_of_the_published_one(tmp_path):
    make(tmp_path)
    stand_in = load_state(tmp_path / "weights/sam_vit_h_4b8939.pth")
    with torch.device("meta"):
        published = build_sam(SamConfig()).state_dict()
    assert list(stand_in) == list(published) and len(published) == 594
    decoder = [key for key in published if key.startswith("mask_decoder.")]
    assert all(stand_in[key].shape == published[key].shape for key in decoder)  # only the image encoder is smaller
