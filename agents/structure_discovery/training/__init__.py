"""How our network is trained: targets, losses, the loop, checkpoints and the calibration of what it says of its errors."""
