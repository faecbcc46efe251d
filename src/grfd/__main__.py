"""`python -m grfd` runs the `grfd` command."""

from grfd.cli import main

main()
