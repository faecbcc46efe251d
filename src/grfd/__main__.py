"""`python -m grfd` is the `grfd` command."""

from grfd.cli import main

main()
