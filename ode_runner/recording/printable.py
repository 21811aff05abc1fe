"""Text on its way to a terminal, which obeys what it should only show."""

# Control characters, and those that turn the direction of writing. Lines and tabulators stay.
_OBEYED = (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _OBEYED if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """`text` with what a terminal would obey spelt out: names and reasons may come out of somebody else's files."""
    return text.translate(_SHOWN)
