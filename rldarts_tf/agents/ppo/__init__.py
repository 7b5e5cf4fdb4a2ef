"""PPO from TF-Agents' parts."""
