"""Where a VM's picture can be seen: the addresses that libvirt tells, and the ways to open them."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec
import pytest

from clienthv import process
from clienthv.hypervisor import Choice, screens
from clienthv.model.view import Elsewhere, Screen, Where
from clienthv.report import view


def shown(graphics: str) -> tuple[Screen, ...]:
    return screens.screens_of(f"<domain><devices>{graphics}</devices></domain>")


@pytest.mark.parametrize(
    ("graphics", "address"),
    [
        ('<graphics type="spice" socket="/run/s"><listen type="socket" socket="/run/s"/></graphics>', "spice+unix:///run/s"),
        ('<graphics type="vnc"><listen type="socket" socket="/run/vnc.sock"/></graphics>', "vnc+unix:///run/vnc.sock"),
        ('<graphics type="vnc" port="5901" autoport="yes" listen="127.0.0.1"/>', "vnc://127.0.0.1:5901"),
        ('<graphics type="spice" port="5900"><listen type="address" address="::1"/></graphics>', "spice://[::1]:5900"),
        ('<graphics type="vnc" port="5900" listen="0.0.0.0"/>', "vnc://localhost:5900"),
        ('<graphics type="vnc" port="-1" autoport="yes"/>', None),
        ('<graphics type="spice"><listen type="none"/></graphics>', None),
        ('<graphics type="sdl" display=":0"/>', None),
    ],
)  # fmt: skip
def test_a_screen_has_the_address_that_libvirt_tells(graphics: str, address: str | None) -> None:
    (screen,) = shown(graphics)
    assert screen.address == address


def test_what_draws_for_another_screen_is_none_and_all_others_are_kept_in_order() -> None:
    found = shown('<graphics type="spice"/><graphics type="egl-headless"/><graphics type="vnc"/>')
    assert [screen.type for screen in found] == ["spice", "vnc"]


def test_looking_glass_is_the_shared_memory_of_that_name_alone() -> None:
    xml = '<domain><devices><shmem name="other"/><shmem name="looking-glass-desk"/></devices></domain>'
    assert list(screens.looking_glass_of(xml)) == ["/dev/shm/looking-glass-desk"]  # noqa: S108


def where(screen: Screen | None, ssh: str | None = None, *elsewhere: Elsewhere) -> Where:
    found = (screen,) if screen is not None else ()
    return Where(
        vm="desk", uri="qemu:///system", ssh=ssh, screens=found, addresses=tuple(s.address for s in found),
        elsewhere=elsewhere, command=None, no_window="there is no graphical session here to show a window in",
    )  # fmt: skip


def commands(told: Where) -> list[list[str]]:
    lines = [line.partition(": ")[2] for line in view.lines(told)]
    return [shlex.split(line) for line in lines if line.startswith(("ssh", "remote-viewer", "vncviewer"))]


def test_a_socket_is_opened_here_by_its_address_and_from_another_pc_through_ssh() -> None:
    told = commands(where(Screen(type="spice", path="/run/my vms/spice.sock")))
    assert told == [
        ["remote-viewer", "spice+unix:///run/my vms/spice.sock"],
        ["ssh", "-N", "-L", "5900:/run/my vms/spice.sock", "USER@THIS-PC"],
        ["remote-viewer", "spice://localhost:5900"],
    ]


def test_a_vm_of_another_pc_is_reached_through_ssh_alone() -> None:
    told = commands(where(Screen(type="vnc", host="127.0.0.1", port=5901), "me@far"))
    assert told == [
        ["ssh", "-N", "-L", "5900:127.0.0.1:5901", "me@far"],
        ["remote-viewer", "vnc://localhost:5900"],
    ]


def test_a_screen_without_an_address_is_left_to_libvirt() -> None:
    text = "\n".join(view.lines(where(Screen(type="spice"))))
    assert "virt-viewer --connect qemu:///system --attach -- desk" in text
    hostile = msgspec.structs.replace(where(Screen(type="spice")), vm="$(reboot); x", uri="qemu:///system?a=1&b")
    printed = next(line.strip() for line in view.lines(hostile) if "virt-viewer" in line)
    assert shlex.split(printed)[2:] == ["qemu:///system?a=1&b", "--attach", "--", "$(reboot); x"]


def test_ssh_is_given_an_ipv6_address_in_brackets() -> None:
    told = commands(where(Screen(type="spice", host="::1", port=5900)))
    assert told[1] == ["ssh", "-N", "-L", "5900:[::1]:5900", "USER@THIS-PC"]


def test_what_is_to_be_copied_into_a_shell_is_one_word_there() -> None:
    glass = Elsewhere(by="looking-glass", what="/dev/shm/looking-glass-$(reboot)")  # noqa: S108
    (line,) = view.elsewhere(where(None, None, glass))
    assert shlex.split(line.partition(": ")[2]) == ["looking-glass-client", "-f", "/dev/shm/looking-glass-$(reboot)"]  # noqa: S108


def test_a_window_in_somebodys_session_has_no_viewer() -> None:
    text = "\n".join(view.lines(where(Screen(type="sdl"))))
    assert "sdl: a window in the desktop session" in text
    assert "virt-viewer" not in text


def test_a_card_of_the_guests_own_is_named_with_where_its_picture_is() -> None:
    gpu = Elsewhere(by="gpu", what="0000:01:00.0 Somebody's GPU")
    part = Elsewhere(by="gpu-part", what="virtual function 0")
    glass = Elsewhere(by="looking-glass", what="/dev/shm/looking-glass-desk")  # noqa: S108
    text = "\n".join(view.lines(where(None, None, gpu, part, glass)))
    assert "0000:01:00.0 Somebody's GPU is the guest's" in text
    assert "monitors" in text
    assert "virtual function 0 is the guest's and has no monitor" in text
    assert "looking-glass-client -f /dev/shm/looking-glass-desk" in text


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A graphical session, and a folder that programs are looked for in."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    return tmp_path


def install(folder: Path, program: str) -> None:
    (folder / program).write_text("#!/bin/sh\n")
    (folder / program).chmod(0o755)


def test_a_window_takes_a_session_and_the_program_that_can_open_the_screen(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vnc = Screen(type="vnc", path="/run/vnc.sock")
    assert process.window_by_address(vnc) == (None, "vncviewer is not installed (package tigervnc-viewer)")
    for program in ("vncviewer", "remote-viewer", "virt-viewer"):
        install(session, program)
    assert process.window_by_address(vnc) == ((f"{session}/vncviewer", "/run/vnc.sock"), None)
    by_address = (f"{session}/remote-viewer", "--", "spice+unix:///run/s.sock")
    assert process.window_by_address(Screen(type="spice", path="/run/s.sock")) == (by_address, None)
    by_libvirt, _ = process.window_by_libvirt("qemu:///system", "desk", local=True)
    assert by_libvirt == (f"{session}/virt-viewer", "--connect", "qemu:///system", "--attach", "--", "desk")
    far, _ = process.window_by_libvirt("qemu+ssh://me@far/system", "desk", local=False)
    assert far is not None
    assert "--attach" not in far
    monkeypatch.delenv("WAYLAND_DISPLAY")
    monkeypatch.delenv("DISPLAY", raising=False)
    command, why = process.window_by_libvirt("qemu:///system", "desk", local=True)
    assert command is None
    assert why is not None
    assert "no graphical session" in why


@pytest.mark.parametrize(
    ("uri", "destination"),
    [
        ("qemu+ssh://me@far/system", "me@far"),
        ("qemu+ssh://me@far:2222/system", "ssh://me@far:2222"),
        ("qemu+ssh://[fe80::1]:2222/system", "ssh://[fe80::1]:2222"),
        ("qemu+tls://far:16514/system", "far"),
        ("qemu:///system", ""),
    ],
)
def test_ssh_goes_to_the_port_that_the_connection_names(uri: str, destination: str) -> None:
    assert Choice(uri, "").destination == destination
