"""The line of each thing in a TOML file, whatever the way it is written in."""

from syncline.policies.toml_lines import line_of, lines_by_path

TEXT = """\
# a comment = 1
top = 1

[table."quoted name"]
key.inner = 2
list = [
    1,  # not = a key
    2,
]
text = '''
[no.header]
nor = "a key"
'''

[[array]]
first = { nested = "=" }
[[array]]
[array.sub]
"a b" = 3
"""


def test_each_thing_has_the_line_on_which_it_begins() -> None:
    assert lines_by_path(TEXT) == {
        ("top",): 2,
        ("table", "quoted name"): 4,
        ("table", "quoted name", "key"): 5,
        ("table", "quoted name", "key", "inner"): 5,
        ("table", "quoted name", "list"): 6,
        ("table", "quoted name", "text"): 10,
        ("array",): 15,
        ("array", 0): 15,
        ("array", 0, "first"): 16,
        ("array", 1): 17,
        ("array", "sub"): 18,
        ("array", "sub", "a b"): 19,
    }


def test_what_has_no_line_of_its_own_has_that_of_what_is_around_it() -> None:
    lines = lines_by_path(TEXT)

    assert line_of(lines, ("array", 0, "first", "nested")) == 16
    assert line_of(lines, ("nothing", "of", "it")) == 1
