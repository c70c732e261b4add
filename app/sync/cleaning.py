"""Text as a shop stores it becomes text as a person reads it: no markup, no entities, no broken characters.

Two entrances: `clean` for prose (descriptions), which also parts words that were glued together when somebody removed
tags and put nothing in their place, and `clean_label` for names and labels, where capitals inside a word belong there.
Neither raises, both are idempotent, and both take time linear in their input, whatever it holds.

One round, repeated until nothing changes (three rounds at most, as entities may hide markup that hides entities):

1. invisible characters go (controls, zero widths, direction marks, lone surrogates);
2. Page Builder's directives go: `{{widget ...}}`, `{{media ...}}`;
3. markup goes: block tags become line breaks, table cells spaces, other tags nothing; scripts, styles and comments go
   with what they hold. Text without a tag has its entities decoded instead. Both decode one level a round;
4. bare style sheets go: what remains of `<style>` where only its tags were removed.

Then broken encodings (UTF-8 read as something else) are mended, Unicode is composed (NFC), what still looks like a tag
or an entity is made harmless, bullets become line breaks, white space shrinks: one space between words, no empty lines.

Most values of a catalogue are plain ASCII without any of this. They are recognised by a few scans at memory speed.
"""

import re
import unicodedata
from collections.abc import Iterator
from html import unescape
from html.entities import html5

from ftfy import fix_encoding
from ftfy.chardata import UTF8_DETECTOR_RE
from selectolax.lexbor import LexborHTMLParser

CLEANING_VERSION = "1"
"""Part of every recipe's hash: raise it whenever the same input would come out differently."""

ROUNDS = 3
PARSER_CHARS = 32_000
PARSER_TAGS = 1_000
"""Above either, markup is cut by pattern, in linear time: a parser's tree costs the square of depth and attributes."""

