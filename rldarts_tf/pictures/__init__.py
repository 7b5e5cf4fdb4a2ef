"""Drawings of cells, plots of runs, and the report."""
