"""Scoring one model on one split: the loop, what it counts, the files it leaves."""
