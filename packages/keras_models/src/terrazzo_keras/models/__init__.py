"""One file a model; its file name is its name in a recipe. See `models/unet.py` for the form."""
