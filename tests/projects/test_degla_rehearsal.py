"""DeGLA's paper configs, run for two steps each, to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    found = rehearse("degla", tmp_path, request, capsys, {"finetune": 4}, {"evaluate": 6})
    for metrics in found.metrics("evaluate"):
        assert all(0 <= metrics[name] <= 100 for name in ("composition", "swap", "valse", "aro", "zero_shot"))
        assert {"imagenet", "cifar100", "valse_counting", "aro_flickr", "zero_shot_val"} <= metrics.keys()
