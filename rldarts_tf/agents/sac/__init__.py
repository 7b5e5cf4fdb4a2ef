"""SAC from Acme's parts."""
