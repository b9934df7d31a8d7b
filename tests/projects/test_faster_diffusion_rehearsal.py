"""Faster Diffusion's paper configs, run on stand-ins to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_and_ends_in_the_table(tmp_path, request, capsys):
    # arms that differ in a number share their stages here
    rehearse("faster_diffusion", tmp_path, request, capsys, {}, {"sample": 5, "changes": 1, "cost": 1})
