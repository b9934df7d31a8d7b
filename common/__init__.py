"""What two or more recipes share. It knows no recipe."""

import os
import tempfile

# matplotlib, which torchmetrics imports too, would write its settings and its list of fonts into the home folder
os.environ.setdefault("MPLCONFIGDIR", os.path.join(tempfile.gettempdir(), f"matplotlib-{os.getuid()}"))
