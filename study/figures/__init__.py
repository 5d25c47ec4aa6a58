"""Figures of the pages, a module for each kind; each function returns a matplotlib figure."""
