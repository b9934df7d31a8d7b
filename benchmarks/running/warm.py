"""Imports what the stages will need: the server of warm workers imports this module, and each worker starts at once."""

import importlib
import os
from contextlib import suppress

for name in os.environ.get("WARM_MODULES", "").split():
    with suppress(Exception, SystemExit):  # a stage that cannot be imported fails by itself, with its own log
        importlib.import_module(name)
