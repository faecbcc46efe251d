"""What commands and notebooks both call."""
