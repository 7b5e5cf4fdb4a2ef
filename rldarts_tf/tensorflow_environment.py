"""Environment variables that TensorFlow reads when it loads: import this before TensorFlow.

What the environment has already stays as it is.
"""

from __future__ import annotations

import os

# Off by default on CPUs without AVX-512, where oneDNN's kernels train these networks about twice as
# fast all the same.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Start-up notices are no output of a launcher or a command.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
