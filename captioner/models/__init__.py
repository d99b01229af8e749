"""Arrays to numbers: encoder, decoder, search, clip classifier, saved models."""
