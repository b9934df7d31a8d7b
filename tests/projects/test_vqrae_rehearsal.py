"""VQRAE's paper configs, run on stand-ins from the first stage to the table."""

import json

from benchmarks import report, reproduce

FITS = {"stage1", "codebook", "stage2", "one_stage", "rae", "full_stage1", "full_stage2", "prior"}
RUNS = {name: 1 for name in FITS} | {"full_stage1": 2, "full_stage2": 2, "evaluate": 6, "sample": 1}


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "REPORTS", tmp_path / "reports")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    code = reproduce.main(["vqrae", "--scale", "rehearsal", "--runs", str(tmp_path / "runs")])
    shown = capsys.readouterr().out
    assert code == 0, shown
    runs = tmp_path / "runs/vqrae/rehearsal"
    done = {name: list(runs.glob(f"{name}-*/seed0/done.json")) for name in RUNS}
    assert {name: len(files) for name, files in done.items()} == RUNS
    assert f"covered: {len(RUNS)} of {len(RUNS)} stages" in shown
    assert shown.count("resumed after step 1 with equal weights") == len(FITS)
    for file in done["evaluate"]:
        metrics = json.loads(file.read_text())["metrics"]
        assert {"psnr", "ssim", "rfid", "lpips", "probe_continuous", "probe_discrete"} <= set(metrics)
    folder = done["sample"][0].parent
    assert (folder / "geneval/00000/metadata.jsonl").exists() and (folder / "dpg/0.png").exists()
    assert len(list((folder / "geneval/00000/samples").glob("*.png"))) == 4
