"""Terrazzo: semantic segmentation from Keras and PyTorch, on one floor.

Nothing is imported here: ``from terrazzo.metrics import ConfusionMatrix`` loads NumPy and little
else.
"""

__version__ = "0.1.0"
