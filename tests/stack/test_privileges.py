"""How a program that refuses root is started by root: as pure logic, and on a real file."""

import os
from pathlib import Path

import pytest

from syncline.stack import privileges
from syncline.stack.privileges import AS_WE_ARE, Privileges, as_account, in_user_namespace


def test_a_user_namespace_shows_another_user_and_leaves_the_files_to_root() -> None:
    way = in_user_namespace(65534)
    assert way.prefix == ("unshare", "--user", "--map-user=65534", "--map-group=65534")
    assert way.owner == 0


def test_an_account_keeps_only_the_capability_to_pass_folders() -> None:
    way = as_account(65534)
    assert way.prefix[0] == "setpriv"
    assert "--clear-groups" in way.prefix
    assert [word for word in way.prefix if "caps" in word] == [
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
    ]
    assert way.owner == 65534


def test_an_ordinary_user_needs_no_way_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert privileges.without_root.__wrapped__() == AS_WE_ARE


def test_the_second_way_is_taken_where_the_first_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(privileges, "_works", lambda way: way.prefix[0] == "setpriv")
    assert privileges.without_root.__wrapped__().prefix[0] == "setpriv"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_an_earlier_way_are_handed_over(tmp_path: Path) -> None:
    data = tmp_path / "server" / "data"
    data.mkdir(parents=True)
    (data / "file").touch()
    Privileges((), owner=65534).hand_over(tmp_path / "server")
    assert {path.stat().st_uid for path in (data.parent, data, data / "file")} == {65534}
