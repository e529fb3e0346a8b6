"""Configuration: typed dataclasses from YAML and `a.b=value` overrides; unknown keys are refused with a suggestion."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tokenface.core.files import read_text, reason
from tokenface.errors import ConfigError

MAX_BYTES = 1 << 20
"""Of a configuration's file."""
MAX_DEPTH, MAX_VALUES = 20, 100_000
"""Of its levels and values."""

T = TypeVar("T")


def read_config(cls: type[T], path: str | Path | None, overrides: Iterable[str] = ()) -> T:
    """A configuration of type `cls`.

    Args:
        cls: a dataclass; nested dataclasses are sections.
        path: YAML file, or None for the defaults.
        overrides: `section.key=value`, the value read as YAML.
    Raises:
        ConfigError: missing or malformed file, unknown key, value of the wrong type.
    """
    return read_layers(cls, [read_values(path), read_values(None, overrides)])


def read_layers(cls: type[T], layers: Iterable[Mapping[str, Any]]) -> T:
    """The dataclass `cls` from nested mappings laid over each other, the last one on top."""
    values: dict[str, Any] = {}
    for layer in layers:
        values = _laid_over(values, layer)
    return from_dict(cls, values)


def read_values(path: str | Path | None, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """A YAML file's nested values with the overrides on top; without a file the overrides alone.

    Raises:
        ConfigError: missing or malformed file, or an override that is none.
    """
    values: dict[str, Any] = {}
    if path is not None:
        if not Path(path).is_file():
            raise ConfigError(f"no configuration at '{path}'")
        try:
            values = parse_yaml(read_text(path, MAX_BYTES)) or {}
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"'{path}' is not valid YAML ({str(error).splitlines()[0]})") from error
        except OSError as error:
            raise ConfigError(f"cannot read '{path}' ({reason(error)})") from error
        if not isinstance(values, dict):
            raise ConfigError(f"'{path}' must hold 'key: value' pairs, not a {type(values).__name__}")
    for override in overrides:
        _apply(values, override)
    return values


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """The dataclass `cls` from nested mappings; missing keys keep their defaults.

    A class attribute `FORMER` (former key → present one) lets files of earlier versions be read, with a
    DeprecationWarning.
    """
    former = getattr(cls, "FORMER", {})
    for old in sorted(former.keys() & values.keys()):
        now = former[old]
        warnings.warn(f"configuration key '{where}{old}' is now '{where}{now}'", DeprecationWarning, stacklevel=2)
        if now in values:
            raise ConfigError(f"'{where}{old}' is the former name of '{where}{now}'; give one of them")
    values = {former.get(key, key): value for key, value in values.items()}
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        full = f"{where}{key}"
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean '{where}{near[0]}'?" if near else f"valid keys here: {', '.join(names)}"
            raise ConfigError(f"unknown configuration key '{full}'; {hint}")
        arguments[key] = _convert(hints[key], value, full)
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"configuration {where.rstrip('.') or 'file'}: {error}") from error


def to_yaml(config: Any) -> str:
    """The whole configuration, defaults included, as YAML that `read_config` reads back."""
    return yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False)


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Sections are joined, values and lists replaced."""
    joined = dict(below)
    for key, value in above.items():
        old = joined.get(key)
        joined[key] = _laid_over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return joined


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return value


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"override '{override}' must look like section.key=value")
    *sections, last = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override '{override}': '{section}' is a value, not a section")
    try:
        values[last] = parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"override '{override[:100]}' is not valid YAML ({str(error).splitlines()[0]})") from error


def parse_yaml(text: str) -> Any:
    """Values of a YAML document, which may refer to each other, but not to themselves.

    Raises:
        yaml.YAMLError: no YAML.  ValueError: nested too deeply, or a tree that grows without end.
    """
    try:
        values = yaml.safe_load(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level, seen = [values], 0
    for _ in range(MAX_DEPTH):
        level = [c for v in level if isinstance(v, dict | list) for c in (v.values() if isinstance(v, dict) else v)]
        seen += len(level)
        if not level:
            return values
        if seen > MAX_VALUES:
            break
    raise ValueError(f"more than {MAX_VALUES} values, or nested more than {MAX_DEPTH} levels deep")


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"'{where}' is a section of keys, got {value!r}")
        return from_dict(hint, value, f"{where}.")  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"'{where}' must be a list, got {value!r}")
        kinds = [arguments[0]] * len(value) if arguments[-1:] == (Ellipsis,) else list(arguments)
        if len(kinds) != len(value):
            raise ConfigError(f"'{where}' must have {len(kinds)} entries, got {len(value)}")
        return tuple(_convert(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"'{where}' must be one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    if hint is float and isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML reads 1e-4 as text
        except (ValueError, OverflowError):
            raise ConfigError(f"'{where}' must be a number, got {str(value)[:40]!r}") from None
        if not math.isfinite(number):
            raise ConfigError(f"'{where}' must be a finite number, got {str(value)[:40]!r}")
        return number
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise ConfigError(f"'{where}' must be {hint.__name__}, got {value!r}")
    return value
