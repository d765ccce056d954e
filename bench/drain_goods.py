"""What a drain needs, made in a process of its own and left in files: see ``prepare``."""

from pathlib import Path
from typing import NamedTuple

from bench import fresh_process, raw_bulk
from bench.backlog import write_records
from bench.documents import Documents
from bench.fresh_process import Parameters
from bench.goods import Goods
from bench.ledger import record

WARM_UP = 1_000
_TOPIC_PREFIX = "syncline-bench-1700000000000"
"""As long as the real one, which differs from run to run."""
_SEED = 7


class DrainGoods(NamedTuple):
    """Files for one case. ``bodies`` are what the changes of both records make of the documents, one each."""

    base: Path
    """Documents that are in the index beforehand."""
    warm_up_records: Path
    measured_records: Path
    bodies: Path
    warm_up: int
    measured: int


def prepare(case: str, changes: int, folder: Path) -> DrainGoods:
    """Make up a case: so many changes, each of a product of its own.

    ``new``: products without prices and stock; others warm up. ``not_held``: updates of products that have
    both, in random order; others warm up. ``held``: the same, after an update of each of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {"case": case, "changes": changes, "folder": str(folder)}
    counts = fresh_process.run("bench.drain_goods", parameters)
    return DrainGoods(
        folder / "base",
        folder / "warm_up",
        folder / "measured",
        folder / "bodies",
        counts["warm_up"],
        counts["measured"],
    )


def _prepare(parameters: Parameters) -> dict[str, int]:
    case, changes, folder = parameters["case"], parameters["changes"], Path(parameters["folder"])
    is_new = case == "new"
    goods, documents = Goods(_SEED, keeps_rows=not is_new), Documents(_TOPIC_PREFIX)
    if is_new:
        new = [goods.launch_product_alone() for _ in range(WARM_UP + changes)]
        warm_up, measured = new[:WARM_UP], new[WARM_UP:]
    else:
        _load(goods, documents, folder / "base", changes if case == "held" else WARM_UP + changes)
        skus = goods.shuffled_skus()
        warm_up = list(goods.one_update_each(skus if case == "held" else skus[:WARM_UP]))
        measured = list(goods.one_update_each(goods.shuffled_skus() if case == "held" else skus[WARM_UP:]))
    with (folder / "bodies").open("wb") as bodies:
        for name, made in (("warm_up", warm_up), ("measured", measured)):
            with (folder / name).open("wb") as file:
                write_records(file, (record(change, "") for change in made))
            after = (documents.new([each]) for each in made) if is_new else documents.updated(made)
            raw_bulk.write_bodies(bodies, after)
    return {"warm_up": len(warm_up), "measured": len(measured)}


def _load(goods: Goods, documents: Documents, base: Path, products: int) -> None:
    with base.open("wb") as file:
        for _ in range(products):
            document_id, body = documents.new(goods.launch())
            documents.keep(document_id, body)
            raw_bulk.write_bodies(file, [(document_id, body)])


if __name__ == "__main__":
    fresh_process.answer(_prepare)
