"""A reader of HTML that forgives nothing: used to see which elements a page really has."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "input"}
TAGS = {
    "a",
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "main",
    "section",
    "article",
    "figure",
    "figcaption",
    "details",
    "summary",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "script",
    "input",
    "label",
    "select",
    "option",
    "button",
    "output",
    "p",
    "div",
    "span",
    "b",
    "strong",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "pre",
    "code",
    "mark",
    "dl",
    "dt",
    "dd",
    "svg",
    "desc",
    "g",
    "path",
    "use",
    "text",
    "defs",
    "clippath",
    "rect",
}
ATTRIBUTES = {
    "lang",
    "charset",
    "http-equiv",
    "content",
    "name",
    "id",
    "class",
    "scope",
    "tabindex",
    "role",
    "aria-label",
    "aria-labelledby",
    "data-n",
    "data-sign",
    "data-kind",
    "data-kinds",
    "data-state",
    "data-change",
    "data-share",
    "data-moved",
    "hidden",
    "for",
    "type",
    "value",
    "placeholder",
    "autocomplete",
    "spellcheck",
    "preserveaspectratio",
    "viewbox",
    "d",
    "x",
    "y",
    "href",
    "transform",
    "clip-path",
    "fill",
    "stroke",
    "stroke-width",
    "stroke-dasharray",
    "stroke-dashoffset",
    "stroke-linecap",
    "stroke-opacity",
    "fill-opacity",
    "opacity",
    "font-size",
    "text-anchor",
    "width",
    "height",
    "open",
}


class StrictPage(HTMLParser):
    """Parses a page; every tag must be closed in order, every tag and attribute be known."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.text: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.problems: list[str] = []
        self.feed(page)
        self.close()
        if self.open:
            self.problems.append(f"never closed: {self.open}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in TAGS:
            self.problems.append(f"element {tag}")
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name not in ATTRIBUTES:
                self.problems.append(f"attribute {tag}.{name}")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"stray </{tag}>")

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)

    def handle_comment(self, data: str) -> None:
        self.problems.append(f"comment {data!r}")

    def unknown_decl(self, data: str) -> None:
        self.problems.append(f"declaration {data!r}")

    def handle_pi(self, data: str) -> None:
        self.problems.append(f"instruction {data!r}")
