"""What tests of several recipes need."""

import json
import runpy
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from benchmarks.running.recipes import configs
from common.recipe import Output, Scale, Stage


@pytest.fixture
def shown_config(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Has a stage's script read a command line; the whole config that it comes to, as YAML."""

    def shown(module: str, run: str, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [module, run, *words, "--print_config"])
        monkeypatch.delitem(sys.modules, module, raising=False)
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__")
        printed = capsys.readouterr()
        assert not ended.value.code, printed.err
        return printed.out

    return shown


@pytest.fixture
def read_stage(shown_config: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Has a stage's script read the stage's config files and settings, as the harness gives them, but a name in the
    place of what another stage leaves; the whole config that it comes to."""

    def read(stage: Stage, scale: Scale, data: str = "", output: str = "x") -> dict[str, Any]:
        words = [word for file in configs(stage, scale, data) for word in ("--config", str(file))]
        for key, value in stage.overrides.items():
            known = output if isinstance(value, Output) else value
            words.append(f"--{key}={known if isinstance(known, str) else json.dumps(known)}")
        return yaml.safe_load(shown_config(stage.module, stage.run, *words))

    return read


@pytest.fixture
def heeded(read_stage: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The same, in which every setting of the stage has to stand as it was given."""

    def read(stage: Stage, scale: Scale, data: str = "") -> dict[str, Any]:
        parsed = read_stage(stage, scale, data)
        for key, value in stage.overrides.items():
            found = parsed
            for word in key.split("."):
                found = found[word]
            assert found == ("x" if isinstance(value, Output) else value)
        return parsed

    return read
