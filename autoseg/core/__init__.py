"""What every other folder stands on: shape names, errors, displays by request, JSON, and decisions with reasons."""
