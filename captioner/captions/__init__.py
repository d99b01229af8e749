"""Captions of images: the captioner, its decoder, and what it knows about its own sentences."""
