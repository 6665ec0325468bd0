"""The agent at work, to look at."""
