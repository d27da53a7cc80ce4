"""The contract between core and a framework, and whether a model may see some pixels.

``contract`` is what a backend must do, ``backends`` finds its package, ``compatibility`` decides
whether a trained model may be used on pixels and labels.
"""
