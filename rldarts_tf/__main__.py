"""`python -m rldarts_tf`: commands for genotypes, search spaces and runs."""

import sys

from rldarts_tf.errors import without_interrupt_traceback

if __name__ == "__main__":
    # Before the imports, which take seconds.
    without_interrupt_traceback()
    from rldarts_tf.commands import main

    sys.exit(main())
