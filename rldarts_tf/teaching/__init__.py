"""Teachers: trained policies whose actor and critic are distilled into what is trained.

A2D (Fu et al., arXiv:2012.13091) steadies a search so; docs/a2d.md has the equations.
"""
