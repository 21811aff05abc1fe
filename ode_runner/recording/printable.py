"""Text for a terminal, without the control characters that the terminal would execute."""

# Control characters, and those that change the direction of text.
_CONTROL = (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _CONTROL if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """`text` with control characters escaped, except line feeds and tabs: the text may come from other people."""
    return text.translate(_SHOWN)


def on_one_line(text: str) -> str:
    """`text` with all characters escaped that are not printable, including line feeds and tabs."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
