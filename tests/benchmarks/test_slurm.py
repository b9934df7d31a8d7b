"""On a real SLURM of two nodes (scripts/slurm_local.sh): interrupted stages end as if nothing had happened."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.new_recipe import ROOT, create

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "srun")
PATH = f"{os.environ['PATH']}:/usr/sbin"
ABSENT = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        bool(ABSENT),
        reason=f"no SLURM on this machine ({', '.join(ABSENT)}): apt-get install slurmctld slurmd slurm-client munge",
    ),
    pytest.mark.skipif(os.getuid() != 0, reason="scripts/slurm_local.sh starts SLURM's daemons as root"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running two-node SLURM; the environment in which its commands work."""
    folder = tmp_path_factory.mktemp("slurm")
    script = ROOT / "scripts/slurm_local.sh"
    subprocess.run([script, "up", folder], check=True)
    try:
        said = subprocess.run([script, "env", folder], check=True, capture_output=True, text=True).stdout
        yield os.environ | {"PATH": PATH, "WANDB_MODE": "offline"} | dict(re.findall(r"(\w+)='?([^\s']+)", said))
    finally:
        subprocess.run([script, "down", folder], check=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with one small recipe, which has a broken arm beside the others."""
    folder = tmp_path_factory.mktemp("project")
    for part in ("common", "benchmarks"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "results"))
    (folder / "projects").mkdir()
    shutil.copy(ROOT / "projects/__init__.py", folder / "projects")
    create("small", folder)
    for config in (folder / "projects/small/configs/mini").glob("*er.yaml"):
        config.write_text(config.read_text().replace("150", "200").replace("50", "20"))
    recipe = folder / "projects/small/recipe.py"
    broken = '"broken": Arm([evaluate(student(**{"model.lr": "much"}), 8)], "fails"),'
    recipe.write_text(recipe.read_text().replace('"distilled": Arm', f'{broken}\n        "distilled": Arm'))
    return folder


@pytest.fixture
def run(cluster: dict[str, str], project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a module of the project's copy, or one of SLURM's commands, to its end."""

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        words = command if shutil.which(command[0], path=PATH) else (sys.executable, "-m", *command)
        environment = {name: value for name, value in cluster.items() if name != "RUNS"}  # the copy's own folder
        return subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True)

    return run


def wait_for(what: Callable[[], object], run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Wait until something is so; the queue, if it never is."""
    until = time.monotonic() + 300
    while not what():
        assert time.monotonic() < until, run("squeue", "--array", "--states=all").stdout
        time.sleep(0.2)


def metrics(project: Path, runs: str) -> dict[str, dict]:
    """What finished stages measured, by stage and seed: `student-<fingerprint>/seed0`."""
    done = (project / runs / "small/mini").glob("*/seed*/done.json")
    return {"/".join(file.parts[-3:-1]): json.loads(file.read_text())["metrics"] for file in done}


def test_interrupted_jobs_end_like_undisturbed_ones_and_a_failure_stops_only_what_depends_on_it(run, project: Path):
    command = ("benchmarks.reproduce", "small", "--seeds", "2", "--arms")
    reference = run(*command, "distilled", "--runs", "undisturbed")
    assert reference.returncode == 0, reference.stdout + reference.stderr

    submitted = run(*command, "distilled,broken", "--launch", "slurm")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    runs = project / "runs/small/mini"
    jobs = {(entry["stage"], *entry["arms"]): entry for entry in json.loads((runs / "slurm/jobs.json").read_text())}
    teacher, students = jobs["teacher", "distilled"], jobs["student", "distilled"]
    broken = jobs["student", "broken"]
    assert teacher["array"] is False and students["after"] == [teacher["job"]]

    def saved(entry: dict, seed: str) -> bool:
        return any((project / entry["tasks"][seed]).glob("checkpoints/step=*.ckpt"))

    wait_for(lambda: saved(teacher, "0"), run)
    os.kill(int((project / teacher["tasks"]["0"] / ".lock").read_text()), signal.SIGKILL)
    wait_for(lambda: saved(students, "0"), run)
    assert run("scontrol", "requeue", f"{students['job']}_0").returncode == 0
    wait_for(lambda: saved(students, "1"), run)
    assert run("scancel", "--signal=USR1", f"{students['job']}_1").returncode == 0  # what the time limit does
    now = run("benchmarks.status", "small").stdout
    assert re.search(rf"{teacher['job']} +teacher +done", now), now
    assert re.search(rf"{broken['job']}_1 +student +1 +(failed|waiting)", now), now
    wait_for(lambda: not run("squeue", "--noheader").stdout, run)

    assert metrics(project, "runs") == metrics(project, "undisturbed") and len(metrics(project, "runs")) == 5
    for entry, seed in ((teacher, "0"), (students, "0"), (students, "1")):
        log = (project / entry["tasks"][seed] / "log.txt").read_text()
        assert log.count("continuing from") == 1, log  # and nobody else's interruption touched it
        assert "SystemExit" not in log, log  # no traceback of an interruption
    assert "goes on from the last checkpoint" in (project / students["tasks"]["1"] / "log.txt").read_text()
    table = (runs / "slurm/table.txt").read_text()
    assert "distilled" in table and "5 of 9 stages have finished" in table
    ended = run("benchmarks.status", "small").stdout
    assert re.search(rf"{jobs['evaluate', 'broken']['job']}_0 +evaluate +0 +cancelled", ended), ended
    assert "much" in ended  # the reason of the failure


def test_two_nodes_come_to_what_two_processes_of_one_machine_do(run, project: Path):
    command = ("benchmarks.reproduce", "small", "--seeds", "1", "--arms", "labels", "--args=--trainer.max_steps 20")
    submitted = run(*command, "--launch", "slurm", "--nodes", "2", "--runs", "nodes")
    assert submitted.returncode == 0, submitted.stderr
    reference = run(*command, "--launch", "torchrun", "--devices", "2", "--runs", "processes")
    assert reference.returncode == 0, reference.stdout
    wait_for(lambda: not run("squeue", "--noheader").stdout, run)
    (student,) = (project / "nodes/small/mini").glob("student-*/seed0")
    script = next((project / "nodes/small/mini/slurm").glob("*-student-*.sh")).read_text()
    assert "--nodes=2 --ntasks-per-node=1" in script, script
    assert (student / "done.json").exists(), (student / "log.txt").read_text()
    nodes, processes = (
        {name.split("-")[0]: measured for name, measured in metrics(project, runs).items()}
        for runs in ("nodes", "processes")
    )
    assert nodes == processes and set(nodes) == {"student", "evaluate"}
