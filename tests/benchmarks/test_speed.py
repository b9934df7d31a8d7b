"""The speed bench: how calls and steps are timed, ratios, the results file, the ONNX variant, errors."""

import json
import time
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import nn

from benchmarks.measuring import latency, overhead
from benchmarks.measuring.latency import flops, measure, onnx_call, time_calls, variants
from benchmarks.measuring.overhead import bare, reading, summary
from benchmarks.running import recipes
from benchmarks.speed import main, networks, print_found, ratios, write
from common.errors import UserError
from common.workload import Network, Source, Speed, Training


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, x):
        return self.layer(x).relu()


def build():
    torch.manual_seed(0)
    return Net().eval(), (torch.ones(2, 4),)


def export(model, path):
    torch.onnx.export(model, (torch.ones(2, 4),), path, dynamo=True, verbose=False)


NET = Network("net", build, onnx=export, reported={"params": 40, "ms": 2.0}, source="Table 1")


def test_calls_are_timed_after_warm_up():
    calls = []

    def call():
        calls.append(None)
        time.sleep(0.05 if len(calls) == 1 else 0.004)

    found = time_calls(call, seconds=0.1)
    assert found["first_ms"] >= 50 and found["least_ms"] >= 4 and found["median_ms"] < 40  # the slow first one is out
    assert found["least_ms"] <= found["median_ms"] <= found["p95_ms"]
    assert len(calls) == found["calls"] + 3 and 3 <= found["calls"] <= 25
    assert found["processor_ms"] < found["median_ms"]  # it sleeps


def test_slow_calls_are_few(monkeypatch):
    monkeypatch.setattr(latency, "GIANT", 0.001)
    calls = []
    found = time_calls(lambda: calls.append(time.sleep(0.01)), seconds=0.001)
    assert found["calls"] == 3 and len(calls) == 4
    time_calls(lambda: calls.append(time.sleep(0.01)), seconds=0.001, compiles=True)
    assert len(calls) == 4 + 5  # one more, which does not compile


def test_a_network_is_measured(monkeypatch):
    monkeypatch.setattr(latency, "SECONDS", 0.01)
    assert variants(NET) == ["eager", "fast", "compiled", "fast, compiled", "onnxruntime"]
    assert variants(replace(NET, onnx=None, giant=True)) == ["eager", "fast"]
    for variant in ("eager", "fast"):
        found = measure(NET, variant)
        assert found["params"] == 40 and found["calls"] >= 3 and found["peak_bytes"] >= found["start_bytes"] > 0
    assert flops(NET) == 2 * 2 * 4 * 8


def test_onnx_runtime_computes_what_torch_computes():
    model, inputs = build()
    (found,) = onnx_call(NET, model, inputs)()
    torch.testing.assert_close(torch.from_numpy(found), model(*inputs))


def entry(params, median, /, **reported):
    return {
        "params": params, "flops": 10 * params, "reported": reported, "source": "Table 3", "against": "",
        "variants": {"eager": {"median_ms": median, "p95_ms": median, "calls": 3, "peak_bytes": 10**9}},
    }  # fmt: skip


def test_ratios_stand_beside_the_paper_s():
    made = ratios(entry(5, 2.0, params=6, ms=8), entry(500, 30.0, params=600, ms=400))
    assert made == {"params": 100, "flops": 100, "ms": 15, "reported_params": 100, "reported_ms": 50}
    assert "reported_ms" not in ratios(entry(5, 2.0, params=6), entry(500, 30.0, params=600, ms=400))


def test_processor_time_comes_before_the_clock_s():
    busy = entry(5, 9.0)
    busy["variants"]["eager"]["processor_ms"] = 3.0
    assert ratios(busy, entry(5, 30.0))["ms"] == 10


