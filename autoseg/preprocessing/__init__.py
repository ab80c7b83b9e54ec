"""From a case on its own grid to arrays on the plan's grid, and back."""
