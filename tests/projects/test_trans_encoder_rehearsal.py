"""Trans-Encoder's paper configs, run on stand-ins from the first stage to the table."""

import json

import pytest

from benchmarks import report, reproduce

FITS = {"cross", "bi", "contrast_longer", "supervised_cross"}
ARMS = ("lexical", "simcse", "simcse_roberta", "self", "self_roberta", "mutual", "mutual_roberta", "continued")


@pytest.fixture(scope="module")
def rehearse(tmp_path_factory):
    """Runs the rehearsal; returns exit code and run folder."""
    root = tmp_path_factory.mktemp("rehearsal")

    def run():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report, "REPORTS", root / "reports")
            patch.setenv("WANDB_MODE", "disabled")
            code = reproduce.main(["trans_encoder", "--scale", "rehearsal", "--runs", str(root / "runs")])
        return code, root / "runs/trans_encoder/rehearsal"

    return run


def test_every_stage_runs_resumes_and_ends_in_the_table(rehearse, capsys):
    code, runs = rehearse()
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert "covered: 5 of 5 stages" in shown
    assert shown.count("resumed after step 1 with equal weights") == len(FITS)
    for arm in ARMS:
        assert f"\n{arm} " in shown  # its row of the table
    for folder in runs.glob("*/seed0"):
        stage = folder.parent.name.rpartition("-")[0]
        if stage in FITS:
            assert {path.name for path in folder.glob("model/*")} >= {
                "config.json",
                "model.safetensors",
                "tokenizer.json",
            }
            assert "val/score" in json.loads((folder / "done.json").read_text())["metrics"]
    sets = ("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sickr")
    measured = [json.loads(file.read_text())["metrics"] for file in runs.glob("evaluate-*/seed0/done.json")]
    assert any({"bi_ensemble", "cross_ensemble", *(f"bi_{name}" for name in sets)} <= set(found) for found in measured)
