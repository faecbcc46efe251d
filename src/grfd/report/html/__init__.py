"""The report of one or several runs as one HTML file: what it contains, its charts, its sprite sheet, its page."""
