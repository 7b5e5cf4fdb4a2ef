"""Rainbow from Acme's parts."""
