"""The addresses that nearly all are, told at a glance. Whatever else there is, is looked at more closely elsewhere."""

import re

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_PLAIN = re.compile(rf"(?!0\.|127\.|169\.254\.|22[4-9]\.|23[0-9]\.){_OCTET}(?:\.{_OCTET}){{3}}")


def is_plain(address: str) -> bool:
    """Tell whether a text is IPv4 in canonical form and no loopback, link-local, multicast or unspecified address."""
    return _PLAIN.fullmatch(address) is not None
