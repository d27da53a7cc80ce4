"""The Keras backend of Terrazzo. Importing this package imports no framework."""

__version__ = "0.1.0"
