"""Server programs that come as Maven artifacts: pinned by a lock file, verified, kept in a shared cache.

jgo fetches one pinned artifact at a time. Its transitive resolution is not used: it mixes versions, and a
lock file that names every file with its SHA-256 makes an installation repeatable. The lock names no host.
"""

import hashlib
import os
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Self

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from syncline.model.errors import FatalError
from syncline.stack.progress import Progress

PARALLEL_DOWNLOADS = 6


class ChecksumMismatch(FatalError):
    """A downloaded file is not the one that the lock file names."""


class DownloadFailed(FatalError):
    """An artifact could not be downloaded."""


def cache_folder() -> Path:
    """The folder that all clones of a user share, as the XDG base directory specification names it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syncline"


@dataclass(frozen=True)
class Artifact:
    group: str
    name: str
    version: str
    packaging: str
    sha256: str
    size: int

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read one line of a lock file: ``group:artifact:version packaging sha256 bytes``."""
        coordinates, packaging, sha256, size = line.split()
        group, name, version = coordinates.split(":")
        return cls(group, name, version, packaging, sha256, int(size))

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}.{self.packaging}"

    def verify(self, path: Path) -> None:
        """Raise ``ChecksumMismatch`` unless the file is the one that was pinned."""
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != self.sha256:
            raise ChecksumMismatch(
                f"{self.filename} is not the file that the lock names: expected SHA-256 {self.sha256}, "
                f"got {actual}. A proxy may have changed it; try again, and if it stays so, do not use it."
            )


def read_lock(name: str) -> list[Artifact]:
    """The artifacts of the lock file ``name`` beside this module."""
    lines = files(__package__).joinpath(name).read_text().splitlines()
    return [Artifact.parse(line) for line in lines if line and not line.startswith("#")]


Download = Callable[[Artifact, Path, Callable[[int], None]], Path]


def download_with_jgo(artifact: Artifact, folder: Path, count: Callable[[int], None]) -> Path:
    """Download one artifact into ``folder``, reporting the bytes as they come."""
    import requests  # noqa: PLC0415 - both are slow to import, and needed at the first start only
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    @contextmanager
    def report(_name: str, _size: int):  # type: ignore[no-untyped-def] # noqa: ANN202 - jgo has no types
        yield count

    context = MavenContext(
        repo_cache=folder, resolver=PythonResolver(progress_callback=report), local_repos=[], timeout=60
    )
    project = context.project(artifact.group, artifact.name).at_version(artifact.version)
    try:
        return Path(project.artifact(packaging=artifact.packaging).resolve())
    except (requests.RequestException, RuntimeError) as error:
        raise DownloadFailed(f"Cannot download {artifact.filename}: {error}") from error


@contextmanager
def _certificates_of_this_machine() -> Iterator[None]:
    """Trust what the operating system trusts.

    requests brings a list of its own, which does not know the authority of a company's proxy.
    """
    known = ssl.get_default_verify_paths()
    folder = known.capath if known.capath and any(Path(known.capath).glob("*.0")) else None
    store = known.cafile or folder
    if store is None or "REQUESTS_CA_BUNDLE" in os.environ:
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = store
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]


def fetch(
    artifacts: Sequence[Artifact],
    what: str,
    progress: Progress,
    cache: Path | None = None,
    download: Download = download_with_jgo,
) -> list[Path]:
    """Have every artifact in the cache, verified, and return their paths in order.

    A file in the cache is complete, because it is moved there whole after its check; one that was damaged
    later is fetched again.
    """
    folder = (cache or cache_folder()) / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{artifact.sha256[:12]}-{artifact.filename}" for artifact in artifacts]
    missing = [pair for pair in zip(artifacts, paths, strict=True) if not _is_whole(*pair)]
    if missing:
        total = sum(artifact.size for artifact, _ in missing)
        with (
            _certificates_of_this_machine(),
            progress.downloading(what, total) as count,
            ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool,
        ):
            list(pool.map(lambda pair: _fetch_one(pair[0], pair[1], count, download), missing))
    return paths


def unpack(
    artifact: Artifact, progress: Progress, cache: Path | None = None, download: Download = download_with_jgo
) -> Path:
    """Have a zip artifact unpacked in the cache and return its one top folder."""
    root = cache or cache_folder()
    target = root / f"{artifact.name}-{artifact.version}-{artifact.sha256[:12]}"
    if not target.exists():
        [archive] = fetch([artifact], f"{artifact.name} {artifact.version}", progress, cache, download)
        with _temporary_folder(root) as temporary:
            shutil.unpack_archive(archive, temporary)
            [top] = Path(temporary).iterdir()
            for program in (top / "bin").iterdir():
                program.chmod(0o755)  # zipfile does not restore permissions
            _move_into_place(top, target)
        archive.unlink()
    return target


def _is_whole(artifact: Artifact, path: Path) -> bool:
    try:
        artifact.verify(path)
    except (FileNotFoundError, ChecksumMismatch):
        return False
    return True


def _fetch_one(artifact: Artifact, target: Path, count: Callable[[int], None], download: Download) -> None:
    retrying = Retrying(
        retry=retry_if_exception_type(DownloadFailed),
        stop=stop_after_attempt(3),
        wait=wait_exponential(max=5),
        reraise=True,
    )
    for attempt in retrying:
        with attempt, _temporary_folder(target.parent) as temporary:
            downloaded = download(artifact, Path(temporary), count)
            artifact.verify(downloaded)
            downloaded.replace(target)


def _temporary_folder(parent: Path) -> AbstractContextManager[str]:
    """A folder on the cache's own file system, so that a move out of it is atomic."""
    return tempfile.TemporaryDirectory(prefix=".partial-", dir=parent)


def _move_into_place(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        # Another clone was faster: what it unpacked is the same.
        if not target.is_dir():
            raise
