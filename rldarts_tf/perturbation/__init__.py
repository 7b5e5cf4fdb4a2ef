"""Perturbation-based discretization: a cell from what the supernet loses without each op.

Source: Wang et al. 2021, "Rethinking Architecture Selection in Differentiable NAS" (DARTS-PT), with
the return in place of the accuracy (RL-DARTS appendix A.2.1).
"""
