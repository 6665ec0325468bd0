"""How late, how costly and how large isthmus is, beside the least that is possible: `python -m tests.bench`."""
