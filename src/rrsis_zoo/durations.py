"""Durations in words, for lines about work that takes a while. No torch."""


def duration(seconds: float) -> str:
    """Return a duration as precisely as it can be expected.

    Example:
        >>> duration(0.1), duration(42), duration(116), duration(850), duration(7800)
        ('1 s', '42 s', '1.9 min', '14 min', '2 h 10 min')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < 600:
        return f"{seconds / 60:.1f} min"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 120 else f"{whole // 60} h {whole % 60} min"
