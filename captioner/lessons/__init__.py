"""What the teaching notebooks need: gradients to look at, shapes to learn from, cells to compare."""
