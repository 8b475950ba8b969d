"""TOML files and the places in them: every complaint names file, line, table and key.

``tomllib`` forgets where a value stood, so the text is scanned once for tables and keys. Values may
also come from the command line (``--bond``, ``--set``); then that option is the place.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from orchestrator.errors import BottomhalfError, did_you_mean, listed

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

Loc = tuple[str | int, ...]
Model = TypeVar("Model", bound="BaseModel")

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r'^\s*("[^"]*"|[A-Za-z0-9_.-]+)\s*=')


class TomlFile:
    """A parsed file that knows at which line each key stands."""

    def __init__(self, shown: str, text: str) -> None:
        self.shown = shown
        self.text = text
        self._lines = _locate(text)
        self.options: dict[Loc, str] = {}  # loc -> command-line option that set it
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            where = re.search(r"\(at line (\d+), column \d+\)", str(error))
            line = f":{where[1]}" if where else f":{text.count(chr(10)) + 1}"
            what = re.sub(r"\s*\(at .*\)$", "", str(error))
            hint = 'strings need quotes: mode = "active-backup"; lists: nics = ["eth0"]'
            raise BottomhalfError(f"{shown}{line}: not TOML: {what}", hint) from None

    def line(self, loc: Loc) -> int | None:
        """Line of a key or table, or of the nearest table around it."""
        while loc:
            if loc in self._lines:
                return self._lines[loc]
            loc = loc[:-1]
        return None

    def place(self, loc: Loc) -> str:
        """``my.toml:14``, or the option that set the value."""
        if loc in self.options:
            return self.options[loc]
        line = self.line(loc)
        return self.shown if line is None else f"{self.shown}:{line}"

    def error(self, loc: Loc, what: str, hint: str = "") -> BottomhalfError:
        """A complaint about the value at ``loc``."""
        return BottomhalfError(f"{self.place(loc)}: {what}", hint)

    def get(self, loc: Loc) -> Any:
        value: Any = self.data
        for part in loc:
            value = value[part]
        return value

    def set(self, loc: tuple[str, str], value: Any, option: str) -> None:
        """Overlay a value of the command line."""
        self.data.setdefault(loc[0], {})[loc[1]] = value
        self.options[loc] = option


def _locate(text: str) -> dict[Loc, int]:
    lines: dict[Loc, int] = {}
    table: Loc = ()
    arrays: dict[str, int] = {}
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        if depth == 0:
            head = _TABLE.match(line)
            if head:
                names = [part.strip('"') for part in re.findall(r'"[^"]*"|[^.]+', head[2])]
                if head[1] == "[[":
                    arrays[names[0]] = arrays.get(names[0], -1) + 1
                inside = (arrays[names[0]],) if names[0] in arrays else ()
                table = (names[0], *inside, *names[1:])
                lines[table] = number
                continue
            key = _KEY.match(line)
            if key:
                lines[(*table, key[1].strip('"'))] = number
        bare = re.sub(r'"[^"]*"|\'[^\']*\'|#.*', "", line)
        depth = max(0, depth + bare.count("[") - bare.count("]"))
    return lines


#: What ends a hint that lists names.
PATHS = "a path needs a `/` or ends in .toml"

#: Commands that list what is bundled.
_LISTINGS = {
    "scenarios": "bottomhalf run --list",
    "labs": "bottomhalf lab list",
    "guestlabs": "bottomhalf lab list",
}
#: What else a name may be, and what one does with that.
_USES = {
    "machines": ("machine", "bottomhalf up"),
    "scenarios": ("scenario", "bottomhalf run"),
    "labs": ("lab", "bottomhalf lab run"),
    "guestlabs": ("lab", "bottomhalf lab run"),
}


def is_path(name: str) -> bool:
    """A path holds a ``/`` or ends in .toml; anything else is a bundled name."""
    return "/" in name or name.endswith(".toml")


def bundled(kind: str) -> list[str]:
    """Names of the bundled ``machines``, ``scenarios`` or ``labs``."""
    folder = resources.files("configs") / kind
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def read(kind: str, name: str) -> TomlFile:
    """A bundled file or a path; ``kind`` is ``machines``, ``scenarios`` or ``labs``."""
    if is_path(name):
        try:
            return TomlFile(name, Path(name).read_text(encoding="utf-8"))
        except OSError as error:
            raise BottomhalfError(f"{name}: {error.strerror}", _bundled_hint(kind)) from None
        except UnicodeDecodeError:
            raise BottomhalfError(f"{name}: not UTF-8 text", "a TOML file is UTF-8") from None
    known = bundled(kind)
    if name not in known:
        one = kind.removesuffix("s")
        for other, (what, command) in _USES.items():
            if other != kind and name in bundled(other):
                raise BottomhalfError(f"no {one} `{name}`: it is a {what}", f"{command} {name}")
        listing = _LISTINGS.get(kind, "") or listed("bundled:", known)
        raise BottomhalfError(
            f"no {one} `{name}`{did_you_mean(name, known)}", f"{listing}          {PATHS}"
        )
    text = (resources.files("configs") / kind / f"{name}.toml").read_text(encoding="utf-8")
    return TomlFile(f"{name}.toml", text)


def _bundled_hint(kind: str) -> str:
    return listed(f"bundled {kind}, by name:", bundled(kind))


# ---------------------------------------------------------------- validation


def validate(model: type[Model], file: TomlFile) -> Model:
    """Build ``model`` from the file; the first misfit in the file becomes a message."""
    from pydantic import ValidationError  # noqa: PLC0415  (slow to import, and --version needs none)

    try:
        return model.model_validate(file.data)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        # an unknown key explains a missing one; else the first in the file
        first = min(
            faults,
            key=lambda f: (f["type"] != "extra_forbidden", file.line(_plain(f["loc"])) or 0),
        )
        raise _explain(model, file, first) from None


def _plain(loc: Sequence[str | int]) -> Loc:
    return tuple(loc)


def _explain(model: type[BaseModel], file: TomlFile, fault: Any) -> BottomhalfError:
    loc: Loc = _plain(fault["loc"])
    tables = _tables(model)
    table = next((str(part) for part in loc[:-1] if part in tables), "")
    owner = tables.get(table, model)
    where = f"[{table}] " if table else ""
    what = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", model.__name__.removesuffix("File")).lower()
    top = what.replace(" ", "")
    about = table or (top if top != "machine" else "")
    keys = f"bottomhalf check --keys{about and ' ' + about} lists all with ranges and defaults"
    key = next(
        (str(p) for p in reversed(loc) if isinstance(p, str) and p in owner.model_fields), ""
    )
    if fault["type"] == "extra_forbidden":
        key = str(loc[-1])
        subject = where.strip() or f"a {what}"
        return file.error(
            loc, f"{subject} has no key `{key}`{did_you_mean(key, owner.model_fields)}", keys
        )
    if fault["type"] == "missing":
        subject = where.strip() or f"a {what}"
        return file.error(loc[:-1], f"{subject} needs the key `{loc[-1]}`", keys)
    value = fault["input"]
    info = owner.model_fields.get(key)
    if info is None:
        return file.error(loc, f"{where}{loc[-1]}: {fault['msg']}", keys)
    inside: Loc = ()  # a place inside the key's value: ports.eth0
    while loc and not (isinstance(loc[-1], str) and loc[-1] == key):
        loc, inside = loc[:-1], (loc[-1], *inside)
    path = ".".join((key, *(part for part in inside if isinstance(part, str))))
    return file.error(loc, f"{where}{path} = {show(value)}: allowed is {allowed(info)}", keys)


def _tables(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    found = {}
    for name, info in model.model_fields.items():
        for candidate in (info.annotation, *get_args(info.annotation)):
            if isinstance(candidate, type) and hasattr(candidate, "model_fields"):
                found[name] = candidate
    return found


def show(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)


def allowed(info: FieldInfo) -> str:
    """What a key takes, in words."""
    extra = info.json_schema_extra
    if isinstance(extra, dict) and "allowed" in extra:
        return str(extra["allowed"])
    low = next((m.ge for m in info.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in info.metadata if hasattr(m, "le")), None)
    if low is not None and high is not None:
        return f"{low} to {high}"
    if get_origin(info.annotation) is Literal:
        return ", ".join(str(v) for v in get_args(info.annotation))
    kind = info.annotation
    tables = any(hasattr(one, "model_fields") for one in (kind, *get_args(kind)))
    if get_origin(kind) is list:
        return "tables, each with its name in [[ ]]" if tables else "a list of strings"
    if tables:
        return "a table"
    return {"str": "a string", "int": "a whole number", "bool": "true or false"}.get(
        getattr(kind, "__name__", ""), str(kind)
    )


_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(us|ms|s|min)$")
_UNIT_NS = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "min": 60_000_000_000}


def duration_ns(text: str) -> int | None:
    """``2s``, ``250ms``; None when it is not a duration."""
    match = _DURATION.match(text.strip())
    return round(float(match[1]) * _UNIT_NS[match[2]]) if match else None
