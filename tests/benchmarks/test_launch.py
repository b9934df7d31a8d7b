"""What is submitted to SLURM, what is refused beforehand, what a job script does; SLURM's commands are stand-ins."""

import json
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import reproduce, status
from benchmarks.planning import stages
from benchmarks.running import launch, preflight, recipes
from benchmarks.running.launch import Launch, Queued
from benchmarks.running.recipes import Request, jobs, unique
from common.errors import UserError
from tests.benchmarks.demo import DONE

STUB = """#!/bin/sh
printf '%s' "$(basename "$0")" >>"$SAID"
for word in "$@"; do printf '\\037%s' "$word" >>"$SAID"; done
printf '\\n' >>"$SAID"
"""
STUBS = {
    "sinfo": "printf 'cpu*|2|(null)\\ngpu|4|gpu:8\\nbig|1|gpu:H100:8(S:0-1)\\n'",
    "squeue": 'cat "$QUEUE"',
    "scancel": "",
    "scontrol": "",
    "sleep": "",
    "srun": "exit ${SRUN_CODE:-0}",
    "sbatch": """
case $* in *"$REFUSED"*) [ -n "$REFUSED" ] && { echo "sbatch: error: no such thing" >&2; exit 1; };; esac
[ "$1" = --test-only ] || grep -c "^sbatch.--parsable" "$SAID" """,
}


