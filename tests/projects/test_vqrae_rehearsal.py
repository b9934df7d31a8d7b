"""VQRAE's paper configs, run on stand-ins from the first stage to the table."""

import pytest

from tests.projects.rehearsing import rehearse

FITS = {"stage1": 1, "stage2": 1, "one_stage": 1, "rae": 1, "full_stage1": 1, "full_stage2": 1, "prior": 1}


@pytest.mark.timeout(900)  # minutes on two busy cores
def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    found = rehearse("vqrae", tmp_path, request, capsys, FITS, {"evaluate": 6, "sample": 1})
    measured = {"psnr", "psnr_val", "psnr_floor_val", "ssim", "rfid", "lpips", "probe_continuous", "probe_discrete"}
    assert all(measured <= set(metrics) for metrics in found.metrics("evaluate"))
    drawn = found.folders("sample")[0]
    assert (drawn / "geneval/00000/metadata.jsonl").exists() and (drawn / "dpg/0.png").exists()
    assert len(list((drawn / "geneval/00000/samples").glob("*.png"))) == 4
