"""Debian packages without root and without installing: apt with a state of its own.

The mirror is the one that apt on this host uses; suites that it does not use are added in a private
list, and apt checks their signatures with Debian's keyring as ever. An empty status file makes apt
think that nothing is installed, so that a download brings all libraries too. The host's apt
configuration (proxies) stays in force, its hooks do not.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.errors import BottomhalfError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TOOLS = ("apt-get", "apt-cache", "dpkg-deb")
INSTEAD = (
    "by hand: a QEMU of 10.1 or newer with vfio-user-pci in PATH, and --kernel VMLINUZ "
    "--modules DIR     (docs/guest.md)"
)
#: Takes what is being done and how much of it, 0 to 100.
Progress = Callable[[str, float], None]

_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::Languages;
Acquire::Languages "none";
Acquire::Retries "2";
APT::Install-Recommends "0";
APT::Sandbox::User "root";
APT::Architecture "amd64";
APT::Architectures "amd64";
Debug::NoLocking "1";
Dir::State "{root}/state";
Dir::State::status "{root}/state/status";
Dir::Cache "{root}/cache";
Dir::Etc::SourceList "{root}/sources.list";
Dir::Etc::SourceParts "{root}/none";
Dir::Etc::Preferences "{root}/none/preferences";
Dir::Etc::PreferencesParts "{root}/none";
"""


def mirror() -> str:
    """Address of the Debian mirror that apt here uses."""
    for tool in TOOLS:
        if shutil.which(tool) is None:
            raise BottomhalfError(
                f"guest: no {tool} here, and QEMU and the guest's kernel are fetched by apt",
                INSTEAD,
            )
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages",
             "Label: Debian"]  # fmt: skip
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    if not found:
        raise BottomhalfError(
            "guest: apt here knows no Debian mirror to fetch QEMU from",
            f"on Debian: apt-get update (as root) once; {INSTEAD}",
        )
    if not KEYRING.exists():
        raise BottomhalfError(
            f"guest: no keyring {KEYRING} to check Debian's packages with",
            "apt-get install debian-archive-keyring          (as root, once)",
        )
    return found[0]


class AptRoot:
    """apt with its state below ``root``, for some suites of a mirror."""

    def __init__(self, root: Path, address: str, suites: Sequence[str], say: Progress) -> None:
        self._say = say
        self._configuration = root / "apt.conf"
        self.archives = root / "cache/archives"
        for part in ("state/lists/partial", "cache/archives/partial", "none"):
            (root / part).mkdir(parents=True)
        (root / "state/status").touch()
        self._configuration.write_text(_CONFIGURATION.format(root=root))
        (root / "sources.list").write_text(
            "".join(f"deb [signed-by={KEYRING}] {address} {suite} main\n" for suite in suites)
        )
        self._run(f"package lists of {suites[-1]}", "apt-get", "update", "--error-on=any")

    def version(self, package: str, suite: str = "") -> str:
        """The version of a package that a download would bring."""
        chosen = ("-t", suite) if suite else ()
        said = self._run("", "apt-cache", *chosen, "policy", package)
        found = re.search(r"Candidate: (\S+)", said)
        if found is None or found[1] == "(none)":
            raise BottomhalfError(f"guest: the mirror has no package {package}", INSTEAD)
        return found[1]

    def depends(self, package: str, pattern: str) -> str:
        """The first dependency of a package whose name matches."""
        said = self._run("", "apt-cache", "depends", package)
        for name in re.findall(r"Depends: (\S+)", said):
            if re.fullmatch(pattern, name):
                return str(name)
        raise BottomhalfError(f"guest: {package} depends on no {pattern}", INSTEAD)

    def download_all(self, what: str, packages: Sequence[str], suite: str = "") -> list[Path]:
        """Packages and all that they depend on."""
        chosen = ("-t", suite) if suite else ()
        self._run(what, "apt-get", "-y", "--download-only", *chosen, "install", *packages)
        return sorted(self.archives.glob("*.deb"))

    def download(self, what: str, package: str) -> Path:
        """One package alone."""
        self._run(what, "apt-get", "download", package, cwd=self.archives)
        return next(self.archives.glob(f"{package}_*.deb"))

    def _run(self, what: str, tool: str, *words: str, cwd: Path | None = None) -> str:
        """Run a tool of apt's; what it said. Its progress is passed on if ``what`` is something."""
        status = ("-o", "APT::Status-Fd=1") if what else ()
        command = [tool, "-q", "-c", str(self._configuration), *status, *words]
        if what:
            self._say(what, 0.0)
        said = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd,
            stdin=subprocess.DEVNULL, errors="replace",
        ) as process:  # fmt: skip
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    if line.startswith("dlstatus:"):
                        self._say(what, float(line.split(":")[2]))
                    else:
                        said.append(line)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            wrong = [line[3:].strip() for line in said if line.startswith("E: ")]
            why = wrong[0] if wrong else f"{tool} ended with {process.returncode}"
            raise BottomhalfError(
                f"guest: {what or tool}: {why}", f"is the network up? else {INSTEAD}"
            )
        if what:
            self._say(what, 100.0)
        return "".join(said)


def unpack(packages: Sequence[Path], into: Path, say: Progress) -> None:
    """The files of packages; nothing of them is run."""
    for done, package in enumerate(packages):
        say("unpacking", 100.0 * done / len(packages))
        made = subprocess.run(
            ["dpkg-deb", "-x", str(package), str(into)], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise BottomhalfError(
                f"guest: {package.name} cannot be unpacked: {made.stderr.strip()}",
                "is the disk full? bottomhalf guest --fetch tries again",
            )
    say("unpacking", 100.0)
