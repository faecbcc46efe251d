"""The training loop that all trainings use: progress, checkpoints, resuming, precision, several processes."""
