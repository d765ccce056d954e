"""The working set only saves reads; Deliver asks until the store has an answer for every write."""

import orjson
import pytest

from operators.calls import do
from operators.deliver import IN_PLACE_RETRIES, Deliver, WorkingSet
from syncline.model.errors import Unavailable
from syncline.model.store import Outcome, StoredDocument, Token, Write
from tests.memory_store import Fault, MemoryStore
from tests.operators.simulation import NoWait


def stored(size_bytes: int, sequence_number: int = 0) -> StoredDocument:
    return StoredDocument(b"x" * size_bytes, Token(sequence_number, 1))


class TestWorkingSet:
    def test_holds_what_was_put(self) -> None:
        held = WorkingSet(max_bytes=100)
        held.put("A", stored(10))

        assert held.get("A") == stored(10)
        assert held.get("B") is None

    def test_lets_the_longest_unused_go_when_it_is_full(self) -> None:
        held = WorkingSet(max_bytes=100)
        for document_id in ("A", "B", "C"):
            held.put(document_id, stored(33))
        held.get("A")
        held.put("D", stored(33))

        assert {id_ for id_ in "ABCD" if held.get(id_)} == {"A", "C", "D"}

    def test_never_holds_more_than_its_bytes(self) -> None:
        held = WorkingSet(max_bytes=100)
        for number in range(50):
            held.put(str(number), stored(number))
            assert sum(len(document.body) for n in range(50) if (document := held.get(str(n)))) <= 100

    def test_putting_a_document_again_counts_it_once(self) -> None:
        held = WorkingSet(max_bytes=100)
        for sequence_number in range(5):
            held.put("A", stored(60, sequence_number))
        held.put("B", stored(40))

        assert held.get("A") == stored(60, 4)
        assert held.get("B") == stored(40)

    def test_discarding_makes_room(self) -> None:
        held = WorkingSet(max_bytes=100)
        held.put("A", stored(60))
        held.discard("A")
        held.discard("never there")
        held.put("B", stored(60))
        held.put("C", stored(40))

        assert held.get("A") is None
        assert held.get("B") == stored(60)
        assert held.get("C") == stored(40)

    def test_a_document_larger_than_the_whole_set_is_not_held(self) -> None:
        held = WorkingSet(max_bytes=100)
        held.put("A", stored(10))
        held.put("B", stored(101))

        assert held.get("B") is None

    def test_of_no_bytes_holds_nothing(self) -> None:
        held = WorkingSet(max_bytes=0)
        held.put("A", stored(1))

        assert held.get("A") is None


