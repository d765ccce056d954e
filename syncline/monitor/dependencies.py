"""How the processes of a flow find what they depend on, as they said it last."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from syncline.model.dependency import Dependency, DependencyState
from syncline.monitor import sql
from syncline.postgres import Connection
from syncline.statements import statement

_BY_GRAVITY = (DependencyState.UP, DependencyState.DEGRADED, DependencyState.DOWN)


class Sign(NamedTuple):
    """A process's word of one dependency, which is a sign of life too."""

    run: UUID
    started_at: datetime
    updated_at: datetime
    dependency: Dependency


def read_signs(connection: Connection, flow: str) -> list[Sign]:
    """Those of the last ten seconds."""
    return [
        Sign(
            run,
            started_at.astimezone(UTC),
            updated_at.astimezone(UTC),
            Dependency(target, DependencyState(state), since.astimezone(UTC), *rest),
        )
        for run, started_at, updated_at, target, state, since, *rest in connection.execute(
            statement(sql, "flow_dependencies"), {"flow": flow}
        )
    ]


def worst_of_each(dependencies: Iterable[Dependency]) -> list[Dependency]:
    """For each target the word of the process that finds it worst, and of several the first that did."""
    worst: dict[str, Dependency] = {}
    for dependency in sorted(dependencies, key=_gravity):
        worst.setdefault(dependency.target, dependency)
    return sorted(worst.values())


def _gravity(dependency: Dependency) -> tuple[bool, int, datetime]:
    return not dependency.holds_place, -_BY_GRAVITY.index(dependency.state), dependency.since


def what_holds(dependencies: Iterable[Dependency]) -> Dependency | None:
    """For which target the flow holds its place: of several the first that went away."""
    holding = [dependency for dependency in dependencies if dependency.holds_place]
    return min(holding, key=lambda dependency: dependency.since, default=None)


def as_sentence(dependency: Dependency) -> str:
    error = f" ({dependency.last_error})" if dependency.last_error else ""
    return f"{dependency.target} is {dependency.state} since {dependency.since:%H:%M:%S} UTC{error}"
