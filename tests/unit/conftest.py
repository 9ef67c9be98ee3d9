from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from clienthv import hostchanges, journal, places, process
from clienthv.errors import HostError
from clienthv.lifecycle import attempts, preparing, returning

settings.register_profile(
    "repeatable",
    derandomize=True,
    max_examples=80,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("repeatable")


class ProcessStartedError(BaseException):
    """A unit test started a process. Not an Exception, so that no handler in the product hides it."""


def _refuse(*arguments: Any, **_: Any) -> NoReturn:
    raise ProcessStartedError(arguments)


def _write_here(path: str, value: str, _: float, __: str = "") -> None:
    """Write a file that is there, without the process that the product has for it."""
    handle = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
    try:
        os.write(handle, f"{value}\n".encode())
    finally:
        os.close(handle)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes, and nothing of the user's own folders."""
    monkeypatch.setattr(subprocess.Popen, "__init__", _refuse)
    monkeypatch.setattr(process, "write_file", _write_here)
    monkeypatch.setattr(process, "read_file", lambda path, _: Path(path).read_text())
    monkeypatch.setattr(places, "host_lock", lambda: None)
    for name in ("execv", "execve", "posix_spawn", "posix_spawnp", "fork", "system"):
        monkeypatch.setattr(os, name, _refuse)
    for variable, folder in (
        ("HOME", "home"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_DATA_HOME", "data"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / folder))


class Card:
    """A network card with SR-IOV below a root of its own, its driver, and the ``ip`` command for it."""

    ADDRESS = "0000:01:00.0"
    INTERFACE = "enp1s0"

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.bus = root / "sys/bus/pci/devices"
        self.folder = root / "sys/devices/pci0000:00/0000:00:1c.0" / self.ADDRESS
        self.trusted: set[int] = set()
        self.refusal: OSError | None = None
        self.group_of_functions: int | None = 100
        """The first of their groups; None when they are in none."""
        self.log: list[str] = []
        self._add(self.folder, device="0x10c9", iommu_group=7, driver="igb")
        for name, text in {
            "sriov_totalvfs": "7", "sriov_numvfs": "0", "sriov_offset": "384", "sriov_stride": "2",
            "sriov_vf_device": "10ca", "sriov_drivers_autoprobe": "1",
        }.items():  # fmt: skip
            (self.folder / name).write_text(f"{text}\n")
        self.net = self.folder / "net" / self.INTERFACE
        self.net.mkdir(parents=True)
        (self.net / "flags").write_text("0x1002\n")
        (root / "sys/class/net").mkdir(parents=True)
        (root / "sys/class/net" / self.INTERFACE).symlink_to(self.net)
        (root / "sys/kernel/iommu_groups/7").mkdir(parents=True)
        (root / "proc/net").mkdir(parents=True)
        (root / "proc/net/route").write_text("Iface\n")
        self.boot("11111111-2222-3333-4444-555555555555")

    def boot(self, name: str) -> None:
        """Let it be another boot of the kernel."""
        file = Path(self.root, "proc/sys/kernel/random/boot_id")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name}\n")

    def _add(self, folder: Path, device: str, iommu_group: int | None, driver: str) -> None:
        folder.mkdir(parents=True)
        for name, text in {"vendor": "0x8086", "device": device, "class": "0x020000"}.items():
            (folder / name).write_text(f"{text}\n")
        if iommu_group is not None:
            (folder / "iommu_group").symlink_to(f"../../../../kernel/iommu_groups/{iommu_group}")
        self.bus.mkdir(parents=True, exist_ok=True)
        (self.bus / folder.name).symlink_to(folder)
        Path(self.root, "sys/bus/pci/drivers/igb").mkdir(parents=True, exist_ok=True)
        if driver:
            self.bind(folder.name, driver)

    def bind(self, address: str, driver: str) -> None:
        """Bind a driver to a function, or none."""
        link = self.bus / address / "driver"
        link.unlink(missing_ok=True)
        if driver:
            link.symlink_to(f"../../../../bus/pci/drivers/{driver}")

    def read(self, name: str) -> str:
        """One of the card's files."""
        return (self.folder / name).read_text().strip()

    @property
    def up(self) -> bool:
        """Whether its interface is up."""
        return bool(int((self.net / "flags").read_text(), 16) & 1)

    @property
    def state(self) -> tuple[str, str, bool, set[int]]:
        """All that clienthv may change."""
        return self.read("sriov_numvfs"), self.read("sriov_drivers_autoprobe"), self.up, set(self.trusted)

    def functions(self) -> list[str]:
        """The addresses of its virtual functions."""
        return sorted(link.readlink().name for link in self.folder.glob("virtfn*"))

    # --- what the kernel does

    def wrote(self, name: str, before: str) -> None:
        """A file was written: make or remove functions as the kernel would."""
        self.log.append(f"{name}={self.read(name)}")
        if name != "sriov_numvfs":
            return
        if self.refusal is not None:
            (self.folder / name).write_text(f"{before}\n")
            raise self.refusal
        for address in self.functions():
            for file in sorted((self.bus / address).iterdir()):
                file.unlink()
            (self.bus / address).resolve().rmdir()
            (self.bus / address).unlink()
        for link in self.folder.glob("virtfn*"):
            link.unlink()
        self.trusted.clear()
        for index in range(int(self.read(name))):
            folder = self.folder.parent / f"0000:02:{0x10 + index // 4:02x}.{index % 4 * 2}"
            group = None if self.group_of_functions is None else self.group_of_functions + index
            self._add(folder, "0x10ca", group, "igbvf" if self.read("sriov_drivers_autoprobe") == "1" else "")
            (folder / "physfn").symlink_to(self.folder)
            (self.folder / f"virtfn{index}").symlink_to(folder)

    # --- what ip does

    def set_link(self, interface: str, *, up: bool) -> None:
        assert interface == self.INTERFACE
        self.log.append(f"link {'up' if up else 'down'}")
        (self.net / "flags").write_text("0x1003\n" if up else "0x1002\n")

    def set_vf_trust(self, interface: str, index: int, *, on: bool) -> None:
        assert interface == self.INTERFACE
        if index >= len(self.functions()):
            raise HostError("RTNETLINK answers: Invalid argument")
        self.log.append(f"trust {index} {'on' if on else 'off'}")
        (self.trusted.add if on else self.trusted.discard)(index)

    def vf_trust(self, interface: str, index: int) -> bool | None:
        assert interface == self.INTERFACE
        return index in self.trusted if index < len(self.functions()) else None


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """A card whose link is down, without virtual functions."""
    made = Card(tmp_path / "pc")
    write = hostchanges._write

    def written(setting: Any, value: str, root: str) -> None:
        name = hostchanges._FILES[setting.what]
        before = made.read(name)
        write(setting, value, root)
        try:
            made.wrote(name, before)
        except OSError as e:
            raise hostchanges.RefusedError(f"the kernel refused {value} for {name}: {e.strerror}") from e

    monkeypatch.setattr(hostchanges, "_write", written)
    for name in ("set_link", "set_vf_trust", "vf_trust"):
        monkeypatch.setattr(process, name, getattr(made, name))
    monkeypatch.setattr(hostchanges, "WITHIN", 0.3)
    return made


@pytest.fixture
def prepared() -> Callable[..., Any]:
    """What ``up`` does around the definition and the start of a VM: ``begin`` stands for those.

    After an error called Crash nothing is taken back: the PC has lost its power.
    """

    def prepare(site: Any, wish: Any, say: Any, begin: Callable[[Any], None]) -> Any:
        with journal.held(returning.where(site.root), "the test", say) as held:
            attempt = attempts._Attempt(site, None, None, held, say)  # type: ignore[arg-type]
            try:
                ready = preparing.make_ready(site, wish, held, say)
                preparing.hand_over(ready.plan, site, held)
                begin(ready)
            except BaseException as e:
                if type(e).__name__ != "Crash":
                    attempt.take_back()
                raise
            held.started(site.owner)
            return ready

    return prepare
