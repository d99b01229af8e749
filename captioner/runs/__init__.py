"""A folder of files to a folder of results: resumable, in worker processes, or on a cluster."""
