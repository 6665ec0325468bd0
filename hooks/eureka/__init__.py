"""Hearing Eureka."""
