"""Whether a configuration can work: what is wrong with it, its registries and its clusters, and what mends it."""
