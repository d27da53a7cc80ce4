"""Several runs side by side, as numbers: ranks, intervals, paired differences, tables."""
