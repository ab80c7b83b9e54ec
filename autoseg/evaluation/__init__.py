"""How good predictions are: overlaps, scores and what they say."""
