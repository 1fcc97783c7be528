"""MkDocs hooks: load Mermaid from the site's own files instead of from a CDN."""

from __future__ import annotations

import shutil
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError

MERMAID = Path(__file__).parent / "node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js"
CDN_MERMAID = '"https://unpkg.com/mermaid@11/dist/mermaid.min.js"'
CDN_POLYFILL = '"https://unpkg.com/resize-observer-polyfill"'
OWN_MERMAID = 'new URL("mermaid.js",document.querySelector("script[src*=bundle]").src).href'


def on_post_build(config: MkDocsConfig) -> None:
    """Copy Mermaid beside the theme's script, and make the script load that copy.

    Raises PluginError if Mermaid is missing, or the theme does not load Mermaid or loads other files from the CDN.
    """
    if not MERMAID.is_file():
        raise PluginError(f"{MERMAID} is missing: run npm ci --prefix tools/site, or build with make docs")
    (bundle,) = Path(config.site_dir, "assets/javascripts").glob("bundle.*.min.js")
    text = bundle.read_text()
    if CDN_MERMAID not in text:
        raise PluginError(f"{bundle.name} does not load {CDN_MERMAID}: adapt tools/site/hooks.py to the theme")
    # No browser of this decade needs the polyfill.
    text = text.replace(CDN_MERMAID, OWN_MERMAID).replace(CDN_POLYFILL, '"about:blank"')
    if "unpkg.com" in text:
        raise PluginError(f"{bundle.name} loads another file from unpkg.com: adapt tools/site/hooks.py to the theme")
    bundle.write_text(text)
    bundle.with_suffix(".js.map").unlink(missing_ok=True)  # no longer matches the script
    shutil.copyfile(MERMAID, bundle.with_name("mermaid.js"))
