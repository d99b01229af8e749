"""Training a translator on parallel sentences."""
