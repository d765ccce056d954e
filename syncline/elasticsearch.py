"""Connections to Elasticsearch, with failures told by class.

Source: Elasticsearch reference, "REST API conventions"; elastic-transport, "Exceptions and Warnings".
"""

from typing import NoReturn

from elastic_transport import Serializer
from elasticsearch import (
    ApiError,
    ConnectionTimeout,
    Elasticsearch,
    OrjsonSerializer,
    TransportError,
)
from elasticsearch import ConnectionError as ElasticConnectionError

from syncline.model.errors import (
    BadCredentials,
    FatalError,
    Misconfigured,
    MissingResource,
    Overloaded,
    Unavailable,
)

REQUEST_TIMEOUT_SECONDS = 30

FAILURES = (ApiError, TransportError)
"""What the client raises where a request fails."""

OVERLOADED = frozenset({429, 503})
_PROXY_FINDS_NOBODY = frozenset({502, 504})
TO_BE_RETRIED = OVERLOADED | _PROXY_FINDS_NOBODY
NOT_FOUND = 404
_DENIED = frozenset({401, 403})
_POINT_IN_TIME_EXPIRED = "search_context_missing_exception"


class Unparsed(OrjsonSerializer):
    """Leaves answers as the bytes that they are, for whoever asked to take apart."""

    def json_loads(self, data: bytes) -> bytes:
        return data


def connect(
    url: str, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS, serializer: Serializer | None = None
) -> Elasticsearch:
    """A client that makes each request once, and connects at the first one.

    A second try by the client could follow a write that was taken: whoever asks decides of it.
    """
    try:
        return Elasticsearch(
            url,
            serializer=serializer or OrjsonSerializer(),
            request_timeout=timeout_seconds,
            max_retries=0,
            http_compress=False,
        )
    except ValueError as error:
        raise Misconfigured(f"elasticsearch_url: {error}") from error


def missing(alias: str) -> MissingResource:
    return MissingResource(f"the alias {alias} does not exist; run: syncline setup")


def raise_typed(error: ApiError | TransportError, alias: str) -> NoReturn:
    """Raise the error of Syncline's tree that stands for the client's."""
    if isinstance(error, ElasticConnectionError | ConnectionTimeout):
        raise Unavailable(f"Elasticsearch does not answer: {error}") from error
    if isinstance(error, TransportError):
        raise FatalError(f"what answers at elasticsearch_url cannot be understood: {error}") from error
    if error.status_code in OVERLOADED:
        raise Overloaded(f"Elasticsearch is overloaded: {error}") from error
    if error.status_code in _PROXY_FINDS_NOBODY:
        raise Unavailable(f"Elasticsearch does not answer: {error}") from error
    if error.status_code in _DENIED:
        raise BadCredentials(f"Elasticsearch denies access: {error}") from error
    if error.message == _POINT_IN_TIME_EXPIRED:
        raise Unavailable(f"Elasticsearch let go of what was being listed: {error}") from error
    if error.status_code == NOT_FOUND:
        raise missing(alias) from error
    raise FatalError(f"Elasticsearch answered {error.status_code}: {error}") from error
