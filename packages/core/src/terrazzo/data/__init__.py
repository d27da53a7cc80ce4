"""From a folder to batches: data-set formats, label maps, augmentation, the loader.

``labels`` turns raw values into train ids, ``datasets`` finds and decodes samples, ``augment``
changes them while training, ``loader`` puts them in order and makes batches of them.
"""
