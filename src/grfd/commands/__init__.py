"""The commands of grfd, one file for each family of commands."""
