"""What tests of several recipes need."""

import runpy
import sys
from collections.abc import Callable

import pytest


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
