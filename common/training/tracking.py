"""Weights & Biases: offline unless the user is logged in and the network answers; it never stops a run."""

import logging
import netrc
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger

log = logging.getLogger(__name__)
PROJECT = "distillery"


def wandb_mode() -> str:
    """`disabled`, `offline` or `online`: what WANDB_MODE asks for, as far as login and network allow it.

    Without WANDB_MODE a run is online when the user is logged in. Asking for `online` in vain costs one line, not the run.
    """
    asked = os.environ.get("WANDB_MODE", "")
    if asked in ("disabled", "offline", "dryrun"):
        return "disabled" if asked == "disabled" else "offline"
    import wandb

    url = urlsplit(wandb.Settings().base_url)
    host = url.hostname or ""
    if not _logged_in(host):
        reason = "nobody is logged in (run `wandb login`)"
    else:
        try:
            socket.create_connection((host, url.port or (443 if url.scheme == "https" else 80)), timeout=3).close()
            return "online"
        except OSError as error:
            reason = f"{host} does not answer ({error})"
    if asked == "online":
        log.warning("W&B: %s; logging offline, `wandb sync` sends the run later", reason)
    return "offline"


def _logged_in(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_logger(run_dir: Path, config: dict[str, Any]) -> WandbLogger | None:
    """The logger of a stage's run, or None with WANDB_MODE=disabled.

    The harness says which recipe, scale and arm a stage belongs to through `RUN_LABELS` ("paper/scale/arm/stage/seed0");
    a stage started by hand is grouped under its run folder. The run's id follows from the folder, so a resumed stage
    continues its W&B run.
    """
    mode = wandb_mode()
    if mode == "disabled":
        return None
    import wandb

    labels = os.environ.get("RUN_LABELS", "").split("/")
    if len(labels) == 5:
        paper, scale, arm, stage, seed = labels
        where: dict[str, Any] = {
            "group": f"{paper}/{scale}", "job_type": stage, "name": f"{arm}/{seed}", "tags": [paper, scale, arm]
        }  # fmt: skip
    else:
        where = {"name": run_dir.name}
    run_id = "-".join(run_dir.parts[-4:]).replace(" ", "_")[-120:]
    quiet = wandb.Settings(console="off", silent=True, x_disable_stats=mode == "offline")
    return WandbLogger(
        project=PROJECT, save_dir=run_dir, offline=mode == "offline", id=run_id, resume="allow" if mode == "online" else None,
        config=config, settings=quiet, **where,
    )  # fmt: skip
