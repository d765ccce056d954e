"""Figures: what was measured in several runs, what was aimed at, and whether it was met."""

from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that a figure must keep."""

    bound: float
    at_least: bool
    """Else the figure must stay below the bound."""

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value < self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '<'} {number(self.bound)}"


def at_least(bound: float) -> Target:
    return Target(bound, at_least=True)


def below(bound: float) -> Target:
    return Target(bound, at_least=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one case, once for each run. Its median is what counts."""

    case: str
    name: str
    unit: str
    values: tuple[float, ...]
    target: Target | None = None

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def is_met(self) -> bool:
        return self.target is None or self.target.is_met(self.median)

    def to_plain(self) -> dict[str, Any]:
        return {
            "case": self.case,
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "values": list(self.values),
            "target": None if self.target is None else [self.target.bound, self.target.at_least],
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Figure":
        target = plain["target"]
        return cls(
            plain["case"],
            plain["name"],
            plain["unit"],
            tuple(plain["values"]),
            None if target is None else Target(target[0], at_least=target[1]),
        )


def number(value: float) -> str:
    """Three digits that mean something, and thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