class Cluster:
    """Stand-ins of SLURM's commands, and what they were called with."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.calls_file, self.queue, self.patch = folder / "calls", folder / "queue", patch
        (folder / "bin").mkdir()
        for name, body in STUBS.items():
            (folder / "bin" / name).write_text(STUB + body + "\n")
            (folder / "bin" / name).chmod(0o755)
        self.queue.touch()
        self.calls_file.touch()
        for variable, value in {"SAID": self.calls_file, "QUEUE": self.queue, "REFUSED": ""}.items():
            patch.setenv(variable, str(value))
        patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")

    def calls(self, name: str) -> list[list[str]]:
        """Arguments of every call of a command."""
        lines = [line.split("\x1f") for line in self.calls_file.read_text().splitlines()]
        return [words[1:] for words in lines if words[0] == name]

    def submissions(self) -> list[list[str]]:
        return [call for call in self.calls("sbatch") if call[0] == "--parsable"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(tmp_path, monkeypatch)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "my runs"


def submit(runs: Path, *more: str) -> int:
    return reproduce.main(["mobilesam", "--seeds", "2", "--launch", "slurm", "--runs", str(runs), *more])


def record(runs: Path) -> list[dict]:
    return json.loads((runs / "mobilesam/mini/slurm/jobs.json").read_text())


def finish(runs: Path, stage: str, seed: int) -> None:
    for entry in record(runs):
        if entry["stage"] == stage:
            Path(entry["tasks"][str(seed)], "done.json").write_text(
                json.dumps(DONE | {"wall_seconds": 3, "finished": "now"})
            )


def test_every_stage_is_submitted_once_after_what_it_reads_and_the_table_last(cluster, runs, capsys):
    assert submit(runs, "--partition", "gpu", "--time", "1:00:00", "--sbatch-args=--mem=8G --comment='two words'") == 0
    entries, asked = record(runs), unique(jobs(Request("mobilesam", seeds=2, runs=runs)))
    tasks = {path for entry in entries for path in entry["tasks"].values()}
    assert tasks == {str(job.run_dir) for job in asked} and sum(len(entry["tasks"]) for entry in entries) == len(tasks)
    number = {entry["fingerprint"]: entry["job"] for entry in entries}
    for job in asked:
        entry = next(entry for entry in entries if entry["fingerprint"] == job.fingerprint)
        assert set(entry["after"]) == {number[before.fingerprint] for before in job.upstream}
        assert entry["array"] is not job.stage.shared
    *stages, table = cluster.submissions()
    for call, entry in zip(stages, entries, strict=False):
        both = [word for word in call if word.startswith("--dependency=")]
        for number_ in entry["after"]:
            before = next(other for other in entries if other["job"] == number_)
            assert f"{'aftercorr' if before['array'] and entry['array'] else 'afterok'}:{number_}" in both[0]
        assert ("--array=0,1" in call) is entry["array"]
    assert table[1].count("afterany:") == len(stages) and entries[-1]["stage"] == "table"
    shown = capsys.readouterr().out
    assert all(f"job {entry['job']:>7}  {entry['stage']}" in shown for entry in entries)
    tested = [call for call in cluster.calls("sbatch") if call[0] == "--test-only"]
    assert len(tested) == len(entries)
    text = Path(entries[0]["script"]).read_text()
    more = "--mem=8G '--comment=two words'"
    for line in ("--partition=gpu", "--time=1:00:00", more, "--kill-on-invalid-dep=yes"):
        assert f"#SBATCH {line}\n" in text
    assert "--signal=USR1@" in text and "--requeue" in text and "--open-mode=append" in text


def test_a_job_script_runs_the_stage_as_the_harness_would(cluster, runs):
    submit(runs)
    for job in unique(jobs(Request("mobilesam", seeds=2, runs=runs))):
        entry = next(entry for entry in record(runs) if entry["fingerprint"] == job.fingerprint)
        assert subprocess.run(["bash", "-n", entry["script"]]).returncode == 0
        index = {} if job.stage.shared else {"SLURM_ARRAY_TASK_ID": str(job.seed)}
        ended = subprocess.run(["bash", entry["script"]], env=os.environ | index)
        assert ended.returncode == 0
        words = cluster.calls("srun")[-1]
        assert words[words.index("-m") + 1 :] == job.argv
    assert cluster.calls("scontrol") == []


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [(143, 0, True), (143, 9, True), (137, 0, True), (137, 3, False), (2, 0, False), (1, 0, False)],
)
def test_a_job_that_was_stopped_requeues_itself_and_one_that_failed_does_not(cluster, runs, code, restarts, again):
    submit(runs)
    variables = {"SRUN_CODE": str(code), "SLURM_RESTART_COUNT": str(restarts), "SLURM_JOB_ID": "77"}
    ended = subprocess.run(["bash", record(runs)[0]["script"]], env=os.environ | variables)
    assert ended.returncode == code
    assert cluster.calls("scontrol") == ([["requeue", "77"]] if again else [])
    variables |= {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "1"}
    subprocess.run(
        ["bash", next(entry["script"] for entry in record(runs) if entry["array"])], env=os.environ | variables
    )
    assert cluster.calls("scontrol")[1:] == ([["requeue", "70_1"]] if again else [])


def test_what_is_done_or_in_the_queue_is_not_submitted_again(cluster, runs, capsys):
    submit(runs, "--arms", "decoupled")
    first = {entry["stage"]: entry for entry in record(runs)}
    finish(runs, "sam", 0)
    finish(runs, "embed", 0)
    finish(runs, "distill", 1)
    cluster.queue.write_text(
        f"{first['distill']['job']}|0|RUNNING|None|1:00|n1\n{first['table']['job']}|N/A|PENDING|x|0|\n"
    )
    cluster.calls_file.write_text("sbatch\x1f--parsable\n" * 90)  # other ids from here on
    assert submit(runs, "--arms", "decoupled") == 0
    seed0, seed1, table = cluster.submissions()[90:]
    assert ["--array=0", f"--dependency=aftercorr:{first['distill']['job']}"] == seed0[1:3]
    assert seed1[1] == "--array=1" and "--dependency" not in " ".join(seed1)  # its distill is done
    assert f"afterany:{first['distill']['job']}" in table[1]
    assert cluster.calls("scancel") == [[first["table"]["job"]]]  # the earlier table
    assert [entry["stage"] for entry in record(runs)] == ["distill", "evaluate", "evaluate", "table"]
    capsys.readouterr()
    cluster.queue.write_text("".join(f"{e['job']}|{s}|PENDING|x|0|\n" for e in record(runs) for s in e["tasks"]))
    assert submit(runs, "--arms", "decoupled") == 2
    assert "all 3 stages that are left are in the queue" in capsys.readouterr().err
    assert submit(runs, "--arms", "decoupled", "--force") == 2
    assert "scancel" in capsys.readouterr().err
    assert Path(first["sam"]["tasks"]["0"], "done.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--partition", "gpus"], "unknown partition 'gpus': did you mean gpu"),
        (["--nodes", "3"], "NODES=3: partition cpu has 2 nodes"),
        (["--nodes", "0"], "at least one node"),
        (["--devices", "0,1"], "the number of devices per node"),
        (["--launch", "slum"], "unknown launcher 'slum': did you mean slurm"),
        (["--launch", "local", "--nodes", "2"], "NODES=2: that goes with LAUNCH=slurm"),
        (["--launch", "torchrun", "--time", "1"], "TIME=1: that goes with LAUNCH=slurm"),
        (["--scale", "rehearsal"], "leave LAUNCH=slurm out"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_submitted(cluster, runs, capsys, arguments, said):
    assert submit(runs, *arguments) == 2
    assert said in capsys.readouterr().err
    assert cluster.calls("sbatch") == [] and not runs.exists()


def test_paper_scale_needs_a_partition_with_gpus_and_not_a_gpu_on_the_login_node(cluster, tmp_path, monkeypatch):
    request = Request("mobilesam", "paper")
    assert launch.check_cluster(request, Launch("slurm", partition="gpu")) == ""
    assert launch.check_cluster(request, Launch("slurm", partition="big")) == "h100"
    with pytest.raises(UserError, match="trains on GPUs, and partition cpu has none. PARTITION=big or gpu has."):
        launch.check_cluster(request, Launch("slurm"))
    on_cpu = replace(recipes.load("mobilesam"), paper_on_cpu=True)
    monkeypatch.setattr(recipes, "load", lambda paper: on_cpu)
    assert launch.check_cluster(request, Launch("slurm")) == ""


def test_a_config_that_does_not_fit_the_gpu_is_refused(monkeypatch):
    planned = [
        SimpleNamespace(stage="distill", fits=True, peak=10e9, batch=8, largest_batch=64),
        SimpleNamespace(stage="coupled", fits=False, peak=91e9, batch=8, largest_batch=6),
    ]
    monkeypatch.setattr(stages, "plan", lambda *_, **__: planned)
    recipe, request = recipes.load("mobilesam"), Request("mobilesam", "paper")
    with pytest.raises(
        UserError, match=r"does not fit a h100 \(80 GB\):\n  - coupled: 91 GB at batch 8; .* fits is 6\n"
    ):
        preflight.check_memory(recipe, request, "h100")
    preflight.check_memory(recipe, replace(request, args=("--data.batch_size", "4")), "h100")  # who knows
    preflight.check_memory(recipe, request, "unheard-of")
    preflight.check_memory(replace(recipe, plan=""), request, "h100")


def test_without_slurm_nothing_is_written(runs, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert submit(runs) == 2
    assert "there is no SLURM here" in capsys.readouterr().err and not runs.exists()


def test_a_script_that_slurm_would_not_run_stops_all_before_the_first_submission(cluster, runs, monkeypatch, capsys):
    monkeypatch.setenv("REFUSED", "distill")
    assert submit(runs) == 2
    assert "no such thing" in capsys.readouterr().err and cluster.submissions() == []


def test_a_submission_that_fails_half_way_is_taken_back(cluster, runs, monkeypatch, capsys):
    monkeypatch.setenv("REFUSED", "--dependency=afterok:1,afterok:3")
    assert submit(runs) == 2
    assert "nothing was submitted" in capsys.readouterr().err
    submitted = len(cluster.submissions()) - 1  # the last one was refused
    assert submitted > 1 and cluster.calls("scancel") == [[str(k + 1) for k in range(submitted)]]
    assert not (runs / "mobilesam/mini/slurm/jobs.json").exists()


def test_a_dry_run_writes_the_scripts_and_prints_lines_for_the_shell(cluster, runs, capsys):
    assert submit(runs, "--dry-run", "--arms", "decoupled") == 0
    lines = capsys.readouterr().out
    assert cluster.calls("sbatch") == []
    subprocess.run(["bash", "-ec", lines], check=True)
    assert [Path(call[-1]).name.split("-")[1] for call in cluster.submissions()][:3] == [
        "sam",
        "embed",
        "distill",
    ]
    assert "--dependency=afterok:1" in cluster.submissions()[1]


def test_nodes_are_part_of_what_a_stages_outputs_follow_from():
    one, same, two = (unique(jobs(Request("mobilesam", nodes=nodes)))[0] for nodes in (1, 1, 2))
    assert one.fingerprint == same.fingerprint != two.fingerprint
    assert two.argv[two.argv.index("--trainer.num_nodes") + 1] == "2" and "--trainer.num_nodes" not in one.argv


def test_torchrun_starts_every_stage_with_the_devices_asked_for(runs, capsys):
    arguments = ["mobilesam", "--launch", "torchrun", "--devices", "2", "--dry-run", "--runs", str(runs)]
    assert reproduce.main(arguments) == 0
    for line in capsys.readouterr().out.splitlines():
        words = shlex.split(line)
        start = words.index("torch.distributed.run")
        assert words[start + 1 : start + 4] == ["--standalone", "--nproc-per-node=2", "-m"]
        assert words[words.index("--trainer.devices") + 1] == "2"


def test_collecting_runs_nothing_and_says_what_is_missing(runs, capsys):
    assert reproduce.main(["mobilesam", "--seeds", "1", "--runs", str(runs), "--collect"]) == 1
    shown = capsys.readouterr().out
    assert "0 of " in shown and "stages have finished" in shown and "not finished decoupled" in shown


def test_status_says_where_every_job_stands(cluster, runs, tmp_path, capsys):
    submit(runs, "--arms", "decoupled")
    entries = {entry["stage"]: entry for entry in record(runs)}
    finish(runs, "sam", 0)
    Path(entries["embed"]["tasks"]["0"], "log.txt").write_text("Traceback\nValueError: no scene\nsrun: error: n1\n")
    Path(entries["distill"]["tasks"]["0"], "progress.json").write_text(
        '{"step": 30, "total": 100, "loss": 0.5, "seconds_left": 700}'
    )
    Path(entries["distill"]["tasks"]["1"], "config.yaml").touch()
    job = {name: entry["job"] for name, entry in entries.items()}
    cluster.queue.write_text(
        f"{job['embed']}|N/A|FAILED|NonZeroExitCode|0:10|n1\n"
        f"{job['distill']}|0|RUNNING|None|5:00|n1\n{job['distill']}|1|PENDING|BeginTime|0:00|\n"
        f"{job['evaluate']}|0|CANCELLED|DependencyNeverSatisfied|0:00|\n{job['evaluate']}|1|PENDING|Dependency|0:00|\n"
    )
    assert status.main(["mobilesam", "--runs", str(runs)]) == 0
    lines = {tuple(line.split()[:2]): " ".join(line.split()[2:]) for line in capsys.readouterr().out.splitlines()}
    assert lines[job["sam"], "sam"] == "done 3 s, now"
    assert lines[job["embed"], "embed"].startswith("failed ValueError: no scene (log: ")
    assert lines[f"{job['evaluate']}_0", "evaluate"] == "0 cancelled a stage it reads from has failed"
    assert lines[f"{job['distill']}_0", "distill"] == "0 running step 30 of 100, 12 min left, on n1, 5:00"
    assert lines[f"{job['distill']}_1", "distill"] == "1 requeued BeginTime"
    assert lines[f"{job['evaluate']}_1", "evaluate"] == "1 waiting Dependency"
    assert lines[job["table"], "table"].startswith("gone it left no log")


def test_status_of_what_was_never_submitted(cluster, runs, capsys):
    assert status.main(["mobilesam", "--runs", str(runs)]) == 2
    assert "make reproduce PAPER=mobilesam LAUNCH=slurm" in capsys.readouterr().err
    assert status.main(["mobilesan", "--runs", str(runs)]) == 2
    assert "did you mean mobilesam" in capsys.readouterr().err


def test_a_job_is_live_until_it_has_ended():
    entry = {"job": "5", "array": True, "tasks": {"0": "x"}}
    assert launch.is_live(entry, "0", {("5", "0"): Queued("COMPLETING", "", "", "")})
    assert not launch.is_live(entry, "0", {("5", "0"): Queued("TIMEOUT", "", "", "")})
    assert not launch.is_live(entry, "0", {("5", "1"): Queued("RUNNING", "", "", "")})
    assert recipes.names()
