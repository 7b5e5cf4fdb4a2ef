"""How a cell is computed, faster than its formula. Not public: ops, cells and encoders use it.

The formula, one term per edge and op, is a dozen lines (`tests/reference.py`). The modules here,
from the first to the last:

* `plan`: a cell's edges -> *fan-outs*: from one node, by ops of one kind, to the same targets;
* `mixing`: sums of ops without weights, each one loop over memory, compiled by XLA;
* `dilation`, `precision`, `normalization`: what TensorFlow and Keras lack, or get wrong;
* `terms`: what a node is the sum of, and how the terms of several fan-outs are added in one go;
* `banks`: a fan-out as a Keras layer, whose variables are those of all its edges side by side;
* `evaluate`: x -> nodes -> output: `by_source`, `by_target`, and `recomputed` with its gradient.

**Price.** Some eight hundred lines instead of a dozen; θ of an edge is a part of wide variables, so
that it has an address (`plan.find_edge`); and two ways to evaluate a cell, which tests hold to the
formula, values and every gradient.

**Gain**, measured (`docs/performance.md`; 2 cores, 16 x 3; Micro and Classic supernets):

| | Micro | Classic |
|---|---|---|
| a train step, times as fast as the formula | 1.15 | 1.33 |
| ... as the stacked form of the authors' release | 3.4 | 2.1 |
| acting, times as fast as the formula | 1.05 | 1.14 |
| ... as the stacked form | 5.2 | 3.2 |
| peak memory, of that of the stacked form | 0.21 | 0.40; 0.20 with `recompute` |

* The wide convolutions of a plan run 1.5 to 1.8 times as fast as one per edge, forward and for the
  gradient of the input. Op weights go into their kernels, so that α's gradient is no second pass
  over feature maps.
* `by_target` makes the linear convolutions that reach a node one, and sums its ops without weights
  in 7 ms where term by term takes 37.
* `recomputed` holds the nodes alone between the passes. It costs linear cells nothing; of others it
  repeats the convolutions (a Classic train step takes 1.01 to 1.25 times as long).
* What is not gained: 77 to 91 % of a train step are convolutions, which nothing here makes faster.
"""
