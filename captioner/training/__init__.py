"""Data sets to trained models."""
