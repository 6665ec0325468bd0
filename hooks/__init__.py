"""What hears the registries."""
