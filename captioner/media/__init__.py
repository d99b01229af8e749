"""Files to RGB arrays: images, videos and shot boundaries."""
