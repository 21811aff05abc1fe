"""Durations as they are printed."""


def clock(seconds: float) -> str:
    """3723 as 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def duration(seconds: float) -> str:
    """12.3 as 12 s, 3723 as 1:02:03."""
    return clock(seconds) if seconds >= 100 else f"{seconds:.0f} s"
