"""What a Consul with the log level `trace` tells of its watch handlers."""

import re
from collections import Counter
from urllib.parse import unquote

SCRIPT = re.compile(r'watch handler output: watch_handler=\[.*"--socket", "[^"]*", "([^"]*)", (.*)\] output=""')
HTTP = re.compile(r'http watch handler output: watch=\S*/v1/consul/([^/]*)/(\S*?)"? output=""')


def calls_in(log: str, registry: str) -> Counter[str]:
    """Count the calls that were delivered for a registry, by type and service."""
    found: Counter[str] = Counter()
    for line in log.splitlines():
        if (match := SCRIPT.search(line)) and match[1] == registry:
            found[" ".join(word.strip('"') for word in match[2].split(", "))] += 1
        elif (match := HTTP.search(line)) and match[1] == registry:
            kind, _, service = match[2].partition("/")
            found[f"{kind} {unquote(service)}".strip()] += 1
    return found
