"""The device of a command: the user's, or the best there is."""

import argparse

import pytest
import torch

from common.devices import device_of, device_option
from common.errors import UserError


@pytest.mark.parametrize(("gpu", "named", "meant"), [(True, None, "cuda"), (False, None, "cpu"), (True, "cpu", "cpu")])
def test_a_gpu_is_taken_where_there_is_one_unless_another_is_named(gpu, named, meant, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    command = argparse.ArgumentParser()
    device_option(command)
    assert device_of(command.parse_args([] if named is None else ["--device", named]).device) == meant


def test_a_gpu_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch sees no GPU here; leave --device out"):
        device_of("cuda")
