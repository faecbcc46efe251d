"""One defense a file: how it is fitted, what it deploys, how it is attacked adaptively."""
