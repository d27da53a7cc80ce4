"""Networks that others published, read for `terrazzo import`; their own code is never run."""
