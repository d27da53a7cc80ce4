"""The PyTorch backend of Terrazzo. Importing it imports no framework; see `backend.py`."""
