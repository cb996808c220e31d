"""What is found in texts: the kinds that are built in, and what a pattern of one's own must keep to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rl.errors import InvalidInput

LONGEST_PATTERN = 500
PROBES = ("", "a", "a b", "0-1", "[x]\n")
VARYING = re.compile(r"[*+?]|\{\d*,\d*\}")
REPEATED = re.compile(r"[*+]|\{\d*,?\d*\}")
"""Quantifiers by which something may come so often or so often, and by which it may come more than once."""


def _whole(found: str) -> int:
    return len(found)


@dataclass(frozen=True)
class Rule:
    """``length`` says how many of the characters that ``pattern`` found are meant; 0 is none of them.

    A text without ``mark`` holds none, which is quicker seen.
    """

    name: str
    pattern: re.Pattern[str]
    length: Callable[[str], int] = _whole
    mark: str = ""

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where in the text it is found: begins and ends, from left to right, none of them empty."""
        place = 0 if self.mark in text else len(text) + 1
        while (match := self.pattern.search(text, place)) is not None:
            length = self.length(match[0])
            if length:
                yield match.start(), match.start() + length
            place = match.start() + max(length, 1)


def own(name: str, pattern: str) -> Rule:
    """The rule of a pattern that a user wrote.

    Raises:
        InvalidInput: it is too long, is no regular expression, can match nothing at all, or repeats what repeats.
    """
    field = f"redaction.patterns.{name}"
    if len(pattern) > LONGEST_PATTERN:
        raise InvalidInput(field, pattern, f"write at most {LONGEST_PATTERN} characters; several patterns are fine")
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidInput(field, pattern, f"is no regular expression ({error})") from None
    if any(match[0] == "" for probe in PROBES for match in compiled.finditer(probe)):
        raise InvalidInput(field, pattern, "matches the empty string; name at least one character that must be there")
    if repeats_what_repeats(pattern):
        remedy = "repeats a group that holds a repetition or a choice, which can take for ever; write it without one"
        raise InvalidInput(field, pattern, remedy)
    return Rule(name, compiled)


def repeats_what_repeats(pattern: str) -> bool:
    """Whether a group that may come several times holds a quantifier or ``|``: time may then grow exponentially."""
    plain = re.sub(r"\[\^?\]?(?:\\.|[^\]\\])*\]", "_", re.sub(r"\\.", "_", pattern, flags=re.DOTALL))
    varies = [False]
    for place, character in enumerate(plain):
        if character == "(":
            varies.append(False)
        elif character == ")" and len(varies) > 1:
            inner = varies.pop()
            if inner and REPEATED.match(plain, place + 1):
                return True
            varies[-1] |= inner
        elif character == "|" or (plain[place - 1 : place] not in ("", "(") and VARYING.match(plain, place)):
            varies[-1] = True
    return False


def _is_luhn(digits: str) -> bool:
    """Whether the check digit fits (ISO/IEC 7812-1, annex B)."""
    doubled = [2 * int(one) for one in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(one - 9 if one > 9 else one for one in doubled)) % 10 == 0


ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11,16}|(?:6011|64[4-9]\d|65\d\d|62\d\d|35\d\d)\d{12,15}|(?:50|5[6-9]|6[0139])\d{11,17}"
)
"""Numbers that begin as those of a card, of the lengths that are fixed."""


def _card(found: str) -> int:
    """The longest beginning that is a card's number: an issuer's first digits, 13 to 19 of them, and the check."""
    for end in _ends(found):
        digits = re.sub(r"\D", "", found[:end])
        if 13 <= len(digits) <= 19 and ISSUED.fullmatch(digits) and _is_luhn(digits):
            return end
    return 0


def _iban(found: str) -> int:
    """The longest beginning of 15 to 34 characters whose check digits fit (ISO 13616: the number mod 97 is 1)."""
    for end in _ends(found):
        compact = re.sub(r"[ -]", "", found[:end])
        if len(compact) >= 15 and _mod_97(compact) == 1:
            return end
    return 0


def _mod_97(compact: str) -> int:
    return int("".join(str(int(one, 36)) for one in compact[4:] + compact[:4])) % 97


def _ends(found: str) -> list[int]:
    """Where groups of letters and digits end, the last first."""
    return [match.end() for match in GROUP.finditer(found)][::-1]


GROUP = re.compile(r"[A-Za-z0-9]+")


OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"

RULES = (
    Rule(
        "aws_key",
        re.compile(
            r"(?<![A-Za-z0-9])(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA|AIPA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"
            r"|(?i:aws.{0,20}?secret.{0,20}?[^A-Za-z0-9/+]{1,5}[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+]))"
        ),
    ),
    Rule(
        "api_key",
        re.compile(
            r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}"
            r"|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abeoprs]-[A-Za-z0-9-]{10,}"
            r"|AIza[A-Za-z0-9_-]{30,}|hf_[A-Za-z0-9]{20,}|gsk_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{20,})"
        ),
    ),
    Rule(
        "token",
        re.compile(
            r"(?<![A-Za-z0-9])(?i:bearer)\s{1,8}(?=[^\s0-9]{0,200}[0-9])[A-Za-z0-9._~+/=-]{16,}"
            r"|(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{1,})?"
        ),
    ),
    Rule("email", re.compile(r"[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_][\w-]{1,62}"), mark="@"),
    Rule("iban", re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])"), _iban),
    Rule("card", re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])"), _card),
    Rule(
        "phone",
        re.compile(
            r"(?<![\w+])\+[1-9](?:[ ()./-]{0,2}[0-9]){6,14}(?![0-9])"
            r"|(?<![\w.+-])(?:1[ .-])?(?:\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}(?![\w-])"
            r"|(?<![\w.+-])\(?0[1-9][0-9]{1,4}[)]?[ /-]{1,2}[0-9]{2,4}(?:[ -]?[0-9]{2,4}){1,3}(?![\w-])"
        ),
    ),
    Rule("ipv4", re.compile(rf"(?<![\w.])(?:{OCTET}\.){{3}}{OCTET}(?!\w|\.\w)")),
)
BUILT_IN: Mapping[str, Rule] = MappingProxyType({rule.name: rule for rule in RULES})
"""By kind, in the order in which they are looked for."""
