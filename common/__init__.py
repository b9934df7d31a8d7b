"""What two or more recipes share. It knows no recipe."""

import os
import sys
import tempfile

from common import help, interrupts

# matplotlib, which torchmetrics imports too, would write its settings and its list of fonts into the home folder
os.environ.setdefault("MPLCONFIGDIR", os.path.join(tempfile.gettempdir(), f"matplotlib-{os.getuid()}"))

help.answer(sys.orig_argv)  # before the imports that it spares
interrupts.end_at_once()
