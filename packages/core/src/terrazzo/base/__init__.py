"""Errors, settings, files written whole, locks, progress; knows nothing of images.

Standard library and pydantic alone. Every other room may import from here.
"""