def test_parts_measured_again_replace_the_old_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", str(tmp_path))
    write("paper", {"sources": {"a": 1}})
    file = write("paper", {"start": {"b": 2}})
    write("paper", {"sources": {"c": 3}})
    content = json.loads(file.read_text())
    assert (
        content["paper"] == "paper"
        and content["sources"]["found"] == {"c": 3}
        and content["start"]["found"] == {"b": 2}
    )
    assert content["start"]["hardware"]["cpu"] and content["start"]["versions"]["torch"] and content["start"]["threads"]


def test_chosen_networks_join_those_measured_before(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", str(tmp_path))
    monkeypatch.setattr(latency, "variants", lambda network: ["eager", "onnxruntime"])

    def run(command):
        if command[-1] == "onnxruntime":
            raise UserError("benchmarks.measuring.latency failed:\nRuntimeError: no such operator")
        return json.dumps({"params": 40, "median_ms": 4.0 if command[-2] == "net" else 1.0, "p95_ms": 4.0, "calls": 3,
                           "peak_bytes": 10**9})  # fmt: skip

    monkeypatch.setattr(overhead, "run", run)
    both = Speed((NET, replace(NET, name="small", against="net", reported={"params": 41})))
    console = Console(quiet=True)
    write("paper", {"networks": networks("paper", both, ["net"], console)})
    found = networks("paper", both, ["small"], console)
    assert list(found) == ["net", "small"] and found["small"]["ratios"]["ms"] == 4
    assert found["net"]["variants"]["onnxruntime"] == {"error": "RuntimeError: no such operator"}

    console = Console(width=150)
    with console.capture() as captured:
        print_found({"networks": found}, console)
    shown = captured.get()
    assert "40, 2 ms (Table" in shown and "41 (Table" in shown and "no such operator" in shown and " 4 ms " in shown


def test_steps_are_timed_from_one_to_the_next():
    times = [(0.1 * step, 0.05 * step) for step in range(31)] + [(3.5, 1.6)]
    found = summary(times, warmup=20)
    assert found["median_ms"] == 100 and found["mean_ms"] == pytest.approx(1500 / 11, abs=0.01)
    assert found["processor_ms"] == pytest.approx(600 / 11, abs=0.01) and found["warmup_s"] == 2


def test_reading_and_the_bare_loop(tmp_path):
    def source(folder):
        (folder / "sample").write_text("7")
        return lambda index: int((folder / "sample").read_text()) * index

    found = reading(Source("numbers", source), seconds=0.05)
    assert found["samples"] > 10 and found["samples_per_second"] > 10 and found["median_ms"] > 0
    taken = []
    assert len(bare(Training(None, None, lambda folder: lambda: taken.append(folder)), tmp_path, 5)) == 5
    assert taken == [tmp_path] * 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mobilesm"], "unknown paper 'mobilesm': did you mean mobilesam"),
        (["mobilesam", "--only", "network"], "unknown part 'network': did you mean networks"),
        (["mobilesam", "--networks", "SAM ViT-X encoder"], "unknown network 'SAM ViT-X encoder'"),
    ],
)
def test_errors_say_what_is_wrong(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_recipe_that_names_nothing_says_so(monkeypatch, capsys):
    recipe = recipes.load("mobilesam")
    monkeypatch.setattr(recipes, "load", lambda paper: replace(recipe, speed=""))
    assert main(["mobilesam"]) == 2
    assert "mobilesam has nothing to measure: projects/mobilesam/recipe.py names no `speed`" in capsys.readouterr().err


def test_mobilesam_trains_by_hand_on_what_its_stage_reads(tmp_path):
    training = latency.load("mobilesam").training
    training.prepare(tmp_path)
    step = training.bare(tmp_path)
    step(), step()
    module, run, *settings = training.command(tmp_path)
    assert (module, run) == ("projects.mobilesam.distill", "fit")
    paths = [word for word in settings if word.startswith(str(tmp_path))]
    assert len(paths) == 4 and all((tmp_path / path).exists() for path in paths)
