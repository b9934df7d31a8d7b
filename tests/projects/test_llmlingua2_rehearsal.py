"""LLMLingua-2's paper configs, run on stand-ins from the first stage to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    found = rehearse(
        "llmlingua2", tmp_path, request, capsys, {"train": 2, "train_small": 1}, {"distill": 1, "evaluate": 9}
    )
    assert all({"train/loss", "val/accuracy"} <= set(metrics) for metrics in found.metrics("train"))
    assert all({"mistral_33", "rate_33", "faithful_33"} <= set(metrics) for metrics in found.metrics("evaluate"))
    (folder,) = found.folders("distill")
    assert '"compressed"' in (folder / "pairs.jsonl").read_text().splitlines()[0]
    for folder in found.folders("train"):
        assert (folder / "model/config.json").exists() and (folder / "model/tokenizer.json").exists()
    for arm in ("llmlingua2", "released_small", "open_teacher", "llmlingua", "full"):
        assert f"\n{arm} " in found.shown  # its row of the table
