"""Small changes to published class files, without which two servers do not run on a jlinked Java runtime.

1. Elasticsearch's entitlement jar says `requires jdk.jdi` and `requires jdk.jlink`; a runtime that lacks them does not
   start. A `requires static` is wanted at compile time only, so the flag ACC_STATIC_PHASE is set for the two. The
   server then starts and runs with its entitlements on, also where the modules are there.
2. OpenSearch builds every analyser that it knows whenever an index is created, Thai's too, and Lucene's ThaiTokenizer
   refuses a runtime that has no Thai dictionary. Its question (`getstatic DBBI_AVAILABLE; ifne`) is answered with yes,
   so that such a runtime splits Thai by plain rules, and everything else works. A full JDK answers yes by itself.

Layout of a class file: Java Virtual Machine Specification, 4.1, 4.4, 4.7.25 and 6.5.
"""

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

OPTIONAL = frozenset({"jdk.jdi", "jdk.jlink"})
STATIC_PHASE = 0x0040
THAI = "org/apache/lucene/analysis/th/ThaiTokenizer.class"
DICTIONARY = "DBBI_AVAILABLE"
GETSTATIC, IFNE, ICONST_1, NOP = 0xB2, 0x9A, 0x04, 0x00
TEXT, LONG, DOUBLE, FIELD, NAME_AND_TYPE, MODULE = 1, 5, 6, 9, 12, 19
# Bytes behind the tag of each kind of constant; a text carries its own length.
SIZES = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}

Constants = dict[int, tuple[int, bytes]]
Patch = Callable[[bytes], tuple[bytes, list[str]]]


def patch_entitlements(jar: Path) -> list[str]:
    """Make the two modules optional in Elasticsearch's *jar*; those that it changed."""
    return _patch_entry(jar, "module-info.class", optional_modules)


def patch_thai(jar: Path) -> list[str]:
    """Let Lucene's *jar* do without a Thai dictionary; what it changed."""
    return _patch_entry(jar, THAI, without_dictionary)


def _patch_entry(jar: Path, name: str, patch: Patch) -> list[str]:
    """Patch one entry of *jar* in place, all or nothing."""
    with zipfile.ZipFile(jar) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    changed: list[str] = []
    part = jar.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries:
            if entry.filename == name:
                data, changed = patch(data)
            archive.writestr(entry, data)
    os.replace(part, jar)
    return changed


# --- the two patches -------------------------------------------------------------------------------------------------


def optional_modules(descriptor: bytes) -> tuple[bytes, list[str]]:
    """A `module-info.class` with the flags set, and the names of modules that got one."""
    constants, position = _constants(descriptor)
    data, changed = bytearray(descriptor), []
    position += 6 + 3 * 2  # access flags, this, super; no interfaces, fields, methods in a module descriptor
    (attributes,) = struct.unpack_from(">H", data, position)
    position += 2
    for _ in range(attributes):
        name, length = struct.unpack_from(">HI", data, position)
        position += 6
        if _text(constants, name) == "Module":
            changed += _patch_requires(data, position, constants)
        position += length
    return bytes(data), changed


def _patch_requires(data: bytearray, position: int, constants: Constants) -> list[str]:
    """Set the flag in the `requires` table of the Module attribute whose body begins at *position*."""
    changed = []
    table = position + 6  # module name, flags, version
    (count,) = struct.unpack_from(">H", data, table)
    for entry in range(count):
        at = table + 2 + 6 * entry
        index, flags = struct.unpack_from(">HH", data, at)
        name = _named(constants, index)
        if name in OPTIONAL and not flags & STATIC_PHASE:
            struct.pack_into(">H", data, at + 2, flags | STATIC_PHASE)
            changed.append(name)
    return changed


def without_dictionary(tokenizer: bytes) -> tuple[bytes, list[str]]:
    """A class that no longer asks for a dictionary, and the name of the field once for each question."""
    constants, end = _constants(tokenizer)
    data, changed = tokenizer, []
    for index, (tag, value) in constants.items():
        if tag != FIELD or _field_name(constants, value) != DICTIONARY:
            continue
        asked = bytes([GETSTATIC, *struct.pack(">H", index), IFNE])
        changed += [DICTIONARY] * data.count(asked, end)
        data = data[:end] + data[end:].replace(asked, bytes([ICONST_1, NOP, NOP, IFNE]))
    return data, changed


# --- the constants of a class ----------------------------------------------------------------------------------------


def _constants(data: bytes) -> tuple[Constants, int]:
    """The constants by their index, tag and bytes each, and where they end."""
    (count,) = struct.unpack_from(">H", data, 8)
    constants: Constants = {}
    position, index = 10, 1
    while index < count:
        tag = data[position]
        start, size = position + 1, SIZES.get(tag, 0)
        if tag == TEXT:
            start, size = position + 3, int.from_bytes(data[position + 1 : position + 3], "big")
        constants[index] = (tag, data[start : start + size])
        position = start + size
        index += 2 if tag in (LONG, DOUBLE) else 1
    return constants, position


def _text(constants: Constants, index: int) -> str:
    tag, value = constants.get(index, (0, b""))
    return value.decode("utf-8", "replace") if tag == TEXT else ""


def _named(constants: Constants, index: int) -> str:
    """The name of a module."""
    tag, value = constants.get(index, (0, b""))
    return _text(constants, int.from_bytes(value, "big")) if tag == MODULE else ""


def _field_name(constants: Constants, field: bytes) -> str:
    """The name in a reference to a field: class and name-and-type, two bytes each."""
    tag, value = constants.get(int.from_bytes(field[2:4], "big"), (0, b""))
    return _text(constants, int.from_bytes(value[:2], "big")) if tag == NAME_AND_TYPE else ""
