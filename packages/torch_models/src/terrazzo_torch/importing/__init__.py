"""Networks that others published, read for `terrazzo import`; their own code is never run.

`source.read` tells the kinds apart; each kind has a file.
"""
