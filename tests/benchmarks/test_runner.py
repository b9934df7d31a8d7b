"""`make reproduce` from the command line to the table: what runs, what does not, and what happens on a failure."""

import io
import json
import multiprocessing.forkserver as forkserver
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import reproduce
from benchmarks.running import preflight, recipes, runner
from benchmarks.running.recipes import Job
from common.recipe import Stage
from common.training.runs import locked
from tests.benchmarks.demo import DONE, ran, request

Pool = runner.Pool  # before the demonstration project replaces it


def fault(project: Path, where: str, text: str) -> Path:
    """Have a stage fail; `where` is `<stage>-<kind>-<seed>`."""
    file = project / "faults" / where
    file.write_text(text)
    return file


def run(project: Path, *options: str) -> int:
    return reproduce.main(["demo", "--runs", str(project / "runs"), "--jobs", "2", *options])


def measured(project: Path) -> dict[str, list[str]]:
    """The arms and seeds of the results file."""
    found = json.loads((project / "runs/demo/mini/results.json").read_text())
    return {arm: list(entry["seeds"]) for arm, entry in found["arms"].items()}


def test_a_paper_from_one_command_to_its_table_and_then_nothing_more_to_do(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "--seeds", "2") == 0
    shown = capsys.readouterr().out
    assert ran(project) == 1 + 2 * 2 + 3 * 2
    assert "3 arms, 2 seeds, 11 stages, 0 of them done before" in shown and "11 stages run in" in shown
    order = [
        "A demonstration at mini scale",
        "method ",
        "plain ",
        "claims: 1 confirmed",
        "runs/demo/mini/results.json",
        "report ",
    ]
    assert [shown.index(text) for text in order] == sorted(shown.index(text) for text in order)
    assert measured(project) == {"method": ["0", "1"], "plain": ["0", "1"], "untrained": ["0", "1"]}
    page = Path(shown.split("report   ")[1].splitlines()[0])
    assert page == project / "reports/demo.mini.html" and "confirmed" in page.read_text()

    before = (project / "runs/demo/mini/results.json").read_bytes()
    assert run(project, "--seeds", "2") == 0
    shown = capsys.readouterr().out
    assert ran(project) == 11 and "11 of them done before" in shown and "\n0 stages run in" in shown
    assert "claims: 1 confirmed" in shown and (project / "runs/demo/mini/results.json").read_bytes() == before

    assert run(project, "--arms", "plain", "--seeds", "3") == 0  # one more seed of one arm
    assert ran(project) == 11 + 2
    assert measured(project) == {"method": ["0", "1"], "plain": ["0", "1", "2"], "untrained": ["0", "1"]}


