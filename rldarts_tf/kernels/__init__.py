"""How cells are computed fast: not public, used by ops, cells and encoders."""
