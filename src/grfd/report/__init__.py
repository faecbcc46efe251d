"""Renders what it is given: tables in several formats, and figures in one style. It defines no experiment."""
