"""Speed and strength of our attacks compared with other libraries, and the speed of training."""