class TestDeliver:
    def setup_method(self) -> None:
        self.store = MemoryStore()
        self.stop = NoWait()
        self.deliver = self.another()

    def another(self, working_set_bytes: int = 1_000) -> Deliver:
        return Deliver(self.store, working_set_bytes, self.stop.circuit)

    def write(self, document_id: str, content: int, expected: Token | None = None) -> Token | None:
        body = orjson.dumps({"content": content})
        return do(self.deliver.write([Write(document_id, body, expected)]))[document_id].token

    def loaded(self, document_id: str) -> StoredDocument:
        stored = do(self.deliver.load({document_id: False}))[document_id]
        assert stored is not None
        return stored

    def test_reads_all_that_it_does_not_hold_in_one_call(self) -> None:
        self.write("A", 1)
        reader = self.another()

        documents = do(reader.load({"A": False, "B": False}))

        assert self.store.reads == [["A", "B"]]
        assert documents == {"A": (b'{"content":1}', self.store.documents["A"].token), "B": None}

    def test_what_may_be_new_is_not_read(self) -> None:
        assert do(self.deliver.load({"A": True})) == {"A": None}
        assert self.store.reads == []

    def test_what_it_wrote_is_not_read_again_even_if_it_may_be_new(self) -> None:
        token = self.write("A", 1)

        for may_be_new in (True, False):
            assert do(self.deliver.load({"A": may_be_new}))["A"] == (b'{"content":1}', token)
        assert self.store.reads == []

    def test_a_loaded_document_may_be_changed_without_harm_to_the_working_set(self) -> None:
        self.write("A", 1)
        self.loaded("A").document["content"] = 99

        assert self.loaded("A").document == {"content": 1}

    def test_after_it_was_turned_away_it_reads_again(self) -> None:
        token = self.write("A", 1)
        other = self.another()
        do(other.write([Write("A", b'{"content":2}', token)]))

        result = do(self.deliver.write([Write("A", b'{"content":3}', token)]))["A"]

        assert result.outcome is Outcome.ALREADY_NEWER
        assert self.loaded("A").document == {"content": 2}
        assert self.store.reads == [["A"]]

    def test_after_a_refusal_it_reads_again(self) -> None:
        self.store = MemoryStore(lambda document: "no" if document["content"] == 2 else None)
        self.deliver = self.another()
        token = self.write("A", 1)

        assert do(self.deliver.write([Write("A", b'{"content":2}', token)]))["A"].reason == "no"
        assert self.loaded("A").document == {"content": 1}
        assert self.store.reads == [["A"]]

    def test_asks_again_for_the_writes_that_were_turned_back_and_only_for_them(self) -> None:
        self.store.write_faults.extend([Fault.RETRY_EVERY_SECOND, Fault.RETRY])

        results = do(self.deliver.write([Write(id_, b"{}", None) for id_ in "ABCD"]))

        assert {id_: result.outcome for id_, result in results.items()} == dict.fromkeys(
            "ABCD", Outcome.WRITTEN
        )
        assert [[write.document_id for write in call] for call in self.store.writes] == [
            ["A", "B", "C", "D"],
            ["A", "C"],
            ["A", "C"],
        ]

    def outcomes(self, ids: str) -> dict[str, Outcome]:
        results = do(self.deliver.write([Write(id_, b"{}", None) for id_ in ids]))
        return {id_: result.outcome for id_, result in results.items()}

    def test_a_document_that_stays_locked_is_told_after_a_few_tries(self) -> None:
        self.store.locked["B"] = 100

        assert self.outcomes("AB") == {"A": Outcome.WRITTEN, "B": Outcome.LOCKED}
        assert [[write.document_id for write in call] for call in self.store.writes] == [
            ["A", "B"],
            *[["B"]] * IN_PLACE_RETRIES,
        ]

    def test_a_document_that_is_locked_does_not_hold_the_place_when_it_is_alone(self) -> None:
        self.store.locked["A"] = 100

        assert self.outcomes("A") == {"A": Outcome.LOCKED}
        assert self.outcomes("B") == {"B": Outcome.WRITTEN}

    def test_a_lock_that_is_let_go_of_within_the_tries_is_not_told(self) -> None:
        self.store.locked["A"] = IN_PLACE_RETRIES

        assert self.outcomes("A") == {"A": Outcome.WRITTEN}

    def test_as_long_as_some_more_is_taken_it_goes_on(self) -> None:
        self.store.write_faults.extend([Fault.RETRY_EVERY_SECOND] * 5)

        assert set(self.outcomes("ABCDEFGHIJKLMNOP").values()) == {Outcome.WRITTEN}

    def test_what_alone_finds_no_room_is_told_after_a_few_tries(self) -> None:
        self.store.write_faults.extend([Fault.RETRY_EVERY_SECOND, *[Fault.RETRY] * 100])

        assert self.outcomes("AB") == {"A": Outcome.RETRY, "B": Outcome.WRITTEN}
        assert len(self.store.writes) == 1 + IN_PLACE_RETRIES

    def test_while_there_is_room_for_none_the_place_is_held(self) -> None:
        self.store.write_faults.extend([Fault.RETRY] * 100)

        assert set(self.outcomes("AB").values()) == {Outcome.WRITTEN}
        assert len(self.store.writes) == 101

    def test_holds_its_place_while_the_store_is_away(self) -> None:
        self.store.write_faults.extend([Fault.UNAVAILABLE] * 5)
        self.store.read_faults.extend([Fault.UNAVAILABLE] * 5)

        token = self.write("A", 1)

        self.deliver = self.another()
        assert self.loaded("A").token == token

    def test_a_write_that_was_taken_although_its_answer_was_lost_is_turned_away_the_second_time(self) -> None:
        self.store.write_faults.append(Fault.UNAVAILABLE_AFTER_WRITE)

        result = do(self.deliver.write([Write("A", b'{"content":1}', None)]))["A"]

        assert result.outcome is Outcome.ALREADY_NEWER
        assert self.loaded("A").document == {"content": 1}

    def test_a_stop_lets_go_of_the_store(self) -> None:
        self.store.write_faults.extend([Fault.UNAVAILABLE] * 3)
        self.stop.request()

        with pytest.raises(Unavailable):
            self.write("A", 1)
        assert len(self.store.writes) == 1

    def test_a_stop_keeps_nothing_back_that_the_store_takes_at_once(self) -> None:
        self.stop.request()

        assert self.write("A", 1) is not None

    def test_nothing_to_write_asks_nothing(self) -> None:
        assert do(self.deliver.write([])) == {}
        assert self.store.writes == []
