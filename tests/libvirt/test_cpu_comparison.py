"""Our comparison of CPUs beside libvirt's own, on the same connection, for every model of libvirt's table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Machine

pytestmark = pytest.mark.libvirt

SCRIPT = """
import json, sys
from pathlib import Path
from clienthv.errors import ClienthvError
from clienthv.hypervisor import Choice, Connection, cpu_comparison, cpu_map
from clienthv.model.cpu import Feature, GuestCpu
from clienthv.model.host import Host
from clienthv.strategies.cpu_baseline import baseline
from clienthv.strategies.guest_cpu import compare

table = cpu_map.read()
assert table is not None
with Connection(Choice(sys.argv[1], "the test")) as connection:
    stack = connection.stack(kvm=False, privileged=False)
    host = Host(stack=stack)

    def both(cpu):
        told = cpu_comparison.compare(connection, cpu_comparison.as_xml(cpu), "qemu", "q35")
        ours = compare(cpu, host, table, domain_type="qemu")
        return {"libvirt": told.fits, "missing": told.missing, "said": told.said, "ours": not ours.missing
                and not ours.unwanted and not ours.unknown, "our_missing": ours.missing, "unwanted": told.unwanted,
                "our_unwanted": ours.unwanted}

    disabled = [f for f in stack.capabilities.host_model.disabled]
    changed = [Feature("avx512f", "require"), Feature("pcid", "disable"), Feature("rtm", "optional"),
               Feature("hle", "force")]
    eased = [Feature(f, "disable") for f in sorted({*stack.capabilities.blocking_features, *disabled})
             if f in table.features]
    models = sorted(table.models)
    common = baseline([host], table, domain_type="qemu").cpu
    xml = cpu_comparison.as_xml(GuestCpu(model="Haswell", check="partial", features=(Feature("rtm", "disable"),)))
    try:
        cpu_comparison.compare(connection, cpu_comparison.as_xml(GuestCpu(model="no <such>")), "qemu")
        refused = ""
    except ClienthvError as e:
        refused = e.message
    print(json.dumps({
        "plain": {m: both(GuestCpu(model=m)) for m in models},
        "changed": {m: both(GuestCpu(model=m, features=tuple(changed))) for m in models},
        "eased": {m: both(GuestCpu(model=m, features=tuple(eased))) for m in models},
        "forbidden": {m: both(GuestCpu(model=m, features=(Feature("sse2", "forbid"),))) for m in models},
        "own": both(GuestCpu(model=stack.capabilities.host_model.model, features=(
            *(Feature(f, "require") for f in stack.capabilities.host_model.required),
            *(Feature(f, "disable") for f in stack.capabilities.host_model.disabled)))),
        "baseline": both(common),
        "xml": xml,
        "refused": refused,
        "together": cpu_comparison.baseline(connection, [cpu_comparison.as_xml(GuestCpu(model=m))
                                            for m in ("Nehalem", "Westmere")], "qemu", "q35"),
        "by_host_model": [m for m in models if table.models[m].by_host_model],
    }))
"""


@pytest.fixture(scope="module", params=["embedded", "session"])
def answers(request: pytest.FixtureRequest) -> Any:
    machine: Machine = request.getfixturevalue(request.param)
    done = machine._start([*machine._command, "-c", SCRIPT, machine.uri], 120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["plain", "changed", "eased", "forbidden"])
def test_our_verdict_on_every_model_is_libvirts(answers: Any, kind: str) -> None:
    assert len(answers[kind]) > 40
    assert {m: a for m, a in answers[kind].items() if a["libvirt"] != a["ours"]} == {}


def test_some_models_fit_and_some_do_not(answers: Any) -> None:
    assert {a["libvirt"] for a in answers["plain"].values()} == {True, False}


@pytest.mark.parametrize("kind", ["plain", "changed", "eased", "forbidden"])
def test_what_is_missing_is_what_libvirt_says(answers: Any, kind: str) -> None:
    """Of versioned models QEMU may have features that libvirt's table does not say: then some are not named."""
    for model, answer in answers[kind].items():
        assert answer["our_unwanted"] == answer["unwanted"], model
        if answer["unwanted"]:
            continue  # libvirt says those first, and nothing of what is missing
        assert set(answer["our_missing"]) <= set(answer["missing"]), model
        if model in answers["by_host_model"]:
            assert answer["our_missing"] == answer["missing"], model


def test_the_host_has_its_own_host_model_and_the_baseline_of_itself(answers: Any) -> None:
    assert answers["own"]["libvirt"]
    assert answers["own"]["ours"]
    assert answers["baseline"]["libvirt"], answers["baseline"]
    assert answers["baseline"]["ours"]


def test_a_model_that_libvirt_does_not_know_is_an_error_with_its_words(answers: Any) -> None:
    assert "no <such>" in answers["refused"]


def test_libvirt_makes_a_baseline_of_two(answers: Any) -> None:
    assert "<model fallback=" in answers["together"]
    assert "Nehalem" in answers["together"]
