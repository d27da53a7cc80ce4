"""Contract checks, faulty backends and data sets, the reference backend, small trees of files.

Shipped with the package, so that a backend or a data-set format elsewhere can run the checks.
"""
