"""Plain words for people: durations, counts, and text that comes from elsewhere."""


def span(seconds: float) -> str:
    """Return a duration as a person reads it, such as ``250 ms``, ``12 s`` or ``2 h 5 min``."""
    if seconds < 1:
        return f"{max(0.0, 1000 * seconds):.0f} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(*divmod(whole, 60), "min", "s")
    if whole < 86400:
        return _two(*divmod(whole // 60, 60), "h", "min")
    return _two(*divmod(whole // 3600, 24), "d", "h")


def _two(large: int, small: int, larger: str, smaller: str) -> str:
    return f"{large} {larger} {small} {smaller}" if small else f"{large} {larger}"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as ``1 object`` or ``2 entries``."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def plain(text: str) -> str:
    """Return a text on one line, with what a terminal might obey, or could not show, escaped."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii", "replace") for char in text
    )
