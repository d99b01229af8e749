"""Files to arrays: images, videos and shot boundaries."""
