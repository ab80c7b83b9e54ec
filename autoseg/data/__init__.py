"""From files to facts: geometry, images, labels, datasets, checks and the fingerprint."""
