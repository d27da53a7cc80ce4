"""`terrazzo export`: a trained model in the form that other runtimes and programs read."""
