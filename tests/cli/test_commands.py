"""The command line as a person meets it, without libvirt: right use, wrong use, and the words for it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import jsonschema
import pytest

from clienthv.cli import cli
from clienthv.model import schemas

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PC = REPOSITORY / "tests" / "hosts" / "desk-x570-3rdgen-rx580-gt710-b.json"
APU_LAPTOP = REPOSITORY / "tests" / "hosts" / "fa-laptop-fw16-7840hs.json"

Run = Callable[..., subprocess.CompletedProcess[str]]


def commands() -> list[tuple[str, click.Command]]:
    context = click.Context(cli)
    found = []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", c) for sub, c in command.commands.items()]
    return found


@pytest.mark.parametrize(("name", "command"), commands(), ids=[n for n, _ in commands()])
def test_every_command_has_help_and_an_example(name: str, command: click.Command) -> None:
    assert command.help
    assert command.epilog
    assert command.epilog.startswith(f"Example: clienthv {name}")
    assert all(p.help for p in command.params if isinstance(p, click.Option))


def test_plan_shows_one_line_for_each_device_with_strategy_backing_and_why(clienthv: Run) -> None:
    shown = clienthv("plan", "performance", "--host", str(PC))
    assert shown.returncode == 0
    assert shown.stderr == ""
    gpu = next(line for line in shown.stdout.splitlines() if line.startswith("  gpu "))
    assert "passthrough" in gpu
    assert "0000:2e:00.0" in gpu
    assert "with 0000:2e:00.1" in gpu
    assert "native speed" in gpu


def test_explain_names_the_reason_and_what_would_change_it_for_each_rejected_rung(clienthv: Run) -> None:
    shown = clienthv("plan", "performance", "--explain", "--host", str(APU_LAPTOP)).stdout
    assert "not passthrough 0000:c1:00.0: 0000:c1:00.0 drives the host's boot display" in shown
    assert "[boot-display]" in shown
    assert "to change that: if you mean it: select" in shown


def test_a_device_is_explained_as_a_story_and_as_a_document(clienthv: Run) -> None:
    told = clienthv("explain", "performance", "gpu", "--host", str(APU_LAPTOP))
    assert (told.returncode, told.stderr) == (0, "")
    assert "drives the host's boot display" in told.stdout
    assert "/sys/bus/pci/devices/0000:c1:00.0/boot_vga → unknown" in told.stdout
    assert "to lift it: if you mean it: select" in told.stdout
    document = clienthv("explain", "performance", "0000:c1:00.0", "--json", "--host", str(APU_LAPTOP)).stdout
    jsonschema.validate(json.loads(document), schemas.schema("explanation"))
    assert "gpu" in {ladder["device"] for ladder in json.loads(document)["ladders"]}


def test_the_same_input_gives_the_same_bytes(clienthv: Run) -> None:
    first, second = (clienthv("plan", "balanced", "--json", "--host", str(PC)).stdout for _ in range(2))
    assert first == second
    assert json.loads(first)["schema"] == 1


def test_without_a_profile_balanced_is_planned(clienthv: Run) -> None:
    assert json.loads(clienthv("plan", "--json", "--host", str(PC)).stdout)["profile"] == "balanced"


def test_a_plan_needs_no_libvirt_at_all(clienthv: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "libvirt.py").write_text("raise ImportError('there is no libvirt here')")
    shown = clienthv("plan", "balanced", "--host", str(PC), PYTHONPATH=str(broken))
    assert shown.returncode == 0
    live = clienthv("plan", "portable", PYTHONPATH=str(broken))
    assert live.returncode == 0
    assert "libvirt's Python binding is not installed" in live.stdout


def test_up_without_libvirt_says_what_to_install(clienthv: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "libvirt.py").write_text("raise ImportError('there is no libvirt here')")
    shown = clienthv("up", "demo", PYTHONPATH=str(broken))
    assert shown.returncode == 3
    assert "python3-libvirt" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_users_profile_goes_before_the_packaged_one(clienthv: Run, tmp_path: Path) -> None:
    mine = tmp_path / "config" / "clienthv" / "profiles"
    mine.mkdir(parents=True)
    (mine / "balanced.toml").write_text('schema = 1\nextends = "balanced"\ndescription = "mine"\n')
    listed = clienthv("profiles").stdout
    assert "mine" in listed
    assert str(mine / "balanced.toml") in listed
    assert listed.count("balanced ") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["plan", "nope"], 5, ["there is no profile 'nope'", "known:"]),
        (["plan", "blanced"], 5, ["did you mean 'balanced'"]),
        (["plan", "../../etc/passwd"], 5, ["../../etc/passwd"]),
        (["plan", "a\nb"], 5, ["cannot be a profile's name"]),
        (["plan", "<b>"], 5, ["cannot be a profile's name"]),
        (["plan", "--host", "/nonexistent.json"], 8, ["cannot read /nonexistent.json", "inspect --save"]),
        (["plan", "--host", "/etc"], 8, ["cannot read /etc"]),
        (["devices", "--host", "/nonexistent.json"], 8, ["cannot read /nonexistent.json", "inspect --save"]),
        (["devices", "0000:01:00.0"], 2, ["unexpected extra argument"]),
        (["explain", "nope", "gpu", "--host", str(PC)], 5, ["there is no profile 'nope'"]),
        (["explain", "balanced", "gp\x1bu", "--host", str(PC)], 2, ["is no kind of device", "give one of cpu"]),
        (["explain", "balanced", "usb-device", "--host", str(PC)], 2, ["names no USB device"]),
        (["inspect", "--host", str(PC), "--tree", "--json"], 2, ["either --tree or --json"]),
        (["devcies"], 2, ["Did you mean 'devices'?"]),
        (["plan", "--frobnicate"], 2, ["No such option"]),
        (["paln"], 2, ["Did you mean 'plan'?"]),
        (["render", "portable", "--name", "<evil>", "--host", str(PC)], 2, ["cannot be a VM's name"]),
        (["render", "portable", "--name", "a\nb", "--host", str(PC)], 2, ["cannot be a VM's name"]),
        (["render", "portable", "--name", "../up", "--host", str(PC)], 2, ["cannot be a VM's name"]),
        (["profiles", "show", "nope"], 5, ["there is no profile 'nope'"]),
        (["profiles", "check", "nothing.toml"], 5, ["cannot read nothing.toml"]),
        (["screenshot", "x"], 2, ["Missing option '-o'"]),
        (["up", "demo", "--timeout", "0"], 2, ["--timeout"]),
    ],
)
def test_wrong_use_gets_a_clear_word_and_its_exit_code(
    clienthv: Run, arguments: list[str], code: int, words: list[str]
) -> None:
    shown = clienthv(*arguments)
    assert shown.returncode == code, shown.stderr
    assert "Traceback" not in shown.stderr
    for word in words:
        assert word in shown.stderr


def test_devices_lists_every_function_but_bridges_with_its_verdict_and_what_would_change_it(
    clienthv: Run,
) -> None:
    shown = clienthv("devices", "--host", str(PC))
    assert shown.returncode == 0
    assert shown.stderr == ""
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line.startswith("  0000:")}
    functions = {f["address"]: f["class_code"] for f in json.loads(PC.read_text())["pci"]}
    assert set(rows) == {address for address, code in functions.items() if not code.startswith("06")}
    assert rows["0000:2e:00.0"].endswith("yes, with 0000:2e:00.1")
    assert "group  26" in rows["0000:2d:00.0"]
    assert rows["0000:2d:00.0"].endswith(" no")
    assert "drives the host's boot display" in shown.stdout
    assert "[boot-display]" in shown.stdout
    assert "to change that: if you mean it: select" in shown.stdout


def test_the_devices_document_is_the_same_each_time_and_names_itself(clienthv: Run) -> None:
    first, second = (clienthv("devices", "--json", "--host", str(PC)).stdout for _ in range(2))
    assert first == second
    document = json.loads(first)
    assert (document["schema"], document["kind"], document["host"]) == (1, "devices", PC.stem)
    assert {d["verdict"] for d in document["devices"]} == {"yes", "yes-with", "no"}


def test_the_devices_of_this_pc_are_judged_without_libvirt_too(clienthv: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "libvirt.py").write_text("raise ImportError('there is no libvirt here')")
    shown = clienthv("devices", PYTHONPATH=str(broken))
    assert shown.returncode == 0, shown.stderr
    assert "libvirt's Python binding is not installed" in shown.stdout


@pytest.mark.parametrize("command", ["plan", "devices"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither a host document nor a listing"),
        (PC.read_bytes()[:5000], "not a whole JSON document"),
        (b'{"name": "somebody else\'s"}', "not a clienthv host document"),
        (b"[1, 2]", "neither a host document nor a listing"),
        (b'{"schema": 99, "kind": "host"}', "has host schema 99; this clienthv reads up to 1"),
        (b'{"schema": 1, "kind": "plan"}', "is a 'plan' document"),
        (b'{"schema": 1, "kind": "host", "pci": [{"address": "nonsense"}]}', "$.pci[0].address"),
        (b"\xff\xfe\x00", "neither a host document nor a listing"),
        (b"[" * 100_000, "neither a host document nor a listing"),
        (b'{"a":' * 100_000, "not a"),
    ],
)
def test_a_damaged_or_foreign_host_document_is_refused_by_name(
    clienthv: Run, tmp_path: Path, command: str, content: bytes, words: str
) -> None:
    document = tmp_path / "host.json"
    document.write_bytes(content)
    shown = clienthv(command, "--host", str(document))
    assert shown.returncode == 8, shown.stderr
    assert words in shown.stderr
    assert "Hint:" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_no_rung_left_lists_every_objection(clienthv: Run, tmp_path: Path) -> None:
    profile = tmp_path / "picky.toml"
    profile.write_text('schema = 1\nextends = "performance"\n[devices.gpu]\nprefer = ["passthrough"]\n')
    shown = clienthv("plan", str(profile), "--host", str(APU_LAPTOP))
    assert shown.returncode == 4
    assert "nothing on the gpu ladder (passthrough) is possible" in shown.stderr
    assert "[boot-display]" in shown.stderr


def test_a_vm_too_big_for_the_pc_is_refused_with_both_sizes(clienthv: Run, tmp_path: Path) -> None:
    document = json.loads(APU_LAPTOP.read_text())
    document["memory"] = {"total_mib": 8192, "available_mib": 2048}
    small = tmp_path / "small.json"
    small.write_text(json.dumps(document))
    profile = tmp_path / "big.toml"
    profile.write_text('schema = 1\nextends = "portable"\n[size]\nmemory = "64 GiB"\nmemory_min = "32 GiB"\n')
    shown = clienthv("plan", str(profile), "--host", str(small))
    assert shown.returncode == 3
    assert "2 GiB" in shown.stderr
    assert "32 GiB" in shown.stderr


def test_the_python_api_does_what_its_documentation_shows() -> None:
    from clienthv import api

    host = api.load_host(PC)
    free = [d.address for d in api.devices(host).devices if d.verdict != "no"]
    assert "0000:2e:00.0" in free
    plan = api.plan(host, api.load_profile("performance"))
    xml = api.render(plan, host, name="desktop", disk="/srv/desktop.qcow2")
    assert "<name>desktop</name>" in xml
    assert "/srv/desktop.qcow2" in xml


def test_a_recorded_pc_is_shown_as_summary_as_tree_and_as_document(clienthv: Run, tmp_path: Path) -> None:
    summary = clienthv("inspect", "--host", str(PC))
    assert (summary.returncode, summary.stderr) == (0, "")
    assert "0000:2e:00.0" in summary.stdout
    tree = clienthv("inspect", "--host", str(PC), "--tree").stdout
    assert tree.startswith("PCI domain 0000, ")
    assert "─ 0000:2e:00.0" in tree
    document = clienthv("inspect", "--host", str(PC), "--json", "--keep-names").stdout
    assert document.encode() == PC.read_bytes()
    paste = tmp_path / "paste.txt"
    paste.write_text("IOMMU Group 1 01:00.0 VGA compatible controller [0300]: NVIDIA GP104 [10de:1b80]\n")
    pasted = clienthv("inspect", "--tree", "--host", str(paste))
    assert "the way to it is not known" in pasted.stdout
    assert "unknown: " in pasted.stderr


def test_saving_over_a_device_writes_to_it_and_does_not_replace_it(clienthv: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["/bin/cat", str(pipe)], stdout=subprocess.PIPE)
    saved = clienthv("--connect", "nonsense", "inspect", "--save", str(pipe))
    document, _ = reader.communicate(timeout=30)
    assert saved.returncode == 0, saved.stderr
    assert json.loads(document)["kind"] == "host"
    assert pipe.is_fifo()


@pytest.mark.parametrize("target", ["", "/", "/nonexistent/x.json"])
def test_a_file_that_cannot_be_written_is_refused_by_name(clienthv: Run, target: str) -> None:
    saved = clienthv("--connect", "nonsense", "inspect", "--save", target)
    assert saved.returncode == 3, saved.stderr
    assert "cannot write" in saved.stderr
    assert "Traceback" not in saved.stderr


def test_names_from_elsewhere_cannot_command_the_terminal(clienthv: Run, tmp_path: Path) -> None:
    document = json.loads(PC.read_text())
    document["name"] = "harmless\x1b[2J\nwarning: forged"
    hostile = tmp_path / "hostile.json"
    hostile.write_text(json.dumps(document))
    for command in ("plan", "devices"):
        shown = clienthv(command, "--host", str(hostile)).stdout
        assert "\x1b" not in shown
        assert "harmless\\x1b[2J\\nwarning: forged" in shown


def test_one_broken_profile_does_not_hide_the_others(clienthv: Run, tmp_path: Path) -> None:
    mine = tmp_path / "config" / "clienthv" / "profiles"
    mine.mkdir(parents=True)
    (mine / "broken.toml").write_text("= = =")
    listed = clienthv("profiles")
    assert listed.returncode == 0
    assert "cannot be used" in listed.stdout
    assert "performance" in listed.stdout


def test_options_before_the_command_are_named_when_they_stand_behind_it(clienthv: Run) -> None:
    shown = clienthv("list", "--connect", "qemu:///system")
    assert shown.returncode == 2
    assert "stands before the command" in shown.stderr


def sriov_pc(tmp_path: Path) -> Path:
    """A host document with a card that could have virtual functions, and its link down."""
    card = {
        "address": "0000:01:00.0", "class_code": "020000", "vendor_id": "8086", "device_id": "10c9", "driver": "igb",
        "iommu_group": 7, "interfaces": ["enp1s0"],
        "sriov": {
            "totalvfs": 7, "numvfs": 0, "virtfns": [], "offset": 384, "stride": 2, "vf_device_id": "10ca",
            "drivers_autoprobe": True, "link_up": False, "writable": True,
        },
    }  # fmt: skip
    document = {
        "schema": 1, "kind": "host", "pci": [card], "cpu": {"virtualization": "vmx"},
        "iommu": {"enabled": True, "interrupt_remapping": True, "groups": 8},
        "roles_read": ["default-route", "network"],
    }  # fmt: skip
    file = tmp_path / "pc.json"
    file.write_text(json.dumps(document))
    return file


def test_a_plan_tells_what_creating_virtual_functions_changes_on_the_host(clienthv: Run, tmp_path: Path) -> None:
    pc = str(sriov_pc(tmp_path))
    text = clienthv("plan", "performance", "--host", pc).stdout
    assert "virtual function 0 of 0000:01:00.0, made at start" in text
    for words in (
        "bring enp1s0 up",
        "write 0 to sriov_drivers_autoprobe",
        "create 7 virtual functions on 0000:01:00.0",
    ):
        assert words in text
    document = json.loads(clienthv("plan", "performance", "--host", pc, "--json").stdout)
    nic = next(d for d in document["decisions"] if d["kind"] == "nic")
    assert (nic["device"], nic["functions"]) == ("0000:02:10.0", ["0000:02:10.0"])
    assert nic["virtual_function"] == {"physfn": "0000:01:00.0", "index": 0, "created": True}
    assert [c["action"] for c in document["host_changes"]] == ["link-up", "vf-autoprobe", "create-vfs", "bind-vfio"]


def test_a_domain_with_a_virtual_function_that_is_not_there_yet_has_the_place_where_it_will_be(
    clienthv: Run, tmp_path: Path
) -> None:
    done = clienthv("render", "performance", "--host", str(sriov_pc(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert '<address type="pci" domain="0x0000" bus="0x02" slot="0x10" function="0x0"/>' in done.stdout


LAB = REPOSITORY / "tests/hosts/lab-full.json"


def test_several_vms_are_planned_together_and_told_who_has_what(clienthv: Run) -> None:
    shown = clienthv("plan", "performance", "performance", "--host", str(LAB))
    assert shown.returncode == 0, shown.stderr
    assert "VM performance-2" in shown.stdout
    assert "goes to VM performance: so the VMs together get the most [given-to-other-vm]" in shown.stdout
    assert "0000:00:11.0" in shown.stdout.partition("Of lab-full:")[2]
    document = json.loads(clienthv("plan", "performance", "performance", "--json", "--host", str(LAB)).stdout)
    jsonschema.validate(document, schemas.schema("plans"))
    assert [vm["name"] for vm in document["vms"]] == ["performance", "performance-2"]


def test_vms_that_do_not_fit_together_are_named_after_the_plans_of_the_others(clienthv: Run) -> None:
    shown = clienthv("plan", "balanced", "balanced", "balanced", "--host", str(LAB))
    assert shown.returncode == 4
    assert "not all of these VMs can run together: balanced-3" in shown.stderr
    assert "VM balanced-2\n" in shown.stdout


def test_profiles_and_a_set_are_not_mixed(clienthv: Run, tmp_path: Path) -> None:
    file = tmp_path / "set.toml"
    file.write_text('[[vm]]\nprofile = "balanced"\n')
    assert clienthv("plan", "--set", str(file), "--host", str(LAB)).returncode == 0
    shown = clienthv("plan", "balanced", "--set", str(file), "--host", str(LAB))
    assert shown.returncode == 2
    assert "not both" in shown.stderr


def test_a_pasted_listing_is_planned_for_and_what_it_does_not_say_is_told(clienthv: Run, tmp_path: Path) -> None:
    paste = tmp_path / "paste.txt"
    paste.write_text("Hello\nIOMMU Group 1 01:00.0 VGA compatible controller [0300]: NVIDIA GP104 [10de:1b80]\n")
    shown = clienthv("devices", "--host", str(paste))
    assert shown.returncode == 0, shown.stderr
    assert "0000:01:00.0" in shown.stdout
    assert "1 line not understood, first line 1: Hello" in shown.stderr
