"""A claim and its verdict in words: numbers, what a verdict says in its setting, the number that decided.

Everything here is text; `templates/` makes pages of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from traindyn.report.claims import CORRECTED, FAILS, HOLDS, NOT_TESTABLE, UNDECIDED, VERDICTS, Claim

Record = Mapping[str, Any]

# a sign beside the word: colour is never the only carrier
SIGNS = {HOLDS: "✔", CORRECTED: "✎", FAILS: "✘", UNDECIDED: "?", NOT_TESTABLE: "–"}
ELSEWHERE = "◌"
ROLES = {
    "printed": "as printed",
    "corrected": "corrected",
    "weaker": "weaker reading",
    "control": "control",
    "sensitivity": "sensitivity",
}
OPERATORS = {"<=": "≤", ">=": "≥", "==": "=", "<": "<", ">": ">"}
SOURCE, SMALLER, STAND_IN = SETTINGS = ("source", "smaller", "stand-in")


@dataclass(frozen=True)
class Standing:
    """What a verdict says about its claim, given the setting in which it was reached.

    Attributes:
        label: short, one per kind: what tables are filtered and counted by.
        text: what the badge says.
        sign, style: the badge's sign and the ending of its CSS class.
    """

    label: str
    text: str
    sign: str
    style: str


def setting_word(record: Record) -> str:
    """Return in what setting a verdict was reached: source, smaller or stand-in."""
    return (record.get("setting") or {}).get("word") or SOURCE


def standing(record: Record) -> Standing:
    """Return how a verdict is shown.

    A verdict on a stand-in says what was seen there, never that the source's claim holds or fails.
    """
    verdict = record["verdict"]
    if record.get("earlier"):
        text = verdict if verdict == NOT_TESTABLE else f"judged by an earlier criterion: {verdict}"
        return Standing("judged by an earlier criterion", text, ELSEWHERE, "earlier")
    style = verdict.replace(" ", "-")
    word = setting_word(record)
    if word == SOURCE or verdict in (UNDECIDED, NOT_TESTABLE):
        return Standing(verdict, verdict, SIGNS[verdict], style)
    if word == SMALLER:
        return Standing(f"{verdict}, at a smaller scale", f"{verdict}, at a smaller scale", SIGNS[verdict], style)
    label = f"on a stand-in: {verdict}"
    return Standing(label, f"not decided in its setting; {label}", ELSEWHERE, "elsewhere")


def labels(records: Iterable[Record]) -> list[str]:
    """Return the labels that occur, the source's setting first, then the verdicts' own order."""
    found = {standing(record).label for record in records}
    return sorted(found, key=lambda label: (":" in label, "," in label, _place(label), label))


def _place(label: str) -> int:
    verdict = re.sub(r"^on a stand-in: |, at a smaller scale$", "", label)
    return VERDICTS.index(verdict) if verdict in VERDICTS else len(VERDICTS)


def number(value: float | int | bool | str | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits; None and NaN are a dash, infinity is ∞ ("never")."""
    if value in ("inf", "-inf"):
        value = float(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def neat(value: float | str | None) -> str:
    """Return a number as it stands on a page: with three digits, and powers of ten written out (6.4·10⁸)."""
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    text = number(value)
    head, _, power = text.partition("e")
    if not power or not power.lstrip("+-").isdigit():
        return text.replace("-", "−")
    ten = f"10{str(int(power)).translate(digits)}"
    return ten if head == "1" else f"{head}·{ten}".replace("-", "−")


def order_of_magnitude(value: float | None) -> str:
    """Return "tiny" below 1e-8, where rounding rules, else the nearest power of ten, such as "1e-3"."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "inf"
    if abs(value) < 1e-8:
        return "tiny"
    return f"{'-' if value < 0 else ''}1e{round(math.log10(abs(value)))}"


def spread(value: Any, coarse: bool = False) -> str:
    """Return a measured value as text: one number, or "minimum / median / maximum (count)" of a list over seeds."""
    show = order_of_magnitude if coarse else number
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return show(value)
    known = sorted(float(v) for v in value if v is not None and not math.isnan(float(v)))
    if not known:
        return "–"
    middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    return f"{show(known[0])} / {show(middle)} / {show(known[-1])} ({len(known)})"


def short(text: str, length: int = 110) -> str:
    """Return the beginning of a text, cut between words, never inside TeX or code."""
    text = " ".join(str(text).split())
    if len(text) <= length:
        return text
    kept = ""
    for piece in re.findall(r"\$[^$]*\$\S*|`[^`]*`\S*|[^\s$`]+\$[^$]*\$\S*|\S+", text):
        if len(kept) + len(piece) > length:
            break
        kept += f" {piece}"
    return f"{kept.strip().rstrip(',;:.')} …"


def reported(value: Any) -> str:
    """Return what the source prints as one line."""
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return "; ".join(f"{str(key).replace('_', ' ')}: {reported(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(reported(item) for item in value)
    return str(value)


def asked(part: Mapping[str, Any], coarse: bool = False) -> str:
    """Return what a part's deciding value was compared with: "≥ 1.3"; empty if nothing was compared."""
    if part.get("operator") is None or part.get("threshold") is None:
        return ""
    threshold = real(part["threshold"])
    text = order_of_magnitude(threshold) if coarse else neat(threshold)
    return f"{OPERATORS.get(part['operator'], part['operator'])} {text}"


def real(value: Any) -> float | None:
    """Return a number of `claims.json` as a float (it may be \"inf\"); None stays None."""
    return None if value is None else float(value)


def deciding(claim: Claim, record: Record) -> dict[str, str] | None:
    """Return the comparison behind a verdict: name of the part, value, what was asked, margin; None if there is none.

    Of the deciding parts that speak for the verdict it is the one closest to its threshold: of the printed parts where
    the claim holds, of those that are not met where it fails, of the corrected ones where a correction saves it.
    """
    if record.get("earlier") or record["verdict"] == NOT_TESTABLE:
        return None
    reads = {CORRECTED: ("corrected", "weaker"), UNDECIDED: tuple(ROLES)}.get(record["verdict"], ("printed",))
    known = [
        (part, record["parts"][part.name])
        for part in claim.parts
        if part.decides and part.reads in reads and part.name in record["parts"]
    ]
    known = [(part, found) for part, found in known if isinstance(found, Mapping) and found.get("value") is not None]
    if record["verdict"] == FAILS:
        known = [pair for pair in known if pair[1].get("outcome") is False]
    if not known:
        return None
    part, found = min(known, key=lambda pair: abs(real(pair[1].get("margin")) or 0) or math.inf)
    return {
        "name": part.name.replace("-", " ").replace("_", " "),
        "value": neat(real(found["value"])),
        "asked": asked(found),
        "margin": margin(found),
    }


def margin(part: Mapping[str, Any]) -> str:
    """Return the margin of a part's comparison, in spreads; empty if there is none."""
    found = real(part.get("margin"))
    return "" if found is None or math.isnan(found) else number(found, 2).replace("-", "−")


def setting_words(record: Record) -> str:
    """Return the sentence on the setting of a verdict: what differs from the source's, what the source leaves open."""
    if record["verdict"] == NOT_TESTABLE or not (record.get("setting") or record.get("earlier")):
        return ""
    if record.get("earlier"):
        return f"Stand-in: {record['stand_in']}." if record.get("stand_in") else ""
    found = record.get("setting") or {}
    differs = [item if isinstance(item, str) else difference(item) for item in found.get("differs") or []]
    left = [str(item) for item in found.get("open") or []]
    word = setting_word(record)
    text = {
        SOURCE: "In the source's setting" if found.get("printed", True) else "No setting is printed",
        SMALLER: "At a smaller scale than the source's",
        STAND_IN: "On a stand-in, so the claim is not decided in its setting",
    }[word]
    said = "" if word == SOURCE else found.get("said") or "; ".join(differs)
    text += f": {said}" if said else ""
    if left:
        text += f"{', as far as printed' if word == SOURCE else ''}; open: {', '.join(left)}"
    return f"{text}."


def difference(item: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return one differing key as words: "width 512 (source: 1024)"."""
    if isinstance(item, Mapping):
        values = [item.get(key) for key in ("experiment", "key", "ours", "source")]
    else:
        values = [None] * (4 - len(item)) + list(item)
    experiment, key, ours, theirs = values
    name = f"{experiment}, {key}" if experiment else str(key)
    return f"{name} {_plain(ours)} (source: {_plain(theirs)})"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return number(value) if isinstance(value, float) else str(value)


def stability(record: Record) -> str:
    """Return how often redraws of the seeds repeated a verdict, with its interval."""
    found = record.get("stability")
    if not found:
        return "not measured yet" if record.get("seeds", 1) is not None else "no seed enters it"
    share, low, high = (f"{100 * found[key]:.0f} %" for key in ("share", "low", "high"))
    pool = f", from {found['seeds']} seeds at {found['preset']}" if "seeds" in found else ""
    return f"repeated in {share} of redraws ({low} to {high}){pool}"


def verdict_line(claim: Claim, record: Record) -> str:
    """Return a verdict as one line of text: the alternative to its card where HTML is not shown."""
    it, key = standing(record), deciding(claim, record)
    line = f"{claim.id}: {it.text}"
    if key:
        line += f" ({key['name']} {key['value']}, asked {key['asked']}"
        line += f", margin {key['margin']})" if key["margin"] else ")"
    return line
