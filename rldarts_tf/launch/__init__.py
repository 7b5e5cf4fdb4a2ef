"""From a command line to the stages of a run."""
