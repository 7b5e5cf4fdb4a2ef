"""Environments in processes of their own: crash-safe, with frames in shared memory."""
