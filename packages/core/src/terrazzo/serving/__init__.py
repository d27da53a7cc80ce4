"""A trained model behind HTTP: images in, maps out, on this machine unless told otherwise."""
