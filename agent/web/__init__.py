"""The pages and endpoints that a person or a monitor reads."""
