"""One file a model, as in every backend."""
