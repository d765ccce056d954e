"""What is downloaded is what was pinned, and a cache is never half filled."""

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from syncline.stack.artifacts import Artifact, ChecksumMismatch, DownloadFailed, fetch, read_lock, unpack
from syncline.stack.progress import Silent

CONTENT = b"a jar"
ARTIFACT = Artifact("org.example", "thing", "1.0", "jar", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


class Source:
    """Stands for the repository of artifacts: gives out ``content`` after ``failures`` failures."""

    def __init__(self, content: bytes = CONTENT, failures: int = 0) -> None:
        self.content = content
        self.failures = failures
        self.asked = 0

    def __call__(self, artifact: Artifact, folder: Path, count: Callable[[int], None]) -> Path:
        self.asked += 1
        if self.asked <= self.failures:
            raise DownloadFailed
        path = folder / artifact.filename
        path.write_bytes(self.content)
        count(len(self.content))
        return path


def test_a_file_is_fetched_once(tmp_path: Path) -> None:
    source = Source()
    for _ in range(2):
        [path] = fetch([ARTIFACT], "it", Silent(), tmp_path, source)
    assert path.read_bytes() == CONTENT
    assert source.asked == 1


def test_a_wrong_checksum_names_the_file_and_both_sums_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ChecksumMismatch) as raised:
        fetch([ARTIFACT], "it", Silent(), tmp_path, Source(b"something else"))
    actual = hashlib.sha256(b"something else").hexdigest()
    assert all(part in str(raised.value) for part in ("thing-1.0.jar", ARTIFACT.sha256, actual))
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_a_file_damaged_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    [path] = fetch([ARTIFACT], "it", Silent(), tmp_path, Source())
    path.write_bytes(b"damaged")
    assert fetch([ARTIFACT], "it", Silent(), tmp_path, Source())[0].read_bytes() == CONTENT


def test_a_failed_download_is_tried_again(tmp_path: Path) -> None:
    source = Source(failures=1)
    fetch([ARTIFACT], "it", Silent(), tmp_path, source)
    assert source.asked == 2


def test_a_zip_is_unpacked_whole_with_its_programs_executable(tmp_path: Path) -> None:
    archive = tmp_path / "made.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("thing-1.0/bin/run", "#!/bin/sh\n")
    content = archive.read_bytes()
    artifact = replace(ARTIFACT, packaging="zip", sha256=hashlib.sha256(content).hexdigest())
    source = Source(content)
    for _ in range(2):
        folder = unpack(artifact, Silent(), tmp_path / "cache", source)
    assert (folder / "bin" / "run").stat().st_mode & 0o111
    assert source.asked == 1


@pytest.mark.parametrize(("name", "count"), [("kafka.lock", 46), ("elasticsearch.lock", 1)])
def test_the_lock_files_pin_every_artifact_and_name_no_host(name: str, count: int) -> None:
    artifacts = read_lock(name)
    assert len(artifacts) == count
    assert all(len(artifact.sha256) == 64 and artifact.size > 0 for artifact in artifacts)
