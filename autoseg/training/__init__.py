"""From a prepared dataset to a trained model: the recipe, the patches, the loss, and a loop that loses nothing."""