_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufdd0-\ufdef"
    "\ufeff\ufff0-\uffff\ue000-\uf8ff\U000e0000-\U000e00ff\U000f0000-\U0010ffff]"
)
_C1 = re.compile("[\x80-\x84\x86-\x9f]")
_ADJACENT = re.compile(r"[^\x00-\x7f]{2}")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LOOSE = re.compile(r"&(?!(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_NO_TAG = re.compile(r"<(?![A-Za-z/!?])")
_TORN_TAG = re.compile(r"<(?:[A-Za-z][A-Za-z0-9]{0,20}\s[^<>=]{0,300}=[^<>]*|/[A-Za-z0-9]{0,20}|!--[^<>]*)\Z")
_BLOCK = re.compile(
    r"<(?=/?(?:address|article|aside|blockquote|br|caption|center|dd|details|div|dl|dt|fieldset|figcaption|figure|footer"
    r"|form|h[1-6]|header|hr|legend|li|main|nav|ol|option|p|pre|section|summary|table|tbody|tfoot|thead|tr|ul)\b)",
    re.IGNORECASE,
)
_CELL = re.compile(r"<(?=t[dh]\b)", re.IGNORECASE)
_UNSPOKEN = ("script", "style", "noscript", "template", "iframe", "object", "svg", "title")
_HAS_UNSPOKEN = re.compile(rf"<(?:{'|'.join(_UNSPOKEN)})\b", re.IGNORECASE)
_ANY_TAG = re.compile(r"<[A-Za-z/!?][^<>]*>")
_DIRECTIVE = re.compile(r"\{\{/?[A-Za-z][^{}]{0,2000}\}\}")
_STYLE_BLOCK = re.compile(r"\{(?:\s{0,20}[-A-Za-z]{2,40}\s{0,5}:[^{}]{0,4000}+|\s{0,20})\}")
_SELECTOR = re.compile(
    r"#html-body\b|@media\b|(?<!\w)(?:(?:[uo]l|li|div|span|p|a|table|t[rdh]|h[1-6]|img|body)|(?<!\.))[.#](?=[a-z_-])",
    re.IGNORECASE,
)
_BULLET = re.compile("[\u2022\u2023\u25e6\u25aa\u25ab\u25cf\u25a0\u2043]")

_LOWER, _UPPER = "a-z\xdf-\xf6\xf8-\xff", "A-Z\xc0-\xd6\xd8-\xde"
_SEAM = re.compile(rf"[{_UPPER}](?<=[{_LOWER}.:;!?)].)(?=[{_LOWER}])")
_WHOLE_WORD = re.compile(rf"(?<![\w@])(?:[{_LOWER}]{{4,}}|[{_UPPER}][{_LOWER}]{{9,}})\Z")
_SENTENCE = re.compile(rf"[{_LOWER})][.:;!?)]\Z")
_NEXT_WORD = re.compile(rf"[{_UPPER}][{_LOWER}]{{2,}}(?<!Com)(?<!Net)(?<!Org)(?![{_LOWER}])")
_SMALL_I = re.compile(r"i(?:Phone|Pad|Pod|Cloud|Tunes|Sight|Mac)\b")
_ADDRESS = ("://", "www.", "@")


def clean(text: str) -> str:
    """*text*, a description, without damage; words that lost the tag between them are parted."""
    return _until_stable(text, prose=True)


def clean_label(text: str) -> str:
    """*text*, a name or a label, without damage; capitals inside words stay as they are."""
    return _until_stable(text, prose=False)


def _until_stable(text: str, *, prose: bool) -> str:
    for _ in range(ROUNDS + 1):
        if _plain(text):
            text = text if _tidy(text) else _spaced(text)
            return _parted(text) if prose else text
        before, text = text, _cleaned(text)
        text = _parted(text) if prose else text
        if text == before:
            return text
    return text


def _plain(text: str) -> bool:
    """Nothing in it can be markup, an entity, a directive, a style sheet or a broken encoding."""
    return text.isascii() and "<" not in text and "&" not in text and "{" not in text


def _tidy(text: str) -> bool:
    return text.isprintable() and "  " not in text and text[:1] != " " and text[-1:] != " "


def _cleaned(text: str) -> str:
    for _ in range(ROUNDS):
        text = text if text.isprintable() else _INVISIBLE.sub("", text)
        text = _DIRECTIVE.sub(" ", text) if "{{" in text else text
        before, text = text, _decoded(text)
        text = _without_styles(text) if "{" in text else text
        if text == before:
            break
    if not text.isascii():
        text = _BULLET.sub("\n", _mended(text))
    return _spaced(_harmless(text))


def _decoded(text: str) -> str:
    """One level of markup and entities less."""
    if "<" in text and _TAG.search(text):
        return _without_markup(text)
    return _ENTITY.sub(_entity, text) if "&" in text else text


def _entity(match: re.Match[str]) -> str:
    return unescape(match[0]) if _known(match[0]) else match[0]


def _known(entity: str) -> bool:
    return entity[1] == "#" or entity[1:] in html5


# --- markup ----------------------------------------------------------------------------------------------------------


def _without_markup(html: str) -> str:
    html = _closed(html)
    if len(html) > PARSER_CHARS or html.count("<") > PARSER_TAGS:
        return _ENTITY.sub(_entity, _ANY_TAG.sub("", _marked(html)))
    html = _marked(_LOOSE.sub("&amp;", _NO_TAG.sub("&lt;", html)))
    parser = LexborHTMLParser(html)
    body = parser.body
    if body is None:
        return _ENTITY.sub(_entity, _ANY_TAG.sub("", html))
    if _HAS_UNSPOKEN.search(html):
        body.strip_tags(list(_UNSPOKEN))
    return body.text(deep=True)


def _marked(html: str) -> str:
    """The line breaks of the source mean nothing in markup; those that its block tags make are written out."""
    return _CELL.sub(" <", _BLOCK.sub("\n<", html.replace("\r", " ").replace("\n", " ")))


def _closed(html: str) -> str:
    """A `<` after which nothing is closed begins a torn tag, which goes, or is just a sign, which stays."""
    end = html.rfind(">") + 1
    tail = html[end:]
    if "<" not in tail:
        return html
    return html[:end] + _TORN_TAG.sub("", tail[-5000:] if len(tail) > 5000 else tail).replace("<", "&lt;")


def _without_styles(text: str) -> str:
    """Innermost blocks first, so that what `@media` wraps goes and then the empty wrapper itself."""
    for _ in range(ROUNDS):
        before, text = text, "".join(_between_styles(text))
        if text == before:
            break
    return text


def _between_styles(text: str) -> Iterator[str]:
    """What is no style sheet: a block goes only with a selector that begins at most 400 characters before it."""
    done = 0
    for block in _STYLE_BLOCK.finditer(text):
        nearest = max(done, block.start() - 400, text.rfind("{", done, block.start()) + 1)
        selector = _SELECTOR.search(text, nearest, block.start())
        if selector and (len(selector[0]) > 5 or ". " not in text[selector.start() : block.start()]):
            yield text[done : selector.start()]
            yield " "
            done = block.end()
    yield text[done:]


def _harmless(text: str) -> str:
    """What is left of tags and entities after all rounds cannot be read as such any more."""
    if "<" in text:
        text = _TAG.sub("< ", text)
    if "&" in text:
        text = _ENTITY.sub(lambda match: f"& {match[0][1:]}" if _known(match[0]) else match[0], text)
    return text


# --- characters ------------------------------------------------------------------------------------------------------


def _mended(text: str) -> str:
    """UTF-8 that was read as another encoding is read again; characters are composed."""
    if _suspicious(text):
        text = fix_encoding(text)
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return text if text.isprintable() else _C1.sub("", _INVISIBLE.sub("", text))


def _suspicious(text: str) -> bool:
    """Worth asking ftfy, which takes 0.2 microseconds a character to make up its mind."""
    if _ADJACENT.search(text):
        return UTF8_DETECTOR_RE.search(text) is not None or _C1.search(text) is not None
    return "\xc3 " in text or "\xc2 " in text or (not text.isprintable() and _C1.search(text) is not None)


def _spaced(text: str) -> str:
    """One space between words, one line break between lines, no empty line, none of the controls that `split` knows."""
    if not text.isprintable():
        text = _INVISIBLE.sub("", text)
    return "\n".join([line for raw in text.splitlines() if (line := " ".join(raw.split()))])


# --- glue ------------------------------------------------------------------------------------------------------------


def _parted(text: str) -> str:
    """Every capital that follows a small letter or a sentence's end without a space is looked at, and few are moved."""
    if " " not in text:
        return text
    cuts = [cut for seam in _SEAM.finditer(text) if (cut := _cut(text, seam.start()))]
    if not cuts:
        return text
    return " ".join(text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True))


def _cut(text: str, at: int) -> int:
    """Where the glue before the capital at *at* is to be cut, 0 for nowhere."""
    word = text[max(0, at - 40) : at].rsplit(None, 1)[-1]
    if any(sign in word for sign in _ADDRESS):
        return 0
    if word[-1] in ".:;!?)":  # month.Early and (DuPont).Requires, but not amazon.Com
        return at if _SENTENCE.search(word) and _NEXT_WORD.match(text, at) else 0
    if word[-1] == "i" and _SMALL_I.match(text, at - 1):  # storageiCloud: a brand that begins with a small letter
        return at - 1 if len(word) > 3 else 0
    return at if _WHOLE_WORD.search(word) else 0  # greatGain, but not iPhone, mAh, nVidia, myTouch, GeForce
