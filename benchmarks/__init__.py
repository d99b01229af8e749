"""What the package costs, measured beside what people would use instead: ``python -m benchmarks``."""

SECTIONS = (
    "captioning",
    "agreement",
    "unsure",
    "pictures",
    "peers",
    "latency",
    "videos",
    "novelty",
    "growth",
    "folder",
    "workers",
    "training",
)
"""The modules that measure something, in the order of the report."""
