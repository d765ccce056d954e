"""The documents name only what is there, and what is there is in the documents."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from syncline.settings import Settings
from tests.project import ROOT, settings_page

FILES_OF_USERS = {"kafka-acls.sh", "policies/product.toml", "product.toml", "syncline.toml"}
MADE_BY_RUNNING = (".syncline/", ".venv/")
NOT_IN_THE_MODEL = {
    "SYNCLINE_CONFIG_FILE",
    "SYNCLINE_TEST_HOME",
    "SYNCLINE_RUN_FOLDER",
    "SYNCLINE_HISTORIES",
    "SYNCLINE_CACHE_ROUNDS",
}
HOSTS = {"127.0.0.1", "localhost", "keepachangelog.com", "semver.org", "www.rfc-editor.org"}
"""That documents may link to, and none from which packages come: those are the reader's to choose."""

LINK = re.compile(r"\[[^\]]*\]\((?![a-z]+:)([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
SUFFIXES = r"(?:cfg|json|lock|md|py|sh|sql|svg|toml|txt|yaml|yml)"
FILE = re.compile(rf"(?<![\w./~<>$-])\.?[\w-]+(?:[./][\w-]+)*\.{SUFFIXES}(?![\w/<>-])")
FOLDER = re.compile(r"\.?\w[\w.-]*(?:/[\w.-]+)*/?")
REQUIREMENT = re.compile(r"[\w.-]+(?:\[[\w,]+\])?")
URL = re.compile(r"\b[a-z]+://[^\s)>`\"'|]+")


def _documents() -> Iterator[Path]:
    yield from ROOT.glob("*.md")
    for folder in ROOT.iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            yield from folder.rglob("*.md")


DOCUMENTS = {str(path.relative_to(ROOT)): path for path in sorted(_documents())}
each_document = pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in LINK.findall(document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)

    assert broken == []


@each_document
def test_every_file_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    without_addresses = URL.sub("", text)
    folders = {
        code
        for code in CODE.findall(without_addresses)
        if FOLDER.fullmatch(code) and "/" in code and (ROOT / code.split("/")[0]).is_dir()
    }
    named = {
        name
        for name in folders | set(FILE.findall(without_addresses))
        if name not in FILES_OF_USERS and not name.startswith(MADE_BY_RUNNING)
    }

    assert sorted(name for name in named if not _is_there(name, document)) == []


def _is_there(name: str, document: Path) -> bool:
    """From the root, from the document, or, of a bare name, in a folder that the sentence names."""
    if (ROOT / name).exists() or (document.parent / name).exists():
        return True
    neighbours = [ROOT / folder for folder in CODE.findall(document.read_text(encoding="utf-8"))]
    return "/" not in name and any((folder / name).is_file() for folder in neighbours)


@each_document
def test_every_variable_that_is_named_is_a_setting(document: Path) -> None:
    named = set(re.findall(r"\bSYNCLINE_[A-Z_]*[A-Z]\b", document.read_text(encoding="utf-8")))

    assert named - NOT_IN_THE_MODEL <= {f"SYNCLINE_{name.upper()}" for name in Settings.model_fields}


@each_document
def test_documents_name_no_host_that_packages_come_from(document: Path) -> None:
    hosts = {urlsplit(url).hostname for url in URL.findall(document.read_text(encoding="utf-8"))}

    assert {host for host in hosts - HOSTS if host and not re.search(r"(^|\.)example(\.|$)", host)} == set()


@pytest.mark.parametrize("lock", ["requirements/dev.txt", "requirements/runtime.txt"])
def test_requirements_leave_the_choice_of_a_registry_to_the_reader(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")

    assert "://" not in text
    assert re.findall(r"^\s*(--(?!hash=)\S+|-\w)\b", text, re.MULTILINE) == []


def test_the_page_of_settings_is_up_to_date() -> None:
    renew = "renew it: .venv/bin/python -m tests.project.settings_page"

    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.render(), renew


def test_each_direct_dependency_has_its_reason() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = configuration["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    groups += configuration["dependency-groups"].values()
    direct = {found[0] for group in groups for line in group if (found := REQUIREMENT.match(line))}

    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| (\w[\w.-]*(?:\[[\w,]+\])?) \|", page, re.MULTILINE)) - {"package"}
    stubs = {name for name in CODE.findall(page) if name.startswith("types-")}
    assert rows | stubs == direct


def test_the_newest_entry_of_the_changelog_is_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert re.findall(r"^## \[?(\d+\.\d+\.\d+)\b", changelog, re.MULTILINE)[0] == version


def test_checks_before_a_commit_need_no_download() -> None:
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))

    assert {repository["repo"] for repository in configuration["repos"]} == {"local"}
    hooks = [hook for repository in configuration["repos"] for hook in repository["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
