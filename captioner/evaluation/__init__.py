"""Metrics of captions and of clip labels; pure Python and NumPy."""
