"""Predictions in the files of labelling programs, so that people correct masks and draw none.

``programs`` names the files and writes them; ``label_studio`` and ``cvat`` know their programs,
``run_lengths`` how both pack a mask, ``polygons`` how areas become outlines, ``confidence`` how
sure a model was of an image.
"""
