"""The one training loop: progress, checkpoint, resume, precision, many devices."""
