"""What Keras has no neutral word for, once for each engine, under the same names.

Each file offers `device`, `compiled`, `value_and_grad`, `either` and `out_of_memory`. All else in
this package is `keras.ops`.
"""
