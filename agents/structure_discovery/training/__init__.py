"""How our network is trained: targets, losses, the loop, checkpoints and calibration."""
