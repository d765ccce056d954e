"""Does a copy say what its sources say? Every document, field by field.

The sources and the copy are read side by side in the order of their keys, so memory does not grow with
the shop. They are read while changes are on the road, and so at slightly different moments: a key that
differs is therefore read again on both sides, until it is equal or until no further key has become equal
for ``settle``. What is left then differs, unless it waits in quarantine or retries, or a person decided it.
"""

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby

import orjson

from syncline.model.errors import Misconfigured
from syncline.monitor.open_quarantine import OpenQuarantine, read_open_quarantine
from syncline.monitor.profile_comparison import ProfileSides, compare_profiles, profile_differences
from syncline.monitor.search_comparison import (
    Difference,
    Document,
    Finding,
    Parts,
    Verdict,
    compare,
    is_equal,
)
from syncline.monitor.search_copy import SearchCopy
from syncline.monitor.search_sources import SearchSources
from syncline.policies.reading import load_policies
from syncline.settings import Settings

SETTLE = timedelta(seconds=10)
SHOWN = 20
_ROAD_TO_SEARCH = ("outbox_relay", "catalog_search")
_ROAD_TO_PROFILES = ("outbox_relay", "customer_profiles")
_KEYS_AT_ONCE = 500
_FIRST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class KeyReport:
    """One key whose document is not what the sources say."""

    key: str
    differences: tuple[Difference, ...]
    quarantined: tuple[str, ...]
    """Entities of the key whose present state waits in quarantine or in retries."""


@dataclass(slots=True)
class VerificationReport:
    flow: str
    of: str
    """What there is a document of: products, customers."""
    explanations: str = "quarantine or retries"
    """What may explain a difference."""
    in_source: int = 0
    documents: int = 0
    """In the copy, hidden ones included."""
    compared: int = 0
    """Keys that the sources or the copy know."""
    equal: int = 0
    explained: int = 0
    """Different from the sources because of ``explanations``."""
    differing: int = 0
    seconds: float = 0.0
    differing_keys: list[KeyReport] = field(default_factory=list)
    explained_keys: list[KeyReport] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return self.differing == 0

    @property
    def summary(self) -> str:
        text = f"verified: {self.equal:,} of {self.compared:,} documents equal their sources"
        if self.explained:
            text += f"; {self.explained:,} explained by {self.explanations}"
        if self.differing:
            text += f"; {self.differing:,} differing"
        return text

    def to_json(self) -> str:
        """With the number in the source under the name of what is counted, too."""
        members = {name: getattr(self, name) for name in self.__slots__} | {self.of: self.in_source}
        return orjson.dumps(
            members, default=lambda difference: difference._asdict(), option=orjson.OPT_INDENT_2
        ).decode()


Verify = Callable[[Settings, timedelta, int | None], VerificationReport]


def verify(
    flow: str, settings: Settings, settle: timedelta = SETTLE, shown: int | None = SHOWN
) -> VerificationReport:
    """Compare the flow's copy with its sources; name at most ``shown`` keys of each finding."""
    if flow not in VERIFICATIONS:
        raise Misconfigured(
            f"no copy can be verified under the name {flow!r}; there are {', '.join(VERIFICATIONS)}"
        )
    started = time.monotonic()
    report = VERIFICATIONS[flow](settings, settle, shown)
    report.seconds = round(time.monotonic() - started, 3)
    return report


def verify_catalog_search(settings: Settings, settle: timedelta, shown: int | None) -> VerificationReport:
    report = VerificationReport("catalog_search", "products")
    policy = load_policies(settings.policies_dir).flow("catalog_search")
    url = settings.elasticsearch_url.get_secret_value()
    with (
        closing(SearchSources(settings.outbox_dsns(policy.owners), policy)) as sources,
        closing(SearchCopy(url, settings.search_alias)) as copy,
    ):
        suspects = _first_pass(sources, copy, report)
        dsn = settings.postgres_dsn.get_secret_value()

        def look(keys: Sequence[str]) -> Iterator[tuple[str, Verdict]]:
            return _look(keys, sources, copy, read_open_quarantine(dsn, _ROAD_TO_SEARCH))

        _settle(suspects, look, settle, report, shown)
    return report


