"""Typed access to decoded JSON that names the place of what is wrong."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple


class ConfigurationError(ValueError):
    """The configuration contradicts itself or lacks something; the text names the field."""


class Fields:
    """One JSON object; each method returns a field of a type, or raises ConfigurationError."""

    def __init__(self, data: Any, place: str) -> None:
        if not isinstance(data, dict):
            raise ConfigurationError(f"{place}: must be an object")
        self._data: Dict[str, Any] = data
        self._place = place

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def text(self, name: str, default: str | None = None) -> str:
        value = self._get(name, default)
        if not isinstance(value, str):
            raise ConfigurationError(f"{self._place}.{name}: must be a text")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigurationError(f"{self._place}.{name}: must be an integer")
        return value

    def seconds(self, name: str, default: float) -> float:
        value = self._get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ConfigurationError(f"{self._place}.{name}: must be a number of seconds")
        return float(value)

    def integers(self, name: str) -> Tuple[int, ...]:
        value = self._get(name, ())
        if not isinstance(value, (list, tuple)) or not all(type(item) is int for item in value):
            raise ConfigurationError(f"{self._place}.{name}: must be a list of integers")
        return tuple(value)

    def flag(self, name: str) -> bool:
        value = self._get(name, False)
        if not isinstance(value, bool):
            raise ConfigurationError(f"{self._place}.{name}: must be true or false")
        return value

    def range(self, name: str) -> Tuple[int, int]:
        value = self.integers(name)
        if len(value) != 2:
            raise ConfigurationError(f"{self._place}.{name}: must be the first and the last port")
        return value[0], value[1]

    def ports(self, name: str) -> Dict[str, int]:
        value = self._get(name, {})
        if not isinstance(value, dict) or not all(type(port) is int for port in value.values()):
            raise ConfigurationError(f"{self._place}.{name}: must map purposes to ports")
        return dict(value)

    def objects(self, name: str, default: Sequence[Any] | None = None) -> Sequence[Fields]:
        value = self._get(name, default)
        if not isinstance(value, list):
            raise ConfigurationError(f"{self._place}.{name}: must be a list")
        return [Fields(item, f"{name}[{position}]") for position, item in enumerate(value)]

    def object(self, name: str) -> Fields:
        return Fields(self._get(name, {}), name)

    def _get(self, name: str, default: Any) -> Any:
        value = self._data.get(name, default)
        if value is None:
            raise ConfigurationError(f"{self._place}.{name}: is missing")
        return value
