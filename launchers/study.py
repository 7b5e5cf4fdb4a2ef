r"""A study: searches, their cells, random cells and baselines, as one resumable command.

Examples:
  Does the search pay on a game that is learned in seconds? (Shows how a study looks, no more.)
    python launchers/study.py --gin_file=studies/search_pays.gin \
        --gin_file=studies/sizes/smoke.gin --root_dir=runs/smoke

  On the games of MinAtar, with all cores of this machine:
    python launchers/study.py --gin_file=studies/search_pays.gin \
        --gin_file=studies/sizes/laptop.gin --root_dir=runs/search_pays
"""

import sys

from rldarts_tf.commands import main

if __name__ == "__main__":
    sys.exit(main(["study", *sys.argv[1:]]))
