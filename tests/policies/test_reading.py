"""A folder of policies either makes sense, or all that is wrong with it is told in one run."""

from collections.abc import Mapping
from datetime import timedelta
from importlib import resources
from pathlib import Path

import pytest

from syncline import policies
from syncline.model.errors import Misconfigured
from syncline.policies.policies import Reference
from syncline.policies.reading import faults_of, load_policies

OWN = {
    file.name: file.read_text() for file in resources.files(policies).iterdir() if file.name.endswith(".toml")
}

TWELVE_MISTAKES = """\
entity = "price"
owner = "pricing"
criticality = "urgent"
strategy = "last_write_wins"
notfy = ["me"]
notify = ["data-quality", "pricing"]

[source]
table = "pricing.prices"
document = "sku"
slot = "currencies"

[columns]
sku = "text"
currency = "char(3)"
list_amount = "decimal"
sale_amount = "numeric(12,4)"
valid_from = "timestamptz"
valid_to = { type = "timestamptz", requird = true }

[flows.catalog_search.fields]
list_e4 = { from = "list_amount", transform = "e4" }
sale_e4 = { from = "sale_amout", transform = "e4" }
valid_from = { from = "valid_from", transform = "ucase" }
valid_till = { from = "valid_to", transform = "utc" }

[[rules]]
column = "currency"
pattern = "[A-Z"

[[rules]]
column = "sale_amount"
min = 10
max = 0

[[rules]]
column = "valid_from"
at_most = "sale_amount"

[[rules]]
references = "prodct"
grace_s = 3600
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, OWN)


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def told(folder: Path) -> list[str]:
    return list(map(str, faults_of(folder)))


def test_syncline_s_own_policies_make_sense() -> None:
    assert faults_of(None) == []


def test_all_mistakes_are_told_in_one_run_by_line(folder: Path) -> None:
    write(folder, {"price.toml": TWELVE_MISTAKES})

    found = told(folder)

    expected = [
        ("price.toml:3: criticality: 'urgent' must be one of", "'normal'"),
        ("price.toml:5: notfy: there is no key 'notfy'", "did you mean notify?"),
        ("price.toml:11: source.slot: there is no column 'currencies'", "did you mean currency?"),
        ("price.toml:16: columns.list_amount.type: 'decimal' is no type", "numeric(digits,decimals)"),
        ("price.toml:19: columns.valid_to.requird: there is no key 'requird'", "did you mean required?"),
        ("price.toml:23: flows.catalog_search.fields.sale_e4: there is no column", "mean sale_amount?"),
        ("price.toml:24: flows.catalog_search.fields.valid_from.transform: 'ucase'", "there are as_is"),
        ("price.toml:25: flows.catalog_search.fields.valid_till: there is no field", "mean valid_to?"),
        ("price.toml:29: rules.0.pattern: '[A-Z' is no regular expression", "unterminated"),
        ("price.toml:31: rules.1: min is 10, above max, 0", ""),
        ("price.toml:38: rules.2.at_most: valid_from is timestamptz", "sale_amount is numeric(12,4)"),
        ("price.toml:41: rules.3.references: there is no entity 'prodct'", "did you mean product?"),
    ]
    assert len(found) == len(expected) == 12
    for line, (begins, holds) in zip(found, expected, strict=True):
        assert line.startswith(begins)
        assert holds in line


def test_what_is_wrong_with_one_file_does_not_hide_another(folder: Path) -> None:
    write(folder, {"price.toml": "entity = ", "stock.toml": OWN["stock.toml"].replace('"text"', '"txt"', 1)})

    found = told(folder)

    assert [line.partition(": ")[0] for line in found] == ["price.toml:1", "stock.toml:14"]
    assert "not TOML" in found[0]


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("price.toml", 'owner = "pricing"\n', "", "price.toml:1: owner: this is missing"),
        ("price.toml", "price", "Price", "price.toml:2: entity: 'Price' must be lower case"),
        ("stock.toml", 'entity = "stock"', 'entity = "price"', "price.toml is about price already"),
        ("product.toml", "[source]", '[source]\ntopic = "t"', None),
        ("product.toml", 'name = "name"\ndesc', "desc", "the document needs the field name"),
        ("product.toml", 'required = "name"', 'requires = "name"', "did you mean required?"),
        ("product.toml", 'required = "name"', 'required = "nme"', "there is no column 'nme'"),
        ("product.toml", 'required = "name"', 'column = "name"', "one of min and max, one_of"),
        ("product.toml", 'required = "name"', 'column = "name"\nmin = 3', "min and max are for numbers"),
        ("product.toml", 'required = "name"', 'python = "os:nothing"', "cannot be imported"),
        ("product.toml", 'required = "name"', "grace_s = 5", "a rule begins with one of"),
        ("product.toml", 'brand = "brand"', 'brand = { from = "tags", transform = "lower" }', "lower takes"),
        ("price.toml", "numeric(12,4)", "numeric(12,6)", "e4 keeps 4 decimals"),
        ("customer.toml", 'writers = ["support"]', 'writers = ["suport"]', "did you mean support?"),
        ("customer.toml", 'rule = "latest_consent"', "", "given together"),
        ("customer.toml", "customers.{writer}", "customers.all", "a table of its own"),
        ("customer.toml", '"consent_at"]', '"notes"]', "notes belongs to the field"),
        ("customer.toml", "concurrency_window_s = 5\n", "", "given together"),
        ("customer.toml", '"text"', '{ type = "text", required = true }', "write a rule instead"),
        ("customer.toml", "[columns]", '[columns]\nbirthday = "text"', "no column of a profile 'birthday'"),
        ("price.toml", "[columns]", '[columns]\ncost = "numeric(12,4)"', None),
        (
            "price.toml",
            '{ from = "sale_amount", transform = "e4" }',
            '"sale_amount"',
            "the field takes numeric",
        ),
        (
            "price.toml",
            '{ from = "sale_amount", transform = "e4" }',
            '{ from = "sale_amount", transform = "e4", python = "builtins:abs" }',
            "no flow keeps sale_amount as it stands",
        ),
        ("stock.toml", '"integer", required = true', '"bigint", required = true', "the field takes integer"),
        ("product.toml", 'tags = "tags"', 'tags = "attributes"', "the field takes text[]"),
        (
            "product.toml",
            'required = "name"',
            'column = "tags"\none_of = ["a"]',
            "cannot be looked up in a list",
        ),
        ("price.toml", '["EUR", "USD"', '[5, "USD"', "5 must be text"),
        ("price.toml", "numeric(12,4)", "numeric(24,4)", "e4 takes 14 digits before the point"),
        ("stock.toml", '{ type = "integer", required = true }', '"integer"', "the field is never null"),
        ("price.toml", "[source]", '[source]\ntopic = "{prefix}.catalog.product"', "is the topic of"),
        ("customer.toml", "[source]", '[source]\ntopic = "{prefix}.people"', "each writer has a topic"),
        ("customer.toml", 'columns = ["marketing_consent", "consent_at"]\n', "", "latest_consent reads"),
        (
            "product.toml",
            "[flows.catalog_search.fields]",
            (
                '[flows.catalog_search]\nwhere = [{ column = "status", one_of = [true] }]\n\n'
                "[flows.catalog_search.fields]"
            ),
            "True must be text",
        ),
    ],
)
def test_each_mistake_is_told(folder: Path, file: str, old: str, new: str, fault: str | None) -> None:
    assert old in OWN[file]
    write(folder, {file: OWN[file].replace(old, new, 1)})

    found = told(folder)

    if fault is None:
        assert found == []
    else:
        assert any(fault in line for line in found), found


def test_both_columns_of_a_comparison_must_be_kept(folder: Path) -> None:
    text = OWN["price.toml"].replace("[columns]", '[columns]\ncost = "numeric(12,4)"')
    write(folder, {"price.toml": text.replace('at_most = "list_amount"', 'at_most = "cost"')})

    [fault] = told(folder)
    assert "no flow keeps cost as it stands" in fault


def test_a_folder_that_is_wrong_cannot_be_used(folder: Path) -> None:
    write(folder, {"price.toml": TWELVE_MISTAKES})

    with pytest.raises(Misconfigured, match=r"(?s)price.toml:3: .*price.toml:41: "):
        load_policies(folder)


@pytest.mark.parametrize("name", ["missing", ""])
def test_a_folder_without_policies_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(Misconfigured, match="policies_dir"):
        faults_of(tmp_path / name)


def test_what_no_policy_speaks_of_is_told() -> None:
    with pytest.raises(Misconfigured, match="'order'; there are policies for customer"):
        load_policies().of("order")
    with pytest.raises(Misconfigured, match=r"flows\.orders"):
        load_policies().flow("orders")


def test_a_policy_of_one_s_own_takes_the_place_of_syncline_s(folder: Path) -> None:
    text = OWN["product.toml"].replace("catalog.products", "erp.items").replace('"catalog"', '"erp"')
    text = text.replace('sku = "text"\nname = "text"', 'item_no = "text"\ntitle = "text"')
    text = text.replace('document = "sku"', 'document = "item_no"\ntopic = "{prefix}.shop.items"')
    text = text.replace('name = "name"', 'name = { from = "title", transform = "trim" }')
    write(folder, {"product.toml": text.replace('required = "name"', 'required = "title"')})

    assert told(folder) == []
    found = load_policies(folder)
    flow = found.flow("catalog_search")
    assert "erp" in found.owners
    assert "eu.shop.items" in flow.topics("eu")
    assert flow.mapping["product"]({"item_no": "1", "title": " Kettle "})["name"] == "Kettle"
    assert flow.rules["product"][0].check({"name": " "}, "") == "title: ' ' is empty; it must be there"


def test_a_reference_is_to_what_leads_the_same_document(folder: Path) -> None:
    def about(entity: str) -> list[str]:
        text = OWN["price.toml"].replace('references = "product"', f'references = "{entity}"')
        return told(write(folder, {"price.toml": text}))

    assert about("product") == []
    for entity in ("stock", "customer", "price"):
        [fault] = about(entity)
        assert fault.endswith(f"references: no document has {entity} once and price beside it")


def test_a_reference_is_said_once(folder: Path) -> None:
    again = '\n[[rules]]\nreferences = "product"\ngrace_s = 60\n'

    [fault] = told(write(folder, {"price.toml": OWN["price.toml"] + again}))

    assert fault.endswith("references: product is referred to by a rule above already")


def test_what_refers_to_something_is_known_by_flow() -> None:
    policies = load_policies()
    hour = timedelta(hours=1)
    assert set(policies.references("catalog_search")) == {
        Reference("price", "product", hour),
        Reference("stock", "product", hour),
    }
    assert policies.references("customer_profiles") == ()
