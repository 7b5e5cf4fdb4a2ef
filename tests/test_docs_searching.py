"""Runs the example of docs/searching.md as it stands there."""

from __future__ import annotations

import numpy as np
from readme import SEARCHING, marked_block
from spaces import MICRO_2


def test_a_loop_of_ones_own_searches_with_a_method():
    made = {"__name__": "searching"}
    exec(compile(marked_block("loop", SEARCHING), "searching.md", "exec"), made)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)
    supernet = made["train"](MICRO_2, images, np.ones(8, np.float32), num_steps=8)
    alpha = np.concatenate([node.numpy() for node in supernet.alpha.logits["normal"]])
    # Of eight steps two are the warm-up's; Adam moves α by at most about its learning rate.
    assert 0 < np.abs(alpha).max() < 6.5 * 3e-3 * 1.5
    assert float(supernet.alpha.progress) == 7 / 8
    assert supernet.discretize().search_space == "micro_2"
