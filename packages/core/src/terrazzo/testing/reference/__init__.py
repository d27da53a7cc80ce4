"""The reference backend: the whole contract of `terrazzo.models.contract` in NumPy,

for tests and teaching.

Read `trainer.py` to see what a backend must do. `losses.py` and `optimizers.py` define what the
words of a recipe mean; the real backends are tested against them.
"""
