"""Weights & Biases: offline unless the user is logged in and the network answers; it never stops a run."""

import logging
import netrc
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger

from common.training.runs import saved_pictures

log = logging.getLogger(__name__)
PROJECT = "distillery"
HOST = "api.wandb.ai"  # under which `wandb login` keeps the key of the public service, whatever its address is today


def wandb_mode() -> Literal["disabled", "offline", "online"]:
    """`disabled`, `offline` or `online`: what WANDB_MODE asks for, as far as login and network allow it.

    Without WANDB_MODE a run is online when the user is logged in. Asking for `online` in vain costs one line, not the
    run.
    """
    asked = os.environ.get("WANDB_MODE", "")
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


@contextmanager
def wandb_logger(run_dir: Path, config: dict[str, Any]) -> Iterator[WandbLogger | None]:
    """The logger of a stage's run, ended when the context is left; None with WANDB_MODE=disabled.

    The harness says what a stage belongs to through `RUN_LABELS` ("paper/scale/arm/stage/seed0"); a stage started by
    hand is named after its run folder. The run's id follows from the folder: a resumed stage continues its W&B run.
    """
    mode = wandb_mode()
    if mode == "disabled":
        yield None
        return
    import wandb

    labels = os.environ.get("RUN_LABELS", "").split("/")
    if len(labels) == 5:
        paper, scale, arm, stage, seed = labels
        where: dict[str, Any] = {
            "group": f"{paper}/{scale}", "job_type": stage, "name": f"{arm}/{seed}", "tags": [paper, scale, arm]
        }  # fmt: skip
    else:
        where = {"name": run_dir.name}
    run = None
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            run = wandb.init(
                project=PROJECT,
                dir=run_dir,
                id=re.sub(r"[^\w.-]", "_", "-".join(run_dir.absolute().parts[-4:]))[-120:],
                mode=attempt,
                resume="allow" if attempt == "online" else None,
                config=config,
                settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, init_timeout=30),
                **where,
            )
            break
        except (wandb.Error, OSError) as error:
            log.warning("W&B: %s; the run goes on %s", error, "offline" if attempt == "online" else "without it")
    if run is None:
        yield None
        return
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    try:
        yield WandbLogger(experiment=run)
    except BaseException:
        with suppress(Exception):  # a signal to all processes of a job has ended W&B's own process already
            run.finish(exit_code=1)
        raise
    run.finish()


def log_pictures(logger: WandbLogger, run_dir: Path) -> None:
    """Send the pictures that a stage has left in its run folder."""
    import wandb

    for picture in saved_pictures(run_dir):
        key = f"{picture['key']}, reference" if picture["reference"] else picture["key"]
        logger.experiment.log({f"pictures/{key}": wandb.Image(str(picture["file"]), caption=picture["caption"])})
