"""Fails if a link inside the built pages leads nowhere. Run with ``python docs/check_links.py docs/_build/html``."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what leads somewhere, and what can be led to."""
        given = {name: value for name, value in attrs if value}
        self.links |= {given[name] for name in ("href", "src") if name in given}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}


def broken(site: Path) -> list[str]:
    """Links whose page or anchor is not there."""
    files = [p for p in site.resolve().rglob("*.html") if "_static" not in p.parts]
    pages = {path: Page(path.read_text("utf-8")) for path in files}
    found = []
    for path, page in sorted(pages.items()):
        for link in sorted(page.links):
            to = urlsplit(link)
            if to.scheme or to.netloc:
                continue
            target = (path.parent / unquote(to.path)).resolve() if to.path else path
            anchor = unquote(to.fragment)
            lost = target in pages and anchor and anchor not in pages[target].anchors
            if lost or not target.is_file():
                found.append(f"{path.relative_to(site.resolve())}: {link}")
    if not pages:
        raise SystemExit(f"No pages in {site}: build them first.")
    return found


if __name__ == "__main__":
    lost = broken(Path(sys.argv[1]))
    print("\n".join(lost) or "all links inside the site lead somewhere")
    sys.exit(bool(lost))
