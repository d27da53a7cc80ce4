"""What lies in a run folder: recipe, log, checkpoints, the trained model, where it came from."""
