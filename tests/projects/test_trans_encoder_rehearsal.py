"""Trans-Encoder's paper configs, run on stand-ins from the first stage to the table."""

from tests.projects.rehearsing import rehearse

FITS = {
    "cross": 2, "bi": 2, "cross_classes": 1, "bi_classes": 1,  # mutual distillation trains two language models
    "contrast_longer": 1, "contrast_pairs": 1, "supervised_cross": 1,
}  # fmt: skip
EVALUATIONS = {"evaluate": 4, "evaluate_qqp": 1, "evaluate_qnli": 1, "evaluate_mrpc": 1, "evaluate_transfer": 1}
ARMS = ("lexical", "mutual", "self_qqp", "self_qnli", "self_mrpc", "self_transfer", "simcse_longer", "supervised_cross")
SETS = ("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sickr")


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    found = rehearse("trans_encoder", tmp_path, request, capsys, FITS, EVALUATIONS)
    for arm in ARMS:
        assert f"\n{arm} " in found.shown  # its row of the table
    for stage in FITS:
        for folder in found.folders(stage):
            left = {path.name for path in folder.glob("model/*")}
            assert left >= {"config.json", "model.safetensors", "tokenizer.json"}
        assert all("val/score" in metrics for metrics in found.metrics(stage))
    wanted = {"bi_ensemble", "cross_ensemble", *(f"bi_{name}" for name in SETS)}
    assert any(wanted <= set(metrics) for metrics in found.metrics("evaluate"))
