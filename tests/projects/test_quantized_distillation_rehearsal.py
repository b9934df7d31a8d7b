"""Quantized distillation's paper configs, run for two steps each, to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    trained = {"teacher": 1, "whole_weights": 2, "quantized_2": 1, "quantized_4": 1, "quantized_8": 1}
    trained |= {"points_2": 1, "points_4": 1, "deeper": 1}
    measured = {"evaluate_teacher": 1, "evaluate_whole": 1, "evaluate_quantized_2": 3, "evaluate_quantized_4": 2}
    measured |= {"evaluate_quantized_8": 1, "evaluate_deeper": 1, "noise": 1}
    found = rehearse("quantized_distillation", tmp_path, request, capsys, trained, measured)
    for metrics in found.metrics("evaluate_quantized_2"):
        assert 0 < metrics["bits"] < 4 and 0 <= metrics["accuracy"] <= 1
    [noise] = found.metrics("noise")
    assert noise["noise_bias"] < 0.03 and noise["noise_variance"] > 0.9
