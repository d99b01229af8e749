"""Videos as a timeline: segments with captions and labels, and how unexpected every moment is."""
