"""Networks of any image size can be traced with an unknown batch."""

from __future__ import annotations

from pathlib import Path

SWEEP = Path(__file__).with_name("shape_sweep.py")

# With the crops of dilated convolutions computed in the graph, TensorFlow aborted on every size
# here that is not square, and on none that is. What was swept once: all sizes up to 24 x 24.
CASES = (
    *(
        f"small@{size}"
        for size in ("1x1", "1x2", "3x2", "10x10", "11x7", "12x7", "7x12", "13x24", "42x22")
    ),
    "recompute@11x7",
    "recompute@12x12",
    "bfloat16@11x7",
    "layer@11x7",
    "batch@11x7",
    "discrete@12x7",
    "classic@11x7",
    "small:saved@11x7",
)


def test_networks_are_traced_with_an_unknown_batch_at_any_image_size(server):
    ended = server.run([str(SWEEP), *CASES], seconds=280)
    assert ended.code == 0 and ended.out.endswith("done\n"), ended.out + ended.err[-2000:]
