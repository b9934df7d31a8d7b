"""Controllable multi-task's paper configs, run on stand-ins, to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    trained = {"train": 2, "train_pascal": 1, "train_cityscapes": 1, "train_cifar100": 1}
    measured = {"evaluate": 3, "evaluate_pascal": 1, "evaluate_cityscapes": 1, "evaluate_cifar100": 1}
    found = rehearse("controllable_mtl", tmp_path, request, capsys, trained, measured)
    for stage in measured:
        for metrics in found.metrics(stage):
            assert metrics["over"] <= 1 + 1e-9 and 0 <= metrics["served"] <= 1
