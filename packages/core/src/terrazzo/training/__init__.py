"""The train loop and the learning rate: one for every backend."""
