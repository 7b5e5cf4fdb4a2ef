"""Statistics of comparisons whose trainings are nested: seeds of an architecture, searches, games.

Scores are float64 [architectures, seeds], NaN where there is no result; each row has one at least.
An architecture is a cell, and of cells that were found a row is a search: rows are independent of
each other, the entries of a row are not.

NumPy and SciPy rather than the library rliable, whose definitions these are (interquartile mean,
probability of improvement, performance profiles): it takes complete [runs, tasks] arrays of
independent runs, so a study that is not finished has no result, and the seeds of three cells count
as nine searches; it draws from numpy's global generator; and it needs statsmodels and arch, 9 s to
import, and 24 s for one probability of improvement over five games.
"""

LEVEL = 0.95
"""Confidence level of every interval."""
