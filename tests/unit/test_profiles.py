"""Profiles: what a person may write, how it is found, and what is said when it is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clienthv import datafiles, profiles
from clienthv.errors import ProfileError
from clienthv.model import profile as profile_model
from clienthv.model.host import RoleName
from clienthv.model.plan import STRATEGIES, Kind, Strategy
from clienthv.model.profile import Profile, ProfileText
from clienthv.model.usb import UsbName

SHIPPED = sorted(p.stem for p in datafiles.packaged("profiles").glob("*.toml"))


def parsed(text: str) -> Profile:
    return profile_model.parse((ProfileText("mine", "/home/me/mine.toml", text),))


def refusal(text: str) -> ProfileError:
    """The error that a text gives; it names the file and says what to do."""
    with pytest.raises(ProfileError) as caught:
        parsed(text)
    assert "/home/me/mine.toml" in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of profiles."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "clienthv" / "profiles"
    folder.mkdir(parents=True)
    return folder


# --- what is said of a wrong profile


@pytest.mark.parametrize(
    ("text", "path", "meant"),
    [
        ("[sizes]\nvcpus = 2", "sizes", "size"),
        ("[size]\nvcpu = 2", "size.vcpu", "vcpus"),
        ("[guest]\ndriver = []", "guest.driver", "drivers"),
        ("[boot]\nkernal = '/k'", "boot.kernal", "kernel"),
        ("[devices.gup]\nprefer = ['omit']", "devices.gup", "gpu"),
        ("[devices.gpu]\nprefre = ['omit']", "devices.gpu.prefre", "prefer"),
        ("extend = 'balanced'", "extend", "extends"),
        ("descripton = 'x'", "descripton", "description"),
    ],
)
def test_a_misspelt_key_is_refused_by_its_path_with_the_key_that_was_meant(text: str, path: str, meant: str) -> None:
    error = refusal(text)
    assert f": {path}: " in error.message
    assert error.hint == f"did you mean {meant!r}?"


def test_a_key_that_resembles_none_is_refused_with_the_keys_there_are() -> None:
    error = refusal("[size]\nweather = 'rain'")
    assert "size.weather" in error.message
    assert {"memory", "memory_min", "vcpus", "vcpus_min"} <= set((error.hint or "").replace(",", "").split())


@pytest.mark.parametrize(
    ("text", "path", "value", "meant"),
    [
        ("[devices.gpu]\nprefer = ['pasthrough']", "devices.gpu.prefer[0]", "pasthrough", "passthrough"),
        ("[devices.nic]\nprefer = ['omit', 'paravirtul']", "devices.nic.prefer[1]", "paravirtul", "paravirtual"),
        ("[devices.cpu]\nprefer = ['binary-translator']", "devices.cpu.prefer[0]", "binary-translator",
         "binary-translation"),
        ("[devices.cpu]\nmodel = 'host-pasthrough'", "devices.cpu.model", "host-pasthrough", "host-passthrough"),
        ("[guest]\ndrivers = ['virtoi']", "guest.drivers[0]", "virtoi", "virtio"),
        ("[guest]\ndrivers = ['virtio', 'nvida']", "guest.drivers[1]", "nvida", "nvidia"),
        ("[devices.nic]\nselect = ['0000:01:00.0']\nallow = ['netwrk']", "devices.nic.allow[0]", "netwrk", "network"),
    ],
)  # fmt: skip
def test_a_misspelt_value_is_refused_by_its_path_with_the_value_that_was_meant(
    text: str, path: str, value: str, meant: str
) -> None:
    error = refusal(text)
    assert f": {path}: {value!r}" in error.message
    assert error.hint == f"did you mean {meant!r}?"


def test_a_value_that_resembles_none_is_refused_with_the_values_there_are() -> None:
    assert "host-passthrough, host-model" in refusal("[devices.cpu]\nmodel = 'pentium'").message
    assert all(
        driver in refusal("[guest]\ndrivers = ['s3']").message for driver in ("virtio", "nvidia", "amd", "intel")
    )


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("size = 3", "size", "object"),
        ("[size]\nvcpus = '4'", "size.vcpus", "int"),
        ("[size]\nvcpus = 1.5", "size.vcpus", "int"),
        ("[size]\nvcpus = 0", "size.vcpus", ">= 1"),
        ("[size]\nvcpus = 2000", "size.vcpus", "1024"),
        ("[size]\nmemory = 4096", "size.memory", "str"),
        ("[guest]\npower_button = 'no'", "guest.power_button", "bool"),
        ("[devices]\ngpu = 'vf'", "devices.gpu", "object"),
        ("[devices.gpu]\nprefer = 'vf'", "devices.gpu.prefer", "array"),
        ("[devices.gpu]\nprefer = []", "devices.gpu.prefer", ">= 1"),
        ("[devices.gpu]\nprefer = [1]", "devices.gpu.prefer[0]", "str"),
        ("[devices.gpu]\nselect = ['01:00.0']", "devices.gpu.select[0]", "'01:00.0'"),
        ("description = 2026-01-01", "description", "str"),
        ("[boot]\nkernel = 'boot/vmlinuz'", "boot.kernel", "boot/vmlinuz"),
        ("[guest]\nos = 'Windows 11'", "guest.os", "Windows 11"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_path_with_what_was_expected(
    text: str, path: str, expected: str
) -> None:
    error = refusal(text)
    assert f": {path}: " in error.message
    assert expected in error.message


@pytest.mark.parametrize("size", ["4G", "4", "GiB", "4 GB", "-1 GiB", "1.5 GiB", "", "4 gib"])
@pytest.mark.parametrize("key", ["memory", "memory_min"])
def test_a_size_that_is_none_is_refused_by_its_key_and_value(key: str, size: str) -> None:
    error = refusal(f'[size]\n{key} = "{size}"')
    assert f"size.{key}" in error.message
    assert repr(size) in error.message


def test_a_bad_size_is_refused_with_an_example_of_a_good_one() -> None:
    error = refusal('[size]\nmemory = "4G"')
    assert "GiB" in f"{error.message} {error.hint}"
    assert "regex" not in error.message  # a person reads this


@pytest.mark.parametrize("size", ["0 GiB", "1 MiB", "63 MiB"])
def test_a_size_that_no_guest_fits_in_is_refused(size: str) -> None:
    assert "size.memory" in refusal(f'[size]\nmemory = "{size}"').message


def test_more_vcpus_at_least_than_wanted_are_refused_with_both_numbers() -> None:
    message = refusal("[size]\nvcpus = 2\nvcpus_min = 4").message
    assert "size.vcpus_min: 4" in message
    assert "size.vcpus (2)" in message


def test_more_memory_at_least_than_wanted_is_refused_with_both_sizes() -> None:
    message = refusal('[size]\nmemory = "1 GiB"\nmemory_min = "2 GiB"').message
    assert "size.memory_min: 2 GiB" in message
    assert "size.memory (1 GiB)" in message


@pytest.mark.parametrize("kind", STRATEGIES)
def test_a_strategy_of_another_kind_is_refused_with_those_of_this_kind(kind: Kind) -> None:
    foreign = next(s for s in Strategy if s not in STRATEGIES[kind])
    error = refusal(f"[devices.{kind}]\nprefer = ['{foreign}']")
    assert f"devices.{kind}.prefer" in error.message
    assert repr(foreign.value) in error.message
    assert ", ".join(STRATEGIES[kind]) in (error.hint or "")


def test_a_rung_that_is_on_a_ladder_twice_is_refused() -> None:
    error = refusal("[devices.gpu]\nprefer = ['emulated', 'omit', 'emulated']")
    assert "devices.gpu.prefer" in error.message
    assert "twice" in error.message


def test_a_processor_model_for_another_kind_is_refused() -> None:
    assert "devices.gpu.model" in refusal("[devices.gpu]\nmodel = 'host-model'").message


def test_only_a_network_card_has_a_virtual_function_to_trust() -> None:
    assert "devices.gpu.trust" in refusal("[devices.gpu]\ntrust = true").message
    assert "devices.nic.trust" in refusal("[devices.nic]\ntrust = 'yes'").message


def test_allowing_a_loss_without_naming_the_device_is_refused_with_how_to_name_it() -> None:
    error = refusal("[devices.gpu]\nallow = ['boot-display']")
    assert "devices.gpu.select" in error.message
    assert "select = [" in (error.hint or "")


def test_a_newer_schema_is_refused_with_the_advice_to_update() -> None:
    error = refusal("schema = 2")
    assert "schema" in error.message
    assert "update clienthv" in (error.hint or "")


def test_a_newer_schema_is_told_before_the_keys_that_it_brought() -> None:
    assert "unknown key" not in refusal("schema = 2\nhologram = true").message


def test_a_name_in_the_text_is_refused_for_a_profile_is_named_by_its_file() -> None:
    assert "name" in refusal("name = 'other'").message


@pytest.mark.parametrize(
    "text", ["[", "a = ", "schema = 1\nschema = 1", "[devices.gpu]\nprefer = [passthrough]", "\x00"]
)
def test_what_is_not_toml_is_refused_with_the_place(text: str) -> None:
    message = refusal(text).message
    assert "not valid TOML" in message
    assert "(at line" in message or "(at end" in message


@pytest.mark.parametrize("character", ["\x00", "\x01", "\x1b", "\x7f"])
def test_a_raw_control_character_is_refused(character: str) -> None:
    assert "not valid TOML" in refusal(f'description = "a{character}b"').message


@pytest.mark.parametrize("escape", [r"\u0000", r"\u0001", r"\u001b", r"\uffff"])
def test_a_kernel_command_line_that_no_domain_can_carry_is_refused_in_the_profile(escape: str) -> None:
    error = refusal(f'[boot]\nkernel = "/boot/vmlinuz"\ncmdline = "quiet{escape}"')
    assert "boot.cmdline" in error.message


def test_a_number_of_absurd_length_is_refused() -> None:
    refusal("[size]\nvcpus = " + "9" * 5000)


def test_deep_nesting_is_refused_instead_of_overflowing_the_stack() -> None:
    refusal("a = " + "[" * 100_000)


@given(st.text(max_size=60))
@example('"a` - at `$.x" = 1')
@example("[size]\nvcpus = 99999999999999999999999999")
@example("[devices.'']\nprefer = ['x']")
@example("schema = nan")
def test_any_text_at_all_is_a_profile_or_a_profile_error_that_names_the_file(text: str) -> None:
    try:
        profile = parsed(text)
    except ProfileError as e:
        assert "/home/me/mine.toml" in e.message  # noqa: PT017 - either outcome is right
    else:
        assert profile.name == "mine"


KEYS = st.sampled_from(
    ["schema", "size", "guest", "devices.gpu", "devices.gpu.prefer", "boot.kernel", "size.memory", "x"]
)
TOML_VALUES = st.sampled_from(
    [
        "1",
        "-1",
        "1.5",
        "inf",
        "true",
        "''",
        "'omit'",
        "[]",
        "[1]",
        "['omit']",
        "{}",
        "{a = 1}",
        "1979-05-27",
        "[[], {}]",
    ]
)


@given(st.dictionaries(KEYS, TOML_VALUES, max_size=3))
def test_any_toml_at_all_is_a_profile_or_a_profile_error_that_names_the_file(values: dict[str, str]) -> None:
    try:
        parsed("\n".join(f"{key} = {value}" for key, value in values.items()))
    except ProfileError as e:
        assert "/home/me/mine.toml" in e.message  # noqa: PT017 - either outcome is right


# --- single USB devices


@pytest.mark.parametrize(
    "name", ["046d:c52b", "0781:5567@1-2", "0781:5567@12-3.14.15.9.2.6", "ffff:0000@1-2", "0001:ffff"]
)
def test_a_usb_device_is_named_by_its_ids_and_where_needed_by_its_port(name: str) -> None:
    profile = parsed(f'[devices.usb]\ndevices = ["{name}"]')
    assert [str(UsbName.parse(text)) for text in profile.device(Kind.USB).devices] == [name]


@pytest.mark.parametrize(
    "name",
    ["046D:C52B", "46d:c52b", "0x046d:0xc52b", "046d-c52b", "046d:c52b@", "046d:c52b@1", "046d:c52b@1-",
     "046d:c52b@usb1", "046d:c52b@1-0", "046d:c52b@01-2", "046d:c52b@1-2:1.0", "046d:c52b@1-1.2.3.4.5.6.7",
     "046d:c52b @1-2", "1-2", "0000:c52b", "*:c52b", "", "046d:c52b\\n", "Logitech"],
)  # fmt: skip
def test_what_names_no_usb_device_is_refused_with_how_to_name_one(name: str) -> None:
    error = refusal(f'[devices.usb]\ndevices = ["0781:5567", "{name}"]')
    assert "devices.usb.devices[1]" in error.message
    assert "046d:c52b@1-2.3" in error.message
    assert "regex" not in error.message


@pytest.mark.parametrize("value", ['"046d:c52b"', "[1]", "[['046d:c52b']]", "{}"])
def test_usb_devices_of_the_wrong_type_are_refused_by_their_path(value: str) -> None:
    assert ": devices.usb.devices" in refusal(f"[devices.usb]\ndevices = {value}").message


@pytest.mark.parametrize("twice", ["046d:c52b", "046d:c52b@1-2"])
def test_a_usb_device_named_twice_is_refused(twice: str) -> None:
    error = refusal(f'[devices.usb]\ndevices = ["{twice}", "0781:5567", "{twice}"]')
    assert f"devices.usb.devices names {twice} twice" in error.message


def test_the_same_usb_ids_with_and_without_a_port_are_refused() -> None:
    error = refusal('[devices.usb]\ndevices = ["046d:c52b@1-2", "046d:c52b"]')
    assert "046d:c52b with a port and without" in error.message


def test_two_alike_usb_devices_are_named_by_their_ports() -> None:
    parsed('[devices.usb]\ndevices = ["046d:c52b@1-2", "046d:c52b@1-3"]')


def test_more_usb_devices_than_a_controller_has_ports_are_refused() -> None:
    def listing(count: int) -> str:
        return "[devices.usb]\ndevices = [" + ", ".join(f'"046d:{n:04x}"' for n in range(count)) + "]"

    assert len(parsed(listing(14)).device(Kind.USB).devices) == 14
    assert "<= 14" in refusal(listing(15)).message


@pytest.mark.parametrize("kind", [kind for kind in STRATEGIES if kind is not Kind.USB])
def test_usb_devices_in_another_table_are_refused_with_the_right_one(kind: Kind) -> None:
    error = refusal(f'[devices.{kind}]\ndevices = ["046d:c52b"]')
    assert f"devices.{kind}.devices" in error.message
    assert "[devices.usb]" in (error.hint or "")


def test_usb_devices_replace_those_that_are_extended() -> None:
    base = ProfileText("base", "base.toml", '[devices.usb]\nprefer = ["emulated"]\ndevices = ["046d:c52b"]')
    mine = ProfileText("mine", "mine.toml", 'extends = "base"\n[devices.usb]\ndevices = ["046d:c52b@1-2"]')
    usb = profile_model.parse((mine, base)).device(Kind.USB)
    assert (usb.devices, usb.prefer) == (("046d:c52b@1-2",), (Strategy.EMULATED,))


# --- a profile that extends another


def test_what_is_extended_is_merged_table_by_table() -> None:
    base = ProfileText("base", "base.toml", '[size]\nvcpus = 8\nmemory = "8 GiB"\n[devices.gpu]\nprefer = ["omit"]')
    mine = ProfileText("mine", "mine.toml", 'extends = "base"\n[size]\nvcpus = 2')
    profile = profile_model.parse((mine, base))
    assert (profile.size.vcpus, profile.size.memory) == (2, "8 GiB")
    assert profile.ladder(Kind.GPU) == (Strategy.OMIT,)


def test_an_array_replaces_the_one_it_extends() -> None:
    base = ProfileText("base", "base.toml", '[devices.gpu]\nprefer = ["paravirtual", "emulated"]')
    mine = ProfileText("mine", "mine.toml", 'extends = "base"\n[devices.gpu]\nprefer = ["omit"]')
    assert profile_model.parse((mine, base)).ladder(Kind.GPU) == (Strategy.OMIT,)


def test_a_profile_keeps_its_own_name_when_it_extends_another() -> None:
    base, mine = ProfileText("base", "base.toml", ""), ProfileText("mine", "mine.toml", 'extends = "base"')
    assert profile_model.parse((mine, base)).name == "mine"


@pytest.mark.parametrize("wrong", ["[size]\nvcpus = '2'", "[devices.tpm]\nprefer = ['vf']"])
def test_a_mistake_in_what_is_extended_is_told_of_the_file_it_is_in(wrong: str) -> None:
    base, mine = ProfileText("base", "base.toml", wrong), ProfileText("mine", "mine.toml", 'extends = "base"')
    with pytest.raises(ProfileError, match=r"^base\.toml"):
        profile_model.parse((mine, base))


def test_profiles_that_extend_each_other_in_a_circle_are_refused_with_the_way_round(own: Path) -> None:
    (own / "a.toml").write_text('extends = "b"')
    (own / "b.toml").write_text('extends = "a"')
    with pytest.raises(ProfileError, match="a → b → a") as caught:
        profiles.load("a")
    assert str(own / "a.toml") in caught.value.message


def test_a_profile_that_extends_itself_is_refused(own: Path) -> None:
    (own / "a.toml").write_text('extends = "a"')
    with pytest.raises(ProfileError, match="there is no profile 'a'"):
        profiles.load("a")


def test_a_profile_that_extends_its_own_name_means_the_one_it_hides(own: Path) -> None:
    (own / "balanced.toml").write_text('extends = "balanced"\ndescription = "mine"\n[size]\nvcpus = 2\n')
    profile, chain = profiles.load("balanced")
    assert (profile.description, profile.size.vcpus) == ("mine", 2)
    assert profile.size.memory_min is not None
    assert [link.name for link in chain] == ["balanced", "balanced"]


def test_a_folder_that_cannot_be_searched_hides_only_its_own_profiles(own: Path) -> None:
    own.rename(own.parent / "gone")
    own.symlink_to(own)
    assert profiles.load("balanced")[0].name == "balanced"
    assert "balanced" in {path.stem for _, path in profiles.listing()}


def test_a_chain_without_end_is_refused(own: Path) -> None:
    for n in range(30):
        (own / f"p{n}.toml").write_text(f'extends = "p{n + 1}"')
    with pytest.raises(ProfileError, match="too deep"):
        profiles.load("p0")


def test_a_profile_that_extends_an_unknown_one_is_refused_with_the_name_that_was_meant(own: Path) -> None:
    (own / "mine.toml").write_text('extends = "balancd"')
    with pytest.raises(ProfileError, match="'balancd'") as caught:
        profiles.load("mine")
    assert "did you mean 'balanced'?" in (caught.value.hint or "")


@pytest.mark.parametrize("parent", ['"../balanced"', '"/etc/passwd"', '"balanced\\n"', '""', "3", "['balanced']"])
def test_only_a_name_can_be_extended(own: Path, parent: str) -> None:
    (own / "mine.toml").write_text(f"extends = {parent}")
    with pytest.raises(ProfileError, match="extends") as caught:
        profiles.load("mine")
    assert str(own / "mine.toml") in caught.value.message


# --- where profiles are found


def test_the_users_folder_goes_before_etc_and_etc_before_what_came_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    labels, paths = zip(*datafiles.folders("profiles"), strict=True)
    assert labels == ("user", "system", "packaged")
    assert paths[:2] == (tmp_path / "clienthv" / "profiles", Path("/etc/clienthv/profiles"))
    assert (paths[2] / "balanced.toml").is_file()


@pytest.mark.parametrize("config", ["", "relative/config"])
def test_without_a_usable_xdg_config_home_the_users_folder_is_in_dot_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", config)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datafiles.folders("profiles")[0].path == tmp_path / ".config" / "clienthv" / "profiles"


def test_the_users_profile_hides_the_one_that_came_along(own: Path) -> None:
    (own / "balanced.toml").write_text("description = 'my own'")
    profile, _ = profiles.load("balanced")
    assert profile.description == "my own"


def test_a_hidden_profile_is_listed_once_as_the_users(own: Path) -> None:
    (own / "balanced.toml").write_text("")
    listed = [(folder.label, path.stem) for folder, path in profiles.listing()]
    assert ("user", "balanced") in listed
    assert ("packaged", "balanced") not in listed


def test_a_folder_that_is_called_like_a_profile_hides_nothing(own: Path) -> None:
    (own / "balanced.toml").mkdir()
    profiles.load("balanced")
    assert ("packaged", "balanced") in [(folder.label, path.stem) for folder, path in profiles.listing()]


def test_a_file_whose_name_cannot_name_a_profile_is_not_listed(own: Path) -> None:
    (own / "My Profile.toml").write_text("")
    assert "My Profile" not in {path.stem for _, path in profiles.listing()}


def test_an_unknown_profile_is_refused_with_the_name_that_was_meant_and_those_there_are(own: Path) -> None:
    (own / "mine.toml").write_text("")
    with pytest.raises(ProfileError, match="'performence'") as caught:
        profiles.load("performence")
    assert "did you mean 'performance'?" in (caught.value.hint or "")
    assert "mine" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "name",
    ["../balanced", "..", ".", "", "a/b", "/etc/passwd", "balanced\n", "\nbalanced", "Balanced", "a b", "x" * 65, "é"],
)
def test_a_name_that_could_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(ProfileError, match="cannot be a profile's name"):
        profiles.find(name)


def test_a_path_is_read_as_a_path_and_not_looked_up(tmp_path: Path) -> None:
    (tmp_path / "here.toml").write_text("description = 'by path'")
    profile, chain = profiles.load(str(tmp_path / "here.toml"))
    assert (profile.name, profile.description) == ("here", "by path")
    assert chain[0].origin == str(tmp_path / "here.toml")


def test_a_path_whose_file_name_cannot_name_a_profile_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "My Profile.toml").write_text("description = 'by path'")
    assert profiles.load(str(tmp_path / "My Profile.toml"))[0].description == "by path"


# --- files that cannot be read


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="No such file") as caught:
        profiles.load(str(tmp_path / "gone.toml"))
    assert str(tmp_path / "gone.toml") in caught.value.message


def test_a_folder_in_place_of_a_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="directory") as caught:
        profiles.load(f"{tmp_path}/")
    assert str(tmp_path) in caught.value.message


def test_a_file_that_is_not_utf_8_is_refused_with_the_byte(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'description = "caf\xe9"')
    with pytest.raises(ProfileError, match=r"not UTF-8 text \(byte 18\)") as caught:
        profiles.load(str(tmp_path / "latin.toml"))
    assert str(tmp_path / "latin.toml") in caught.value.message


def test_a_file_that_is_too_large_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    huge = tmp_path / "huge.toml"
    with huge.open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    with pytest.raises(ProfileError, match="larger than") as caught:
        profiles.load(str(huge))
    assert str(huge) in caught.value.message


# --- the profiles that come along


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_loads_and_says_what_it_is_for(name: str) -> None:
    profile, _ = profiles.load(name)
    assert profile.name == name
    assert profile.description


def test_the_default_profile_is_among_the_shipped_ones() -> None:
    assert profiles.DEFAULT in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_takes_nothing_from_the_host_by_name(name: str) -> None:
    profile, _ = profiles.load(name)
    assert all(not profile.device(kind).select and not profile.device(kind).allow for kind in STRATEGIES)
    assert not profile.device(Kind.USB).devices


def test_the_portable_profile_has_no_rung_that_uses_a_device_of_the_host() -> None:
    profile, _ = profiles.load("portable")
    tied = {Strategy.PASSTHROUGH, Strategy.VF, Strategy.MDEV, Strategy.PARAVIRTUAL_3D}
    assert {kind: tied & set(profile.ladder(kind)) for kind in STRATEGIES} == {kind: set() for kind in STRATEGIES}


def test_a_profile_that_says_nothing_is_tied_to_no_host_and_ends_where_every_host_can_follow() -> None:
    profile = parsed("")
    assert all({Strategy.PASSTHROUGH, Strategy.VF}.isdisjoint(profile.ladder(kind)) for kind in STRATEGIES)
    assert profile.ladder(Kind.CPU)[-1] is Strategy.BINARY_TRANSLATION


@pytest.mark.parametrize("role", RoleName)
def test_every_use_of_the_host_can_be_given_up_by_name(role: RoleName) -> None:
    profile = parsed(f"[devices.usb]\nselect = ['0000:00:14.0']\nallow = ['{role}']")
    assert profile.device(Kind.USB).allow == (role,)
