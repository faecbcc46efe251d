"""The commands of grfd, one file a family."""
