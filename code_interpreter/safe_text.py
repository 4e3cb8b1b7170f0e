"""Text of strangers' code as it may be put before a model or a person.

Output can hold characters that nobody sees, or that make the rest look like something else:
directions (Trojan Source), zero widths, tags, terminal sequences. They are kept in ``logs``,
``text`` and ``traceback``; here is the copy in which each of them can be seen.
"""

from __future__ import annotations

import re
import unicodedata

_TERMINAL = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]"
)
_KEPT = "\n\t"
_UNSEEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Categories of Unicode: control, format (directions, zero widths, tags), separators."""
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800")
"""Letters and marks that are drawn as nothing."""


def visible_text(text: str) -> str:
    """``text`` without terminal sequences, its unseen characters as escapes (``\\u202e``).

    Line breaks and tabs stay; ``\\r\\n`` becomes ``\\n``. Variation selectors become escapes,
    too: they can carry hidden bytes; so emoji lose their colour. Letters are not replaced by
    others that look like them.
    """
    if text.isascii() and text.isprintable():
        return text
    plain = _TERMINAL.sub("", text.replace("\r\n", "\n"))
    return "".join(letter if _is_seen(letter) else _escape(letter) for letter in plain)


def _is_seen(letter: str) -> bool:
    if letter in _KEPT:
        return True
    if letter in _BLANK or "\ufe00" <= letter <= "\ufe0f" or "\U000e0100" <= letter <= "\U000e01ef":
        return False
    return unicodedata.category(letter) not in _UNSEEN


def _escape(letter: str) -> str:
    number = ord(letter)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
