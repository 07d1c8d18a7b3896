"""Turns a matplotlib figure into inline SVG that follows the page: its colours, its font, its accessibility.

matplotlib writes fixed colours into style attributes. The figures of `plots.py` are drawn in placeholder
colours; here each becomes a class that the page's style sheet colours for light and for dark. No style
attribute is left, so that the page's Content-Security-Policy can forbid them all.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Placeholder colours, by the name of the style sheet's variable. They stand for nothing that is ever seen.
INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
BEFORE, AFTER, WORSE = "#050505", "#060606", "#070707"
_ROLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    PAPER: "paper",
    BEFORE: "before",
    AFTER: "after",
    WORSE: "worse",
}
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DROPPED = {"font-family", "stroke-linejoin", "stroke-miterlimit"}


def inline_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `<svg>` element for an HTML page; equal figures give equal text.

    Args:
        figure: A figure drawn in the placeholder colours.
        name: Unique on the page; prefixes all ids.
        title: What a screen reader announces.
        description: What the figure shows, in words.

    Returns:
        The element as text; every text in it is escaped.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    # The salt makes the ids of clip paths depend on the figure alone; text stays text.
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    root = ET.fromstring(buffer.getvalue())
    for element in root.iter():
        _plain_names(element)
        _classes_for_style(element)
    _drop(root)
    _rename_ids(root, name)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update({"role": "img", "aria-labelledby": f"{name}-title {name}-desc", "class": "plot"})
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = ET.Element(tag, {"id": f"{name}-{tag}"})
        child.text = text
        root.insert(position, child)
    return ET.tostring(root, encoding="unicode")


def _plain_names(element: ET.Element) -> None:
    """Drops XML namespaces (HTML knows SVG without them), layout white space and needless digits."""
    element.tag = element.tag.rpartition("}")[2]
    for key in list(element.attrib):
        value = _NUMBER.sub(_two_digits, element.attrib.pop(key))
        element.attrib[key.rpartition("}")[2]] = " ".join(value.split())
    if element.attrib.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if element.tag != "text":
        element.text = None
    element.tail = None


def _two_digits(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")


def _classes_for_style(element: ET.Element) -> None:
    """Replaces the style attribute by presentation attributes, and placeholder colours by classes."""
    classes = []
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key in ("fill", "stroke") and value in _ROLES:
            classes.append(f"{key}-{_ROLES[value]}")
        elif key and key not in _DROPPED:
            element.attrib[key] = value
    if classes:
        element.attrib["class"] = " ".join(classes)


def _drop(parent: ET.Element) -> None:
    """Removes metadata, matplotlib's own style sheet and groups that hold nothing."""
    for child in list(parent):
        _drop(child)
        if child.tag in ("metadata", "style") or (child.tag in ("g", "defs") and not len(child)):
            parent.remove(child)


def _rename_ids(root: ET.Element, name: str) -> None:
    """Prefixes the ids that something refers to and drops the others: several figures share one page."""
    used = {value[1:] for e in root.iter() for key, value in e.attrib.items() if key == "href"}
    used |= {ref for e in root.iter() for value in e.attrib.values() for ref in _REFERENCE.findall(value)}
    for element in root.iter():
        if element.attrib.get("id") not in used:
            element.attrib.pop("id", None)
        for key, value in element.attrib.items():
            if key == "id":
                element.attrib[key] = f"{name}-{value}"
            elif key == "href":
                element.attrib[key] = f"#{name}-{value[1:]}"
            else:
                element.attrib[key] = _REFERENCE.sub(rf"url(#{name}-\1)", value)
