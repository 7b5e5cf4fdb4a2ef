"""`python -m rldarts_tf`: commands for genotypes, search spaces and runs."""

import sys

from rldarts_tf.commands import main

if __name__ == "__main__":
    sys.exit(main())
