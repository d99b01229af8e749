"""Actions in clips: the classifier, its windows, what it measures in frames, and its heads."""
