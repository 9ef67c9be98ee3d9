"""The life of VMs on real drivers, seen through virsh."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Machine

pytestmark = pytest.mark.libvirt

NAMESPACE = "{urn:clienthv:vm:1}"


def definition(machine: Machine, name: str) -> ET.Element:
    return ET.fromstring(machine.virsh("dumpxml", "--inactive", name))  # noqa: S314 - libvirt's own output


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert "Hint:" in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture
def demo(machine: Machine) -> Machine:
    ok(machine.run("up", "demo", "--wait"))
    return machine


def test_up_starts_a_persistent_domain_that_virsh_sees_with_the_plan_inside(demo: Machine) -> None:
    assert demo.virsh("domstate", "demo").strip() == "running"
    assert "demo" in demo.virsh("list", "--persistent", "--name").split()
    plan = definition(demo, "demo").find(f"metadata/{NAMESPACE}vm/{NAMESPACE}plan")
    assert plan is not None
    decisions = json.loads(plan.text or "")["decisions"]
    assert {d["kind"]: d["strategy"] for d in decisions}["nic"] == "paravirtual"
    assert definition(demo, "demo").find("devices/interface/model").get("type") == "virtio"  # type: ignore[union-attr]


def test_up_on_a_running_vm_says_so_and_changes_nothing(demo: Machine) -> None:
    before = demo.virsh("domid", "demo")
    assert "running already" in ok(demo.run("up", "demo"))
    assert demo.virsh("domid", "demo") == before


def test_list_and_status_show_the_strategies(demo: Machine) -> None:
    assert "gpu paravirtual" in ok(demo.run("list"))
    (vm,) = [v for v in json.loads(ok(demo.run("list", "--json")))["vms"] if v["name"] == "demo"]
    assert vm["state"] == "running"
    assert vm["strategies"]["gpu0"] == "paravirtual"
    assert "any screen size" in ok(demo.run("status", "demo"))


def test_a_screenshot_is_a_png_of_the_guests_screen(demo: Machine) -> None:
    picture = demo.home / "screen.png"
    ok(demo.run("screenshot", "demo", "-o", str(picture)))
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 640
    assert height >= 400


def test_what_the_guest_has_seen_is_the_same_after_down_and_up(demo: Machine) -> None:
    def seen() -> tuple[str | None, ...]:
        domain = definition(demo, "demo")
        mac, machine_type = domain.find("devices/interface/mac"), domain.find("os/type")
        assert mac is not None
        assert machine_type is not None
        return domain.findtext("uuid"), mac.get("address"), machine_type.get("machine")

    before = seen()
    assert "pulling its plug" in ok(demo.run("down", "demo"))
    assert demo.virsh("domstate", "demo").strip() == "shut off"
    ok(demo.run("up", "demo", "--wait"))
    assert seen() == before


def test_devices_keep_their_slots_and_models_when_others_come_and_go(machine: Machine) -> None:
    def slots() -> dict[str, str]:
        found = {}
        for device in definition(machine, "grows").iterfind("devices/*"):
            address, model = device.find("address[@type='pci']"), device.find("model")
            if address is not None and device.tag in ("interface", "video", "rng", "memballoon", "sound"):
                found[device.tag] = (
                    f"{address.get('bus')}:{address.get('slot')} {model.get('type') if model is not None else ''}"
                )
        return found

    profile = machine.home / "grows.toml"
    profile.write_text('extends = "portable"\n[devices.audio]\nprefer = ["omit"]\n')
    ok(machine.run("up", str(profile)))
    before = slots()
    assert "sound" not in before
    ok(machine.run("down", "grows", "--force"))
    profile.write_text(
        'extends = "portable"\n[devices.disk]\nprefer = ["emulated"]\n[devices.usb]\nprefer = ["omit"]\n'
    )
    ok(machine.run("up", str(profile)))
    after = slots()
    assert "sound" in after
    assert {tag: after.get(tag) for tag in before} == before
    ok(machine.run("down", "grows", "--force"))


def test_a_better_strategy_is_offered_and_taken_when_asked(machine: Machine) -> None:
    """A rung is missing at first because the guest has no driver for it; then the user installs one."""

    def nic() -> str | None:
        model = definition(machine, "better").find("devices/interface/model")
        return model.get("type") if model is not None else None

    profile = machine.home / "better.toml"
    profile.write_text('extends = "portable"\n[guest]\ndrivers = []\n')
    ok(machine.run("up", str(profile)))
    assert nic() == "e1000e"
    ok(machine.run("down", "better", "--force"))
    profile.write_text('extends = "portable"\n[guest]\ndrivers = ["virtio"]\n')
    assert "better-possible" in ok(machine.run("up", str(profile)))
    assert nic() == "e1000e"
    ok(machine.run("down", "better", "--force"))
    ok(machine.run("up", "better", "--upgrade", "nic"))
    assert nic() == "virtio"
    ok(machine.run("down", "better", "--force"))


def test_down_undefine_forgets_the_vm_and_keeps_its_disk(machine: Machine) -> None:
    ok(machine.run("up", "portable", "--name", "kept", "--new-disk", "64 MiB", "--wait"))
    image = machine.home / "d" / "clienthv" / "images" / "kept.qcow2"
    assert image.is_file()
    assert str(image) in ok(machine.run("down", "kept", "--force", "--undefine"))
    assert "kept" not in machine.names()
    assert image.is_file()


def test_a_guest_that_ignores_its_power_button_keeps_running_until_forced(machine: Machine) -> None:
    ok(machine.run("up", "portable", "--name", "deaf", "--wait"))
    refused(machine.run("down", "deaf", "--timeout", "2"), 10, "still runs after 2 s", "--force")
    assert machine.virsh("domstate", "deaf").strip() == "running"
    assert "pulling its plug, as asked" in ok(machine.run("down", "deaf", "--force"))
    assert machine.virsh("domstate", "deaf").strip() == "shut off"
    assert "was not running" in ok(machine.run("down", "deaf"))


def test_every_shipped_profile_starts(machine: Machine) -> None:
    for profile in ("portable", "balanced", "performance", "mixed", "linux-desktop", "headless"):
        ok(machine.run("up", profile, "--name", f"all-{profile}", "--new-disk", "64 MiB", "--wait"))
        assert machine.virsh("domstate", f"all-{profile}").strip() == "running"
        ok(machine.run("down", f"all-{profile}", "--force", "--undefine"))


@pytest.mark.parametrize("os", ["win95", "win98", "winxp", "win7", "win11"])
def test_guests_of_every_era_get_devices_that_libvirt_and_qemu_take(embedded: Machine, os: str) -> None:
    profile = embedded.home / f"{os}.toml"
    parent = {"win7": "balanced", "win11": "windows-11"}.get(os, "legacy-windows")
    small = "[size]\nvcpus = 1\nvcpus_min = 1\nmemory = '256 MiB'\nmemory_min = '256 MiB'\n"
    profile.write_text(f"extends = '{parent}'\n[guest]\nos = '{os}'\ndrivers = []\n{small}")
    cdrom = embedded.home / "setup.iso"
    cdrom.write_bytes(bytes(1 << 20))
    cdrom.chmod(0o644)
    ok(embedded.run("up", str(profile), "--new-disk", "64 MiB", "--cdrom", str(cdrom), "--wait"))
    made = definition(embedded, os)
    board = made.find("os/type")
    assert board is not None
    old = os in {"win95", "win98", "winxp"}
    assert ("q35" in str(board.get("machine"))) != old
    assert {d.get("bus") for d in made.iterfind("devices/disk/target")} == {"ide" if old else "sata"}
    ok(embedded.run("down", os, "--force", "--undefine"))


def test_an_image_of_another_vm_is_refused(machine: Machine) -> None:
    ok(machine.run("up", "portable", "--name", "owner", "--new-disk", "64 MiB"))
    image = machine.home / "d" / "clienthv" / "images" / "owner.qcow2"
    refused(machine.run("up", "portable", "--name", "thief", "--disk", str(image)), 9, "belongs to VM owner")
    assert "thief" not in machine.names()
    ok(machine.run("down", "owner", "--force"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--disk", "/nonexistent/x.qcow2"], 9, ["does not exist", "--new-disk"]),
        (["--disk", "/etc"], 9, ["is a folder"]),
        (["--disk", "/dev/null"], 9, ["is a device or pipe"]),
        (["--new-disk", "64"], 2, ["--new-disk"]),
        (["--new-disk", "64 MiB", "--disk", "/etc/hostname"], 9, ["exists already and is not overwritten"]),
        (["--cdrom", "/nonexistent.iso"], 9, ["ISO image /nonexistent.iso does not exist"]),
        (["--kernel", "/nonexistent"], 9, ["kernel /nonexistent does not exist"]),
        (["--initrd", "/etc/hostname"], 2, ["without a kernel"]),
        (["--name", "a/b"], 2, ["cannot be a VM's name"]),
        (["--name", 'x"><evil/>'], 2, ["cannot be a VM's name"]),
    ],
)
def test_wrong_files_and_names_are_refused_and_nothing_is_left_behind(
    machine: Machine, arguments: list[str], code: int, words: list[str]
) -> None:
    before = machine.names()
    arguments = arguments if "--name" in arguments else ["--name", "wrong", *arguments]
    refused(machine.run("up", "portable", *arguments), code, *words)
    assert machine.names() == before


def test_an_image_that_leads_to_another_file_is_refused(machine: Machine) -> None:
    secret, image = machine.home / "secret.raw", machine.home / "innocent.qcow2"
    secret.write_bytes(bytes(1 << 20))
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(image)]
    subprocess.run(make, check=True)
    refused(machine.run("up", "portable", "--name", "leak", "--disk", str(image)), 11, "leads to another file")
    assert "leak" not in machine.names()


def test_a_start_that_fails_takes_back_definition_and_image(machine: Machine) -> None:
    kernel = machine.home / "not-a-kernel"
    kernel.write_text("this is no kernel")
    kernel.chmod(0o644)
    arguments = ["--name", "broken", "--kernel", str(kernel), "--initrd", str(kernel), "--new-disk", "64 MiB"]
    done = machine.run("up", "portable", *arguments)
    assert done.returncode == 6, (done.stdout, done.stderr)
    assert "cannot start VM broken" in done.stderr
    assert "broken" not in machine.names()
    assert not (machine.home / "d" / "clienthv" / "images" / "broken.qcow2").exists()


def test_a_failed_restart_leaves_the_old_definition(machine: Machine) -> None:
    ok(machine.run("up", "portable", "--name", "twice"))
    ok(machine.run("down", "twice", "--force"))
    before = machine.virsh("dumpxml", "--inactive", "twice")
    kernel = machine.home / "not-a-kernel-either"
    kernel.write_text("this is no kernel")
    done = machine.run("up", "twice", "--kernel", str(kernel), "--initrd", str(kernel))
    assert done.returncode == 6, (done.stdout, done.stderr)
    assert machine.virsh("dumpxml", "--inactive", "twice") == before


def test_a_vm_of_somebody_else_is_shown_and_left_alone(machine: Machine) -> None:
    foreign = machine.home / "foreign.xml"
    foreign.write_text(
        '<domain type="qemu"><name>foreign</name><memory unit="MiB">64</memory>'
        '<os><type arch="x86_64" machine="q35">hvm</type></os></domain>'
    )
    foreign.chmod(0o644)
    machine.virsh("define", str(foreign))
    assert "not made by clienthv" in ok(machine.run("list"))
    refused(machine.run("up", "foreign"), 10, "was not made by clienthv")
    refused(machine.run("down", "foreign", "--undefine"), 10, "its definition stays")
    assert "foreign" in machine.names()


def test_a_plan_from_the_saved_document_is_the_plan_of_this_pc(machine: Machine) -> None:
    ok(machine.run("inspect", "--save", "this.json"))
    live = json.loads(ok(machine.run("plan", "performance", "--json")))
    saved = json.loads(ok(machine.run("plan", "performance", "--json", "--host", "this.json")))
    assert saved["decisions"] == live["decisions"]


def test_the_cpu_is_planned_by_whether_kvm_really_works(machine: Machine) -> None:
    kvm = json.loads(ok(machine.run("inspect", "--json")))["kvm"]
    plan = json.loads(ok(machine.run("plan", "--json")))
    (cpu,) = [d for d in plan["decisions"] if d["kind"] == "cpu"]
    assert kvm["evidence"]
    assert (cpu["strategy"] == "hardware-virtualization") is kvm["usable"]
    assert kvm["usable"] or cpu["rejected"]


def test_a_users_template_changes_one_block_of_the_domain(machine: Machine, tmp_path: Path) -> None:
    mine = machine.home / ".config" / "clienthv" / "templates"
    mine.mkdir(parents=True, exist_ok=True)
    template = mine / "domain.xml.j2"
    clock = '{% block clock %}<clock offset="localtime"/>{% endblock %}'
    template.write_text('{% extends "packaged/domain.xml.j2" %}' + clock)
    try:
        ok(machine.run("up", "demo", "--name", "local-time"))
        assert definition(machine, "local-time").find("clock").get("offset") == "localtime"  # type: ignore[union-attr]
        template.write_text('{% extends "packaged/domain.xml.j2" %}{% block clock %}<clok/>{% endblock %}')
        refused(machine.run("up", "demo", "--name", "no-time"), 7, "clok")
        assert "no-time" not in machine.names()
    finally:
        template.unlink()
        machine.run("down", "local-time", "--force")


def test_an_interrupt_leaves_a_whole_vm_or_none(machine: Machine) -> None:
    for tenths in range(0, 9, 2):
        name = f"interrupted-{tenths}"
        process = machine.popen("up", "demo", "--name", name)
        machine.await_main(process)
        try:
            process.communicate(timeout=tenths / 10)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors
        assert process.returncode in (0, 130, -signal.SIGINT), errors  # the last: while Python itself was ending
        if process.returncode == 0 or name in machine.names():
            assert machine.virsh("domstate", name).strip() == "running"
            ok(machine.run("down", name, "--undefine"))
    assert not [n for n in machine.names() if n.startswith("interrupted")]


def test_connections_that_cannot_be_used_are_refused_with_the_next_step(machine: Machine) -> None:
    refused(machine.run("--connect", "nonsense:///x", "list"), 3, "nonsense:///x")
    refused(machine.run("--connect", "test:///default", "list"), 3, "is a connection to TEST")
    refused(machine.run("--connect", "qemu+ssh://elsewhere.invalid/system", "list"), 3, "leads to another PC")
    refused(machine.run("--connect", "qemu+unix:///system?socket=/nonexistent", "list"), 3, "cannot connect")


def test_processes_that_use_the_embedded_driver_wait_for_each_other(embedded: Machine) -> None:
    together = [embedded.popen("list") for _ in range(4)]
    results = [(p.communicate(timeout=100), p.returncode) for p in together]
    assert [code for _, code in results] == [0] * 4, results


def test_console_and_view_say_what_they_need(demo: Machine) -> None:
    refused(demo.run("view", "nothing-of-that-name"), 10, "there is no VM")
    refused(demo.run("console", "nothing-of-that-name"), 10, "there is no VM")


def test_a_guest_that_libvirt_has_put_to_sleep_is_not_planned_anew(machine: Machine) -> None:
    """libvirt-guests does so when the PC shuts down, and libvirt wakes it with the definition it had."""
    ok(machine.run("up", "portable", "--name", "asleep"))
    machine.virsh("managedsave", "asleep")
    before = machine.virsh("dumpxml", "asleep", "--inactive")
    refused(machine.run("up", "asleep"), 10, "sleeps", "virsh start asleep", "virsh managedsave-remove asleep")
    assert machine.virsh("dumpxml", "asleep", "--inactive") == before
    refused(machine.run("down", "asleep", "--undefine"), 10, "sleeps", "virsh start asleep", "--force")
    ok(machine.run("down", "asleep", "--undefine", "--force"))
    assert "asleep" not in machine.names()


def test_a_change_made_with_virsh_is_not_dropped_silently(machine: Machine) -> None:
    ok(machine.run("up", "portable", "--name", "edited"))
    ok(machine.run("down", "edited", "--force"))
    image = machine.home / "second.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "16M"], check=True)
    image.chmod(0o666)
    machine.virsh("attach-disk", "edited", str(image), "vdb", "--subdriver", "qcow2", "--config")
    refused(machine.run("up", "edited"), 10, "was changed outside clienthv", "virsh start edited", "--redefine")
    assert str(image) in machine.virsh("domblklist", "edited", "--inactive")
    ok(machine.run("up", "edited", "--redefine"))
    assert str(image) not in machine.virsh("domblklist", "edited", "--inactive")
    ok(machine.run("down", "edited", "--force", "--undefine"))


def test_a_vm_with_damaged_metadata_can_still_be_stopped_and_forgotten(machine: Machine) -> None:
    ok(machine.run("up", "demo", "--name", "damaged"))
    machine.virsh(
        "metadata", "damaged", "urn:clienthv:vm:1", "--key", "clienthv", "--set", "<vm/>", "--config", "--live"
    )
    assert "damaged" in ok(machine.run("list"))
    ok(machine.run("down", "damaged", "--force"))
    ok(machine.run("down", "damaged", "--undefine"))
    assert "damaged" not in machine.names()


def test_a_disk_image_for_a_plan_without_a_disk_is_refused_before_it_is_made(machine: Machine) -> None:
    refused(machine.run("up", "demo", "--name", "diskless", "--new-disk", "64 MiB"), 2, "the disk is omit")
    assert "diskless" not in machine.names()
    assert not (machine.home / "d" / "clienthv" / "images" / "diskless.qcow2").exists()


def test_a_profile_cannot_hand_any_file_to_a_guest_as_its_kernel(machine: Machine) -> None:
    secret = machine.home / "secret.txt"
    secret.write_text("a secret")
    profile = machine.home / "thief.toml"
    profile.write_text(f'schema = 1\nextends = "demo"\n[boot]\ninitrd = "{secret}"\n')
    refused(machine.run("up", str(profile)), 9, "does not look like an initial RAM disk")
    assert "thief" not in machine.names()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_leaves_a_whole_vm_or_neither_vm_nor_image(machine: Machine, number: int) -> None:
    for tenths in (2, 4, 6, 9):
        name = f"signalled-{number}-{tenths}"
        image = machine.home / "d" / "clienthv" / "images" / f"{name}.qcow2"
        process = machine.popen("up", "portable", "--name", name, "--new-disk", "16 MiB")
        machine.await_main(process)
        try:
            process.communicate(timeout=tenths / 10)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors
        if name in machine.names():
            assert machine.virsh("domstate", name).strip() == "running"
            assert image.is_file()
            ok(machine.run("down", name, "--force", "--undefine"))
        else:
            assert not image.exists()


def test_a_failed_first_start_leaves_no_firmware_variables(embedded: Machine) -> None:
    kernel = embedded.home / "no-kernel"
    kernel.write_text("this is no kernel")
    done = embedded.run("up", "portable", "--name", "traceless", "--kernel", str(kernel), "--initrd", str(kernel))
    assert done.returncode == 6, done.stderr
    assert not list((embedded.home / "s").rglob("traceless*VARS*"))


def test_the_serial_console_opens_on_a_terminal(demo: Machine) -> None:
    refused(demo.run("console", "demo"), 3, "needs a terminal")
    with demo.on_a_terminal("console", "demo") as terminal:
        assert "Connected to domain 'demo'" in terminal.read_until("Connected to domain 'demo'")


def test_without_a_name_the_first_connection_that_can_be_used_is_taken_and_the_reason_told(machine: Machine) -> None:
    done = machine.run_unnamed("list")
    ok(done)
    first = done.stderr.splitlines()[0]
    assert first.startswith("connection: qemu:///")
    uri, _, reason = first.removeprefix("connection: ").partition(" (")
    expected = {"qemu:///system": "it answers", "qemu:///session": "the session answers"}
    assert expected.get(uri, "no libvirt daemon can be used") in reason


def test_plan_of_a_vm_that_is_there_is_what_up_would_do(machine: Machine) -> None:
    ok(machine.run("up", "headless", "--name", "there", "--new-disk", "16 MiB"))
    running = machine.run("plan", "there")
    assert "it runs now" in running.stderr
    ok(machine.run("down", "there", "--force"))
    kept = json.loads(ok(machine.run("plan", "there", "--json")))
    told = machine.run("explain", "there", "nic", "--json")
    assert "VM there is there" in told.stderr
    (ladder,) = json.loads(ok(told))["ladders"]
    assert json.loads(told.stdout)["vm"] == "there"
    assert ladder["taken"] == next(d["strategy"] for d in kept["decisions"] if d["kind"] == "nic")
    before = {d["kind"]: (d["strategy"], d["model"]) for d in kept["decisions"]}
    assert "VM <bdi>there</bdi>" in ok(machine.run("report", "there"))
    ok(machine.run("up", "there"))
    remembered = definition(machine, "there").findtext(".//{urn:clienthv:vm:1}plan")
    after = {d["kind"]: (d["strategy"], d["model"]) for d in json.loads(remembered or "{}")["decisions"]}
    assert before == after
    ok(machine.run("down", "there", "--force", "--undefine"))
    refused(machine.run("plan", "there"), 5, "there")


def test_the_memory_of_a_running_vm_is_told(machine: Machine) -> None:
    ok(machine.run("up", "demo"))
    saved = machine.home / "pc.json"
    ok(machine.run("inspect", "--save", str(saved)))
    vms = json.loads(saved.read_text())["stack"]["vms"]
    (vm,) = [vm for vm in vms if vm["running"]]
    assert vm["memory_mib"] == 1024
    assert 0 < vm["resident_mib"] < 2048
    assert {vm["name"] for vm in vms} == {f"vm{number}" for number in range(1, len(vms) + 1)}, "people name VMs"
    ok(machine.run("down", "demo", "--force", "--undefine"))


def test_redirected_usb_devices_have_channels_that_qemu_takes_and_missing_huge_pages_do_not_stop_a_vm(
    machine: Machine,
) -> None:
    (machine.home / "roomy.toml").write_text(
        'extends = "portable"\n[size]\nmemory = "256 MiB"\nmemory_min = "128 MiB"\nhugepages = true\n'
        "[devices.usb]\nredirect = 2\n"
        '[devices.display]\nprefer = ["paravirtual"]\n[devices.tpm]\nprefer = ["omit"]\n'
    )
    started = ok(machine.run("up", str(machine.home / "roomy.toml")))
    assert "hugepages-short" in started or definition(machine, "roomy").find("memoryBacking/hugepages") is not None
    assert len(definition(machine, "roomy").findall("devices/redirdev")) == 2
    ok(machine.run("down", "roomy", "--force", "--undefine"))


def test_a_disk_on_virtio_scsi_starts(machine: Machine) -> None:
    (machine.home / "scsi.toml").write_text('extends = "headless"\n[devices.disk]\nbus = "virtio-scsi"\n')
    ok(machine.run("up", str(machine.home / "scsi.toml"), "--new-disk", "16 MiB"))
    disk = definition(machine, "scsi").find("devices/disk/target")
    assert disk is not None
    assert disk.get("bus") == "scsi"
    assert definition(machine, "scsi").findtext("iothreads") == "1"
    ok(machine.run("down", "scsi", "--force", "--undefine"))
