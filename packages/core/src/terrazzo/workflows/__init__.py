"""One file a verb, callable from Python: train, evaluate, predict, convert, compare, study.

What the command line and `import terrazzo` call; no printing but in `study.summary`.
"""
