"""Reads records, never trains: tables, figures, the page."""
