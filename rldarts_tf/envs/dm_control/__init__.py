"""Tasks of the DM Control Suite."""