def test_no_run_touches_the_reference(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = project / "results/demo.mini.json"
    assert run(project, "--seeds", "2") == 0
    reference.parent.mkdir()
    shutil.copy(project / "runs/demo/mini/results.json", reference)
    before = reference.read_bytes()
    capsys.readouterr()
    assert run(project, "--seeds", "3", "--args=--model.size 7") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "reference: 1 of 1 verdicts agree with the reference; the reference is of other code or settings" in shown
    assert reference.read_bytes() == before


def test_a_pilot_is_kept_apart(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "--seeds", "100-101") == 0
    shown = capsys.readouterr().out
    assert "a pilot" in shown and "pilot.json" in shown and "demo.mini-pilot.html" in shown
    assert not (project / "runs/demo/mini/results.json").exists() and not (project / "reports/demo.mini.html").exists()
    assert list(json.loads((project / "runs/demo/mini/pilot.json").read_text())["arms"]["plain"]["seeds"]) == [
        "100",
        "101",
    ]


@pytest.mark.parametrize("seeds", ["0", "-1", "many", "5-9", "104-100", "1.5", "100-"])
def test_seeds_that_are_none_are_refused(project: Path, capsys: pytest.CaptureFixture[str], seeds: str) -> None:
    assert run(project, f"--seeds={seeds}") == 2
    assert f"SEEDS={seeds}" in capsys.readouterr().err and ran(project) == 0


def test_code_that_changes_while_it_runs_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = project / "projects/demo/stage.py"
    stage.write_text(stage.read_text().replace("def main", "Path(__file__).open('a').write('#')\ndef main"))
    assert run(project, "--seeds", "1", "--arms", "untrained") == 0
    assert "its code or configs were changed while it ran" in capsys.readouterr().out
    assert not (project / "results").exists()


def test_force_runs_the_recipes_own_stages_again(project: Path) -> None:
    assert run(project, "--seeds", "1", "--arms", "plain") == 0
    (teacher,) = project.glob("runs/foundations/mini/teacher-*/seed0/done.json")
    before = teacher.stat().st_mtime_ns
    assert run(project, "--seeds", "1", "--arms", "plain", "--force") == 0
    assert ran(project) == 3 and teacher.stat().st_mtime_ns == before  # the two others left nothing but their last run


def test_a_failure_stops_what_depends_on_it_and_nothing_else(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = fault(project, "train-plain-1", "error: the loss is nan [step 7]\nLower the learning rate.")
    assert run(project, "--seeds", "2") == 2
    shown = capsys.readouterr().out
    assert "failed plain, seed 1: train: the loss is nan [step 7]\nLower the learning rate." in shown
    assert "1 stages failed, 1 were not started because of that; the same command goes on from here" in shown
    assert measured(project) == {"method": ["0", "1"], "plain": ["0"], "untrained": ["0", "1"]}
    assert "claims: 1 inconclusive" in shown  # one paired seed
    before = ran(project)
    broken.unlink()
    assert run(project, "--seeds", "2") == 0
    assert ran(project) == before + 2 and "claims: 1 confirmed" in capsys.readouterr().out


def test_a_failed_foundation_leaves_what_does_not_need_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault(project, "teacher-teacher-0", "Traceback\nZeroDivisionError")
    assert run(project, "--seeds", "1") == 1
    shown = capsys.readouterr().out
    assert "failed 2 arms, all seeds: teacher: exit 1, log " in shown and "\n  ZeroDivisionError" in shown
    assert "1 stages failed, 4 were not started" in shown and measured(project) == {"untrained": ["0"]}


def test_where_nothing_has_finished_nothing_is_reported(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault(project, "evaluate-untrained-0", "killed")
    assert run(project, "--seeds", "1", "--arms", "untrained") == 1
    shown = capsys.readouterr().out
    assert "killed by signal 9; the same command continues from its last checkpoint (log: " in shown
    assert "no arm has finished" in shown and not (project / "results").exists() and not (project / "reports").exists()


def test_a_second_reproduction_waits_for_the_first(project: Path) -> None:
    script = (
        "import sys, pytest; from pathlib import Path; from benchmarks import reproduce\n"
        "from tests.benchmarks.demo import make_project\n"
        "patch = pytest.MonkeyPatch(); root = Path(sys.argv[1])\n"
        "make_project(root, patch)\n"
        "sys.exit(reproduce.main(['demo', '--runs', str(root / 'runs'), '--seeds', '1', '--arms', 'untrained']))"
    )
    shutil.rmtree(project / "papers"), shutil.rmtree(project / "faults")
    root = Path(__file__).resolve().parents[2]
    with locked(project / "runs/demo/mini", "the first"):
        second = subprocess.Popen(
            [sys.executable, "-c", script, str(project)],
            cwd=root,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert second.stderr is not None
        said = second.stderr.readline()
        assert said == (
            f"a reproduction of demo at mini is already running (process {os.getpid()}); waiting for it\n"
        ), second.communicate()
        assert second.poll() is None and ran(project) == 0
    output, errors = second.communicate(timeout=240)
    assert second.returncode == 0 and "1 stages run" in output, errors
    assert measured(project) == {"untrained": ["0"]}


@pytest.mark.skipif(not Path("/sys").exists(), reason="no /sys, where not even root may create a folder")
def test_run_folders_that_cannot_be_written_are_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(["demo", "--runs", "/sys/runs"]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: no access to /sys/runs") and "RUNS=<folder>" in shown.err
    assert shown.err.count("\n") == 1 and not (project / "results").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"mounting a small file system needs more rights: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_what_was_there_stays(
    project: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["demo", "--runs", str(small_disk / "runs"), "--seeds", "1", "--arms", "plain"]
    script = project / "projects/demo/train.py"
    filling = "import sys\nfrom pathlib import Path\nif not Path('roomy').exists():\n"
    filling += "    with open(Path(sys.argv[-1], 'big'), 'wb') as file:\n        file.write(bytes(10**6))\n"
    script.write_text(filling + script.read_text())  # the second of three stages fills the disk
    assert reproduce.main(options) in (1, 2)
    shown = capsys.readouterr()
    said = shown.out + shown.err
    assert "the disk is full: 0 MiB are left at " in said and str(small_disk) in said and "same command again" in said
    (teacher,) = small_disk.glob("runs/foundations/mini/teacher-*/seed0/done.json")
    assert json.loads(teacher.read_text())["wall_seconds"] == 4.0

    (project / "roomy").touch()
    for big in small_disk.rglob("big"):
        big.unlink()
    assert reproduce.main(options) == 0
    assert "1 of them done before" in capsys.readouterr().out
    assert json.loads((small_disk / "runs/demo/mini/results.json").read_text())["arms"].keys() == {"plain"}


def test_missing_data_stop_it_before_anything_is_written(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_ROOT", "")
    options = ["--data", "photos", "--data-root", str(project / "data")]
    assert run(project, *options) == 2
    said = capsys.readouterr().err
    for text in ("Photographs (1 GB, CC0)", f"looked at: {project}/data/photos, which does not exist", "example.org"):
        assert text in said
    assert "expected: *.jpg" in said and not (project / "runs").exists()


def test_paper_scale_without_a_gpu(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "gpus", lambda: 0)
    assert run(project, "--scale", "paper") == 2
    assert "no NVIDIA GPU was found" in capsys.readouterr().err and not (project / "runs").exists()
    monkeypatch.setattr(preflight, "gpus", lambda: 1)
    assert run(project, "--scale", "paper", "--seeds", "1", "--arms", "untrained") == 0


def test_an_argument_with_an_open_quotation(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "--args=--model.name 'x") == 2
    assert capsys.readouterr().err == "error: ARGS=--model.name 'x: no closing quotation\n"


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_that_it_goes_on(tmp_path: Path, signal_: signal.Signals) -> None:
    """Interrupted while it waits for another; what becomes of its stages is `test_ctrl_c_ends_what_runs`."""
    command = [sys.executable, "-m", "benchmarks.reproduce", "mobilesam", "--runs", str(tmp_path)]
    with locked(tmp_path / "mobilesam/mini", "this test"):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None and "waiting for it" in process.stderr.readline()
        process.send_signal(signal_)
        _, said = process.communicate(timeout=240)
    assert process.returncode == 130 and said == "interrupted; the same command goes on from here\n"


def quiet() -> Console:
    return Console(file=io.StringIO())


SLEEPER = """
import signal, sys, time
from pathlib import Path
run = Path(sys.argv[-1])
(run / "done.json").write_text(DONE) if (run / "asked").exists() else None
def end(*_):
    (run / "asked").write_text("to end")
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
(run / "started").touch()
while not (run / "done.json").exists():
    time.sleep(0.02)
"""


def sleeper(project: Path) -> Job:
    """A job that runs until it is told to end; and to its end, the next time."""
    (project / "projects/demo/sleep.py").write_text(SLEEPER.replace("DONE", repr(json.dumps(DONE))))
    folder = project / "runs/sleep"
    stage = Stage("sleep", "projects.demo.sleep")
    return Job(stage, 0, "f", folder, ["projects.demo.sleep", "--run_dir", str(folder)], [], {}, ["arm"])


def test_ctrl_c_ends_what_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = sleeper(project)

    def interrupt(*_: Any) -> Any:
        if (job.run_dir / "started").exists():
            raise KeyboardInterrupt
        return ""

    bars = runner.bars
    monkeypatch.setattr(runner, "bars", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run([job], "demo", "mini", 1, quiet())
    assert (job.run_dir / "asked").read_text() == "to end" and job.done is None
    monkeypatch.setattr(runner, "bars", bars)
    assert runner.run([job], "demo", "mini", 1, quiet()).ran == [job]


@pytest.fixture
def fresh_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server of warm workers without the heavy imports, for this test alone."""

    def stop() -> None:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        runner._served = None

    stop()
    monkeypatch.setattr(runner, "PRELOAD", [])
    yield
    stop()


def test_a_warm_worker_runs_a_stage_as_a_command_would(
    project: Path, fresh_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "Pool", Pool)
    (project / "warm").mkdir()
    monkeypatch.chdir(project / "warm")  # where the server of warm workers looks for modules too
    monkeypatch.syspath_prepend(str(project / "warm"))
    (project / "warm/look.py").write_text(
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    print('seen', flush=True)\n"
        "    seen = {'argv': sys.argv[1:], 'cwd': os.getcwd(), 'warm': 'look' in sys.modules}\n"
        "    seen |= {name: os.environ.get(name) for name in ('RUN_LABELS', 'OMP_NUM_THREADS', 'DATA_ROOT')}\n"
        f"    Path(sys.argv[-1], 'done.json').write_text(json.dumps({DONE!r} | dict(seen=seen)))\n"
    )
    (project / "warm/broken.py").write_text("this is no Python\n")
    folder = project / "runs/look"
    argv = ["look", "fit", "--run_dir", str(folder)]
    data = {"DATA_ROOT": "/data"}
    job = Job(Stage("look", "look"), 1, "f", folder, argv, [], data, ["arm", "other"])
    broken = Job(Stage("b", "broken"), 0, "g", project / "b", ["broken"], [], data, ["arm"])
    outcome = runner.run([broken, job], "demo", "mini", 1, quiet())
    assert outcome.failed == {broken: 1} and "SyntaxError" in (project / "b/log.txt").read_text()
    assert outcome.ran == [job] and (folder / "log.txt").read_text() == "seen\n"
    assert job.done is not None and job.done["seen"] == {
        "argv": argv[1:],
        "cwd": str(project / "warm"),
        "warm": True,
        "RUN_LABELS": "demo/mini/arm/look/seed1",
        "OMP_NUM_THREADS": "1",
        "DATA_ROOT": "/data",
    }


def script(project: Path, monkeypatch: pytest.MonkeyPatch, code: str, arguments: list[str] | None = None) -> Job:
    """A job of a script that warm workers run."""
    monkeypatch.setattr(runner, "Pool", Pool)
    (project / "warm").mkdir()
    monkeypatch.chdir(project / "warm")
    monkeypatch.syspath_prepend(str(project / "warm"))
    (project / "warm/script.py").write_text(code.replace("DONE", repr(json.dumps(DONE))))
    folder = project / "runs/script"
    argv = ["script", *(arguments or []), "--run_dir", str(folder)]
    return Job(Stage("script", "script"), 0, "f", folder, argv, [], {}, ["arm"])


RANK = """
import json, os, sys, time
from pathlib import Path
if __name__ == "__main__":
    folder, rank = Path(sys.argv[-1]), int(os.environ["RANK"])
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "SLURM_NTASKS")
    (folder / f"{rank}.json").write_text(json.dumps({name: os.environ.get(name) for name in names}))
    while not (folder / "1.json").exists():
        time.sleep(0.01)
    if "fail" in sys.argv and rank == 1:
        print("error: wrong")
        sys.exit(2)
    while "fail" in sys.argv:
        time.sleep(0.01)
    (folder / "done.json").write_text(DONE)
"""


def test_a_job_of_two_processes(project: Path, fresh_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    job = script(project, monkeypatch, RANK)
    assert runner.run([job], "demo", "mini", 1, quiet(), processes=2).ran == [job]
    seen = [json.loads((job.run_dir / f"{rank}.json").read_text()) for rank in (0, 1)]
    for rank, one in enumerate(seen):
        expected = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        assert one == expected | {"SLURM_NTASKS": None}


def test_where_one_process_fails_the_other_does_not_wait_for_it(
    project: Path, fresh_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PATIENCE", 0.1)
    job = script(project, monkeypatch, RANK, ["fail"])
    assert runner.run([job], "demo", "mini", 1, quiet(), processes=2).failed == {job: 2}
    assert "error: wrong" in (job.run_dir / "log.txt").read_text()


def test_two_processes_train_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    argv = ["tests.common.tiny_stage", "fit", "--trainer.max_steps", "2", "--trainer.accelerator", "cpu"]
    argv += ["--trainer.devices", "2", "--threads", "1", "--run_dir", str(tmp_path / "run")]
    job = Job(Stage("fit", "tests.common.tiny_stage"), 0, "", tmp_path / "run", argv, [], {}, ["arm"])
    outcome = runner.run([job], "demo", "mini", 1, quiet(), processes=2)
    log = (tmp_path / "run/log.txt").read_text()
    assert outcome.ran == [job], log
    step = 2 * 4 * (4 * 8 + 8) + 2 * 4 * (4 * 8 + 2 * 8)  # forward; gradients of weights and of the second input
    assert job.done is not None and job.done["cost"]["flops"] == 2 * 2 * step  # two steps in two processes


def test_a_stage_takes_no_part_in_an_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = {"HOME": "/h", "DATA_ROOT": "/d"}
    given = {"SLURM_NTASKS": "4", "SLURM_PROCID": "1", "RANK": "1", "WORLD_SIZE": "2", "OMPI_COMM_WORLD_SIZE": "2"}
    environment = {**outside, **given, "TORCHELASTIC_RUN_ID": "1", "LSB_JOBID": "1", "JSM_NAMESPACE_RANK": "1"}
    runner.leave_allocation(environment)
    assert environment == outside


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends them")
def test_a_command_of_its_own_ends_with_the_harness(project: Path) -> None:
    """Killed, the harness can end nothing; what it started must not go on, and keep its lock."""
    job = sleeper(project)
    code = (
        "import sys; from pathlib import Path; from rich.console import Console; from common.recipe import Stage\n"
        "from benchmarks.running import runner; from benchmarks.running.recipes import Job\n"
        "if __name__ == '__main__':\n"
        "    folder = Path(sys.argv[1])\n"
        "    argv = ['projects.demo.sleep', '--run_dir', str(folder)]\n"
        "    job = Job(Stage('s', 'projects.demo.sleep'), 0, 'f', folder, argv, [], {}, ['arm'])\n"
        "    runner.run([job], 'demo', 'mini', 1, Console(), warm=False)\n"
    )
    (project / "elsewhere").mkdir()
    (project / "elsewhere/harness.py").write_text(code)
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    harness = subprocess.Popen([sys.executable, "elsewhere/harness.py", str(job.run_dir)], cwd=project, env=environment)
    wait_for(job.run_dir / "started")
    harness.kill()
    harness.wait()
    wait_for(job.run_dir / "asked")


def wait_for(file: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file} did not appear"
        time.sleep(0.02)


def test_stages_that_are_done_start_no_process(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = sleeper(project)
    job.run_dir.mkdir(parents=True)
    (job.run_dir / "done.json").write_text(json.dumps(DONE))
    monkeypatch.setattr(runner, "Pool", None)
    assert runner.run([job], "demo", "mini", 1, Console()) == runner.Outcome()


def shown(content: Any) -> str:
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(content)
    return console.export_text()


def test_people_see_arm_seed_stage_share_loss_and_time_left(project: Path) -> None:
    jobs = recipes.unique(recipes.jobs(request(project, seeds=2)))
    job = next(job for job in jobs if job.stage.overrides.get("model.kind") == "plain")
    job.run_dir.mkdir(parents=True)
    now = time.monotonic()
    assert "plain, seed 0: train" in shown(runner.bars({job: (None, now - 3)}, 1, 11, 0))  # before it has said anything
    (job.run_dir / "progress.json").write_text('{"step": 30, "total": 40, "loss": 0.51234, "seconds_left": 12.3}')
    text = shown(runner.bars({job: (None, now)}, 1, 11, 2))
    for part in ("plain, seed 0: train", "75%", "loss 0.5123", "12 s left", "stage 2 of 11, 2 failed"):
        assert part in text
    (job.run_dir / "progress.json").write_text('{"step": 30, "total": null, "loss": null, "seconds_left": null}')
    assert "0%" in shown(runner.bars({job: (None, now)}, 1, 11, 0))
    (job.run_dir / "progress.json").write_text('{"step": 3')
    assert runner.read_progress(job.run_dir) is None


def test_a_shared_stage_says_whose_it_is(project: Path) -> None:
    teacher = recipes.jobs(request(project))["plain"][0][0]
    assert runner.describe(teacher) == "2 arms, all seeds: teacher"
