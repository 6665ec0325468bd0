"""Hearing Consul."""
