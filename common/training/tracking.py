"""Weights & Biases: offline unless the user is logged in and the network answers; it never stops a run."""

import logging
import netrc
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger

from common.training.runs import saved_pictures

log = logging.getLogger(__name__)
PROJECT = "distillery"
FINISH_SECONDS = 300.0  # after which a run whose connection is lost ends, and leaves the rest to `wandb sync`
HOST = "api.wandb.ai"  # under which `wandb login` keeps the key of the public service, whatever its address is today


def wandb_mode() -> Literal["disabled", "offline", "online"]:
    """`disabled`, `offline` or `online`: what WANDB_MODE asks for, as far as login and network allow it.

    Without WANDB_MODE a run is online when the user is logged in. Asking for `online` in vain costs one line, not the
    run.
    """
    asked = os.environ.get("WANDB_MODE", "").strip().lower()
    if asked in ("disabled", "offline", "dryrun"):
        return "disabled" if asked == "disabled" else "offline"
    import wandb

    try:
        url = urlsplit(wandb.setup().settings.base_url)
        if not _logged_in(url.netloc):
            reason = "nobody is logged in (run `wandb login`)"
        else:
            port = url.port or (443 if url.scheme == "https" else 80)
            socket.create_connection((url.hostname, port), timeout=3).close()
            return "online"
    except (wandb.Error, OSError) as error:
        reason = f"the server does not answer ({error})"
    if asked == "online":
        log.warning("W&B: %s; logging offline, `wandb sync` sends the run later", reason)
    return "offline"


def _logged_in(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        logins = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(logins.authenticators(name) is not None for name in (host, HOST))


class Tracker(WandbLogger):
    """Lightning's logger for a W&B run; what it cannot log it leaves, after one line."""

    def __init__(self, run: Any):
        super().__init__(experiment=run)
        self._failed = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._try(super().log_metrics, metrics, step)

    def log_hyperparams(self, params: Any) -> None:
        self._try(super().log_hyperparams, params)

    def log_pictures(self, run_dir: Path) -> None:
        """Send the pictures that a stage has left in its run folder."""
        for picture in saved_pictures(run_dir):
            self._try(self._log_picture, picture)

    def _log_picture(self, picture: dict[str, Any]) -> None:
        import wandb

        key = f"{picture['key']}, reference" if picture["reference"] else picture["key"]
        self.experiment.log({f"pictures/{key}": wandb.Image(str(picture["file"]), caption=picture["caption"])})

    def _try(self, call: Callable[..., None], *args: Any) -> None:
        if self._failed:
            return
        try:
            call(*args)
        except Exception as error:
            self._failed = True
            log.warning("W&B: %s; the run goes on without it", _reason(error))


@contextmanager
def wandb_logger(run_dir: Path, config: dict[str, Any]) -> Iterator[Tracker | None]:
    """The logger of a stage's run, ended when the context is left; None with WANDB_MODE=disabled, or where W&B fails.

    The harness says what a stage belongs to through `RUN_LABELS` ("paper/scale/arm/stage/seed0"); a stage started by
    hand is named after its run folder. The run's id follows from the folder: a resumed stage continues its W&B run.
    """
    run = start_run(run_dir, config)
    if run is None:
        yield None
        return
    try:
        yield Tracker(run)
    except BaseException:
        end_run(run, exit_code=1)
        raise
    end_run(run, exit_code=0)


def start_run(run_dir: Path, config: dict[str, Any]) -> Any:
    """A W&B run, online where that is wanted and possible; None where there is to be none, or can be none."""
    labels = os.environ.get("RUN_LABELS", "").split("/")
    if len(labels) == 5:
        paper, scale, arm, stage, seed = labels
        where: dict[str, Any] = {
            "group": f"{paper}/{scale}", "job_type": stage, "name": f"{arm}/{seed}", "tags": [paper, scale, arm]
        }  # fmt: skip
    else:
        where = {"name": run_dir.name}
    for kind in ("CACHE", "DATA"):  # the logs of its own process would go to the user's home
        os.environ.setdefault(f"WANDB_{kind}_DIR", str(run_dir.absolute() / "wandb" / kind.lower()))
    if asked := os.environ.get("WANDB_MODE", ""):
        os.environ["WANDB_MODE"] = asked.strip().lower()
    mode = "offline"
    try:
        mode = wandb_mode()
        if mode == "disabled":
            return None
        return _init(run_dir, config, mode, where)
    except Exception as error:  # its settings alone raise a library's errors: WANDB_BASE_URL=localhost:8080
        log.warning("W&B: %s; the run goes on %s", _reason(error), "offline" if mode == "online" else "without it")
    if mode == "online":
        try:
            return _init(run_dir, config, "offline", where)
        except Exception as error:
            log.warning("W&B: %s; the run goes on without it", _reason(error))
    return None


def _init(run_dir: Path, config: dict[str, Any], mode: Any, where: dict[str, Any]) -> Any:
    import wandb

    run = wandb.init(
        project=PROJECT,
        dir=run_dir,
        id=re.sub(r"[^\w.-]", "_", "-".join(run_dir.absolute().parts[-4:]))[-120:],
        mode=mode,
        resume="allow" if mode == "online" else None,
        config=config,
        settings=wandb.Settings(
            console="off", silent=True, x_disable_stats=True, init_timeout=30, finish_timeout=FINISH_SECONDS
        ),
        **where,
    )
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return run


def end_run(run: Any, exit_code: int) -> None:
    """Have W&B write or send what is left."""
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:  # a signal to all processes of a job ends W&B's own process too
        log.warning("W&B: %s; `wandb sync` sends what it has written", _reason(error))


def _reason(error: Exception) -> str:
    """What went wrong, in a line; the malformed variables, where it is those."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if hasattr(error, "errors"):  # pydantic's, of wandb's settings
        lines = ["; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())]
        given = sorted(name for name in os.environ if name.startswith("WANDB_") and "KEY" not in name)
        lines[0] += f" (set here: {', '.join(given)})"
    return (lines or [type(error).__name__])[0][:300]
