"""`python -m rldarts_tf`: commands for genotypes, search spaces and runs."""

import sys

from rldarts_tf.errors import shorten_tracebacks

if __name__ == "__main__":
    # Before the imports, which take seconds.
    shorten_tracebacks()
    from rldarts_tf.commands import main

    sys.exit(main())
