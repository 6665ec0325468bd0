"""Why an endpoint is where it is, or is not: the parts of an explanation, as values."""
