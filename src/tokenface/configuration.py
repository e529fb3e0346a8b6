"""Typed dataclasses from YAML and `a.b=value` overrides; an unknown key is refused with the nearest valid one."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tokenface.errors import ConfigError

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
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"'{path}' is not valid YAML ({str(error).splitlines()[0]})") from error
        if not isinstance(values, dict):
            raise ConfigError(f"'{path}' must hold 'key: value' pairs, not a {type(values).__name__}")
    for override in overrides:
        _apply(values, override)
    return values


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """The dataclass `cls` from nested mappings; missing keys keep their defaults."""
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
    values[last] = yaml.safe_load(text)


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
    if hint is float and isinstance(value, str):  # YAML reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            raise ConfigError(f"'{where}' must be a number, got {value!r}") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise ConfigError(f"'{where}' must be {hint.__name__}, got {value!r}")
    return value
