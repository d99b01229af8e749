"""Metrics of captions and of clip labels, in Python and NumPy; and models scored on data sets."""