def verify_customer_profiles(settings: Settings, settle: timedelta, shown: int | None) -> VerificationReport:
    report = VerificationReport("customer_profiles", "customers", "quarantine, retries or a resolution")
    dsn = settings.postgres_dsn.get_secret_value()
    policy = load_policies(settings.policies_dir).flow("customer_profiles")
    with closing(ProfileSides(settings.source_dsns["customers"], dsn, policy.conflicts)) as sides:
        suspects: list[str] = []
        for customer_id, expected, shown_profile in sides.all():
            report.in_source += expected is not None
            report.documents += shown_profile is not None
            if any(profile_differences(expected, shown_profile)):
                suspects.append(customer_id)
            else:
                report.equal += 1

        def look(keys: Sequence[str]) -> Iterator[tuple[str, Verdict]]:
            quarantine = read_open_quarantine(dsn, _ROAD_TO_PROFILES)
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                for customer_id, expected, found in sides.some(keys[start : start + _KEYS_AT_ONCE]):
                    yield customer_id, compare_profiles(customer_id, expected, found, quarantine)

        _settle(suspects, look, settle, report, shown)
    return report


VERIFICATIONS: Mapping[str, Verify] = {
    "catalog_search": verify_catalog_search,
    "customer_profiles": verify_customer_profiles,
}


def _first_pass(sources: SearchSources, copy: SearchCopy, report: VerificationReport) -> list[str]:
    """Count what is equal at once, and return the keys that need a second look."""
    suspects: list[str] = []

    def of_sources() -> Iterator[tuple[str, Parts | None, Document | None]]:
        for sku, parts in sources.all():
            report.in_source += any(part.type == "product" for part in parts.values())
            yield sku, parts, None

    def of_copy() -> Iterator[tuple[str, Parts | None, Document | None]]:
        for sku, document_id, document in copy.all():
            report.documents += 1
            if sku == document_id:
                yield sku, None, document
            else:
                # Out of place, and no document of this flow.
                suspects.append(document_id)

    both = heapq.merge(of_sources(), of_copy(), key=_key)
    for sku, sides in groupby(both, key=_key):
        parts: Parts = {}
        document: Document | None = None
        for _, of_source, of_index in sides:
            parts, document = of_source or parts, of_index or document
        if is_equal(sku, parts, document):
            report.equal += 1
        else:
            suspects.append(sku)
    return suspects


def _key(side: tuple[str, Parts | None, Document | None]) -> str:
    return side[0]


def _settle(
    suspects: Iterable[str],
    look: Callable[[Sequence[str]], Iterator[tuple[str, Verdict]]],
    settle: timedelta,
    report: VerificationReport,
    shown: int | None,
) -> None:
    """Look at the suspects again and again; report each once settled, the rest as last seen."""
    pending = sorted(set(suspects))
    report.compared = report.equal + len(pending)
    last_progress = time.monotonic()
    wait_seconds = _FIRST_WAIT_SECONDS
    while pending:
        differing: list[str] = []
        report.differing_keys = []
        for key, verdict in look(pending):
            if verdict.finding is Finding.EQUAL:
                report.equal += 1
            elif verdict.finding is Finding.EXPLAINED:
                report.explained += 1
                _show(report.explained_keys, key, verdict, shown)
            else:
                differing.append(key)
                _show(report.differing_keys, key, verdict, shown)
        now = time.monotonic()
        if len(differing) < len(pending):
            last_progress = now
        pending = differing
        if now - last_progress >= settle.total_seconds():
            break
        if pending:
            time.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)
    report.differing = len(pending)


def _look(
    keys: Sequence[str], sources: SearchSources, copy: SearchCopy, quarantine: OpenQuarantine
) -> Iterator[tuple[str, Verdict]]:
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = keys[start : start + _KEYS_AT_ONCE]
        parts, documents = sources.some(some), copy.some(some)
        for key in some:
            yield key, compare(key, parts.get(key, {}), documents.get(key), quarantine)


def _show(keys: list[KeyReport], key: str, verdict: Verdict, at_most: int | None) -> None:
    if at_most is None or len(keys) < at_most:
        keys.append(KeyReport(key, verdict.differences, verdict.explained_by))
