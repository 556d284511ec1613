"""Write numbers and comparisons as text, and load the templates of the pages."""

from __future__ import annotations

import math
import re
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from sepnet.evaluation.comparison import Comparison

UNDEFINED = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int) -> str:
    """Write a number with a typographic minus sign, and without minus zero; undefined (nan) as a dash."""
    if math.isnan(value):
        return UNDEFINED
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def factor(value: float) -> str:
    """Write a ratio of any size with two digits; undefined (nan) as a dash."""
    if math.isnan(value):
        return UNDEFINED
    if value == 0:
        return "0"
    if value < 0.001:
        return "< 0.001"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def probability(value: float) -> str:
    """Write the p of a test with three digits; undefined (nan) as a dash."""
    if math.isnan(value):
        return UNDEFINED
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def sentence(pair: Comparison) -> str:
    """Write a comparison as a sentence: A beats B by 1.3 dB [1.1, 1.5]."""
    interval = f" [{number(pair.low, 1)}, {number(pair.high, 1)}]" if pair.n > 1 else ""
    if pair.differs:
        return f"{pair.better} beats {pair.worse} by {number(pair.mean, 1)} dB{interval}"
    return f"{pair.better} and {pair.worse} do not differ significantly: {number(pair.mean, 1)} dB{interval}"


def signed(value: float) -> str:
    """Write a number with one digit, and a plus if it is above zero."""
    text = number(value, 1)
    return f"+{text}" if value > 0 and text != "0.0" else text


def breakable(name: str) -> Markup:
    """Write a name for a narrow column: lines may break after an underscore, a hyphen or a slash."""
    return Markup(re.sub("([_/-])", r"\1<wbr>", str(escape(name))))


def cell(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return "".join(f"\\{letter}" if letter in r"\|*_`[]<>#" else letter for letter in text)


def templates(*, html: bool) -> jinja2.Environment:
    """Load the templates, with the functions above as filters.

    Args:
        html: Whether values are escaped for HTML.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sepnet.evaluation"),
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    functions = (number, signed, breakable, factor, probability, sentence, cell)
    environment.filters |= {"url": quote} | {function.__name__: function for function in functions}
    return environment
