"""Recognizes characters that a word processor, another shell or another notation has put into a command line."""

import os
import re
import shlex
import unicodedata

DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−"), "-")
QUOTES = dict.fromkeys(map(ord, "“”„‟«»‘’‚‛´"), None)
ALONE = {  # a word of a single character, and a sentence that explains it
    "\\": "A line continues on the next if \\ is its very last sign.",
    "^": "That continues a line in Windows' cmd, and \\ does here.",
    "`": "That continues a line in PowerShell, and \\ does here.",
    "$": "That is the prompt of a shell: leave it out.",
}


def about_signs(word: str) -> str:
    """A sentence about characters that make a word unreadable, with what to type instead; "" if there are none."""
    if "\r" in word:
        return r" It ends as lines do in Windows. Save the script with line ends of Unix: sed -i 's/\r$//' SCRIPT."
    if word.strip() in ALONE:
        return f" {ALONE[word.strip()]}"
    plain = keyboard_signs(word)
    if plain != word and plain.isascii():
        return f" Signs of a word processor are in it. Type {plain}."
    if (bare := word.strip("'\"")) != word and "=" in bare:
        return f' Its quotes have reached the program: Windows\' cmd knows "{bare}" alone.'
    if word.strip() != word:
        return f" A space belongs to it, as after a \\ that is not the last sign of its line. Type {word.strip()}."
    if word.startswith("/") and "=" in word:
        return f" Type {word.lstrip('/')}."
    return in_other_notation(word.partition("=")[2] or word)


def keyboard_signs(word: str) -> str:
    """The word without typographic quotes, and with plain hyphens, spaces and letters (NFKC)."""
    plain = unicodedata.normalize("NFKC", word).translate(DASHES | QUOTES)
    return word if plain == word else re.sub(r"\s*=\s*", "=", plain)


def in_other_notation(value: str) -> str:
    """A sentence that says how to type a value in another notation: 0,5 or 10^-3 or ~/data.csv; "" for others."""
    if comma := re.fullmatch(r"([-+]?0),(\d+)", value):  # only after 0, since 1,2 may be two integers
        return f" One number has a point: {comma[1]}.{comma[2]}."
    if power := re.fullmatch(r"(?:(\d+(?:\.\d+)?)\*)?10(?:\^|\*\*)\(?([-+]?\d+)\)?", value):
        return f" Powers of ten are typed as {power[1] or 1}e{power[2]}."
    if value.startswith("~"):
        return f" The shell has not expanded the ~: type {os.path.expanduser(value)}."
    return ""


def about_letters(word: str) -> str:
    """A sentence that says how to type text that is not ASCII: Hydra requires quotes, which the shell must pass on."""
    key, _, value = word.partition("=")
    quoted = shlex.quote(f'{key}="{value}"')
    return "" if value.isascii() or '"' in value else f" Type {quoted}."


def about_comma(word: str) -> str:
    """A hint for a number with a decimal comma; "" for seeds, which are integers."""
    key, _, value = word.partition("=")
    return "" if key == "seed" else in_other_notation(value)
