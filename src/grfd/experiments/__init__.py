"""One table or figure a file, with its claim, cost and command in its docstring."""
