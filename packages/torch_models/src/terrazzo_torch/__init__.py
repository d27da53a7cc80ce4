"""The PyTorch backend of Terrazzo. Importing it imports no framework; see `backend.py`."""

__version__ = "0.1.0"
