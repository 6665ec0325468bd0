"""The tests of isthmus."""
