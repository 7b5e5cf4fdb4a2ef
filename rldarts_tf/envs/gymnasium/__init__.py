"""Any registered Gymnasium environment whose observations are images."""
