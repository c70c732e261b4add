"""Descriptions as they arrive in an index: as the shop's editor saved them (HTML), and stripped the way Magento strips.

Magento's own indexer deletes tags and puts nothing in their place, so words of neighbouring items are glued together;
entities, style blocks of the page builder and its directives remain. ElasticSuite keeps the HTML.
"""

import re
from collections.abc import Callable

from app.demo.goods import Form, Good
from app.demo.shop import the_shop

TAG = re.compile(r"<!--.*?-->|<[^>]+>", re.DOTALL)

STYLE = (
    "#html-body [data-pb-style={mark:07X}]{{justify-content:flex-start;display:flex;flex-direction:column;"
    "background-position:left top;background-size:cover;background-repeat:no-repeat;background-attachment:scroll}}"
)


def html(good: Good) -> str:
    """The description as the editor saved it."""
    return _WRITERS[good.form](good)


def stripped(good: Good) -> str:
    """The description after `strip_tags`; where tags were left over on purpose, they are in the text already."""
    if good.form == "plain":
        return f"{' '.join(good.sentences)} {'. '.join(good.features)}."
    if good.form == "leftovers":
        return html(good)
    return TAG.sub("", html(good))


def _plain(good: Good) -> str:
    items = "</li>\n<li>".join(good.features)
    return f"<p>{' '.join(good.sentences)}</p>\n<ul>\n<li>{items}</li>\n</ul>"


def _glued(good: Good) -> str:
    """Not a blank between the tags: once they are gone, words stand together."""
    items = "</li><li>".join(good.features)
    return f"<p>{'</p><p>'.join(good.sentences)}</p><ul><li>{items}</li></ul>"


def _entities(good: Good) -> str:
    items = "<br/>&bull;&nbsp;".join(good.features)
    return f"<p>{_line(good)}&trade; &ndash; {' '.join(good.sentences)}</p> &bull;&nbsp;{items}"


def _escaped_twice(good: Good) -> str:
    return TAG.sub(" ", _entities(good)).replace("&", "&amp;")


def _page_builder(good: Good) -> str:
    mark = (good.number * 48_271 + 0xA51CE) % 0xFFFFFFF
    related = f'{{{{widget type="Hollin\\Blocks\\Related" products_count="4" category="{good.kind.category_id}"}}}}'
    picture = f'{{{{media url="wysiwyg/{good.kind.code.lower()}.jpg"}}}}'
    return (
        f"<style>{STYLE.format(mark=mark)}</style>"
        f'<div data-content-type="row" data-appearance="contained" data-element="main"><div data-pb-style="{mark:07X}">'
        f'<div data-content-type="text"><p>{" ".join(good.sentences)}</p></div>'
        f'<figure data-content-type="image"><img src="{picture}" alt=""></figure>{picture} {related}</div></div>'
    )


def _leftovers(good: Good) -> str:
    """Inline styles, handlers, a comment and a badge: what people paste into the editor."""
    first, *others = good.sentences
    return (
        f'<span style="font-family: Verdana; font-size: 11px" onclick="track(\'{good.sku}\')">{first}</span>'
        f"<!-- imported {good.number} -->{' '.join(others)}"
        f'<img src="https://pictures.hollin.example/badge.gif" alt="" width="1"><b>{good.features[0]}</b>'
    )


def _line(good: Good) -> str:
    return the_shop().lines[good.line]


_WRITERS: dict[Form, Callable[[Good], str]] = {
    "plain": _plain,
    "glued": _glued,
    "entities": _entities,
    "escaped_twice": _escaped_twice,
    "page_builder": _page_builder,
    "leftovers": _leftovers,
    "empty": lambda _good: "",
    "missing": lambda _good: "",
}
