"""Shapes as labelling tools store them, and how they become pixels; no idea of data sets.

Coordinates are pixels with corners at whole numbers: the first pixel reaches from 0 to 1, and its
centre lies at 0.5.
"""

SUFFIXES = (".geojson", ".json", ".roi", ".txt", ".xml", ".zip")
"""Of the files that hold shapes, lower case."""
