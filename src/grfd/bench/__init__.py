"""Speed and parity beside other libraries, and training rates."""
