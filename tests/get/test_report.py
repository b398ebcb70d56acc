"""The report holds every result, opens in a browser without errors, and refuses what it cannot write."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import anndata as ad
import numpy as np
import pytest

import lucidvi as lv
from lucidvi._report._collected import _PLOTS, collected
from lucidvi._report._texts import TEXTS

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")


class Page(HTMLParser):
    """Identifiers, links, sources of images and their texts, headings and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.images, self.text, self.open = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[k] for k in ("href", "src") if k in given]
        self.images += [given] if tag == "img" else []
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def page(adata, tmp_path):
    path = lv.report(adata, tmp_path / "report.html", title="Füße <of> one & all")
    return path


def test_every_result_is_there(adata, page):
    sections = list(collected(adata))
    kept = [key for key, value in adata.uns.items() if isinstance(value, dict) and key != "loadings"]  # fmt: skip
    # loadings made by hand say nothing of what made them
    assert sorted(s.key for s in sections) == sorted(set(kept) - {"sivae_neighbors"})
    parsed = Page(page.read_text(encoding="utf-8"))
    assert not parsed.open and len(set(parsed.ids)) == len(parsed.ids)
    text = " ".join("".join(parsed.text).split())
    assert "Füße <of> one & all" in text
    for section in sections:
        assert section.text.title in text and section.methods in text and section.place in text
        assert all(limit in text for limit in section.text.limits)
        for table in section.tables:
            assert table.title in text
            names = table.rows.select_dtypes(exclude=["number", "bool"]).astype(str).to_numpy().ravel()  # fmt: skip
            assert all(" ".join(name.split()) in text for name in names[:50]), table.title
    assert text.count("Gayoso") == 1


def test_it_needs_no_network_and_is_small(page):
    parsed = Page(page.read_text(encoding="utf-8"))
    assert all(link.startswith(("#", "data:")) for link in parsed.links)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert parsed.images and all(image["alt"] for image in parsed.images)
    assert page.stat().st_size < 10e6


def test_it_changes_nothing(adata, tmp_path):
    before = adata.copy()
    lv.report(adata, tmp_path / "a.html")
    assert set(before.uns) == set(adata.uns) and set(before.varm) == set(adata.varm)


def test_markdown(adata, tmp_path):
    text = lv.report(adata, tmp_path / "a.md").read_text(encoding="utf-8")
    for section in collected(adata):
        assert f"## {section.text.title}: `{section.key}`" in text and section.methods in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_numbers_warn(adata, tmp_path):
    adata.uns["subset_perturbation"]["sets"]["reliable"] = False
    sets = adata.uns["subset_perturbation"]["sets"]
    sets["cis_share"] = np.linspace(0, 1, len(sets))
    text = lv.report(adata, tmp_path / "a.html").read_text(encoding="utf-8")
    assert f"In {len(sets)} of {len(sets)} rows" in text
    assert f"In {(sets['cis_share'] < 0.5).sum()} of {len(sets)} sets" in text


def test_attributions_that_do_not_add_up(adata, tmp_path):
    columns = adata.uns["attributions"]["columns"]
    columns["completeness_gap"] = [0.2, 0.04, -0.06, np.nan] * (len(columns) // 4)
    text = lv.report(adata, tmp_path / "a.html").read_text(encoding="utf-8")
    assert f"In {len(columns) // 2} of {len(columns)} columns, attributions miss more than 5 %" in text  # fmt: skip


def test_a_missing_figure_is_explained(adata, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("68 targets are <too many> for one figure.")

    monkeypatch.setitem(_PLOTS, "subset_perturbation", refuse)
    text = lv.report(adata, tmp_path / "a.html").read_text(encoding="utf-8")
    assert "No figure: 68 targets are &lt;too many&gt; for one figure." in text


def test_every_explanation_has_a_text():
    beside = {"attribution_confidence", "panel_confidence"}  # they add to other results
    assert set(TEXTS) == set(lv.explain.__all__) - beside


def test_bad_input(adata, tmp_path):
    with pytest.raises(ValueError, match="must end in '.html' or '.md'"):
        lv.report(adata, tmp_path / "a.pdf")
    with pytest.raises(ValueError, match="does not exist"):
        lv.report(adata, tmp_path / "none" / "a.html")
    with pytest.raises(ValueError, match="no result of lucidvi"):
        lv.report(ad.AnnData(np.ones((2, 2))), tmp_path / "a.html")
    with pytest.raises(TypeError, match="AnnData or MuData"):
        lv.report([1], tmp_path / "a.html")


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_in_a_browser(page, tmp_path):
    """Figures load, tables sort both ways, nothing is logged as an error."""
    probe = """<script>
const said = [];
for (const image of document.images) if (!image.complete || !image.naturalWidth) said.push("figure");
for (const table of document.querySelectorAll("table")) for (const button of table.querySelectorAll("th button")) {
  const column = [...button.closest("tr").children].indexOf(button.parentElement);
  const read = () => [...table.tBodies[0].rows].map(r => r.children[column].dataset.value ?? r.children[column].textContent).filter(v => v !== "");
  button.click(); const up = read(); button.click(); const down = read();
  const number = up.every(v => !isNaN(v)), key = v => number ? +v : v;
  for (let i = 1; i < up.length; i++) if (number && (+up[i - 1] > +up[i] || +down[i - 1] < +down[i])) said.push("order " + column);
  if (button.parentElement.getAttribute("aria-sort") !== "descending") said.push("aria");
}
if (document.documentElement.scrollWidth > window.innerWidth) said.push("wider than the window");
document.documentElement.dataset.probe = said.length ? said.join(",") : "fine";
</script></body>"""
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text("utf-8").replace("</body>", probe), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=500,900"]  # fmt: skip
    done = subprocess.run([BROWSER, *options, "--dump-dom", probed.as_uri()], capture_output=True, text=True, timeout=120)  # fmt: skip
    assert 'data-probe="fine"' in done.stdout, re.findall(r'data-probe="[^"]*"', done.stdout)
    assert "CONSOLE" not in done.stderr
