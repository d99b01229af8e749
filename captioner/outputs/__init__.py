"""Results to files: text formats, HTML report, search index, plots."""
