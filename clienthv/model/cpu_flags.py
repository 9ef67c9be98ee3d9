"""What /proc/cpuinfo tells of the features that KVM can give a guest, by libvirt's names.

A table, because kernel and libvirt spell some features in different ways, the kernel does not show all of them, and
KVM gives some whatever the processor has. Sources: kernel, arch/x86/include/asm/cpufeatures.h (names) and
arch/x86/kvm/cpuid.c, kvm_set_cpu_caps (what is given); libvirt, src/cpu_map/x86_features.xml.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_SAME: Final = """
    3dnow 3dnowext 3dnowprefetch abm adx aes apic avx avx2 avx512bw avx512cd avx512dq avx512er avx512f avx512ifma
    avx512pf avx512vbmi avx512vl bmi1 bmi2 cldemote clflush clflushopt clwb clzero cmov cmp_legacy cx16 cx8 de erms
    f16c fma fma4 fpu fsgsbase fsrm fxsr fxsr_opt gfni hle ibpb ibrs invpcid lahf_lm lm mca mce misalignsse mmx mmxext
    movbe movdir64b movdiri msr mtrr nx osvw pae pat pcid pdpe1gb perfctr_core pge pni popcnt pse pse36 rdpid rdrand
    rdseed rdtscp rtm sep serialize smap smep ss sse sse2 sse4a ssse3 stibp syscall tbm topoext tsc umip vaes vme
    vpclmulqdq wbnoinvd xgetbv1 xop xsave xsavec xsaveerptr xsaveopt xsaves la57
""".split()  # noqa: SIM905 - a hundred names

_SPELLED: Final[dict[str, tuple[str, ...]]] = {
    "amd-stibp": ("stibp",),
    "amx-bf16": ("amx_bf16",),
    "amx-int8": ("amx_int8",),
    "amx-tile": ("amx_tile",),
    "avx-vnni": ("avx_vnni",),
    "avx512-4fmaps": ("avx512_4fmaps",),
    "avx512-4vnniw": ("avx512_4vnniw",),
    "avx512-bf16": ("avx512_bf16",),
    "avx512-fp16": ("avx512_fp16",),
    "avx512-vp2intersect": ("avx512_vp2intersect",),
    "avx512-vpopcntdq": ("avx512_vpopcntdq",),
    "avx512bitalg": ("avx512_bitalg",),
    "avx512vbmi2": ("avx512_vbmi2",),
    "avx512vnni": ("avx512_vnni",),
    "bus-lock-detect": ("bus_lock_detect",),
    "cr8legacy": ("cr8_legacy",),
    "flush-l1d": ("flush_l1d",),
    "invtsc": ("constant_tsc", "nonstop_tsc"),
    "lbrv": ("lbrv",),
    "md-clear": ("md_clear",),
    "npt": ("npt",),
    "nrip-save": ("nrip_save",),
    "pause-filter": ("pausefilter",),
    "pclmuldq": ("pclmulqdq",),
    "perfmon-v2": ("perfmon_v2",),
    "pfthreshold": ("pfthreshold",),
    "pku": ("pku", "ospke"),
    "sha-ni": ("sha_ni",),
    "spec-ctrl": ("ibrs", "ibpb"),
    "ssbd": ("ssbd",),
    "sse4.1": ("sse4_1",),
    "sse4.2": ("sse4_2",),
    "svm": ("svm",),
    "tsc-scale": ("tsc_scale",),
    "tsx-ldtrk": ("tsxldtrk",),
    "v-vmsave-vmload": ("v_vmsave_vmload",),
    "vgif": ("vgif",),
    "vmcb-clean": ("vmcb_clean",),
    "vmx": ("vmx",),
    "vnmi": ("vnmi",),
}

SHOWN: Final[dict[str, tuple[str, ...]]] = {name: (name,) for name in _SAME} | _SPELLED
"""The features that flags of /proc/cpuinfo tell of, with the flags that must all be there."""

EMULATED: Final = frozenset({"arat", "arch-capabilities", "hypervisor", "tsc-deadline", "tsc_adjust", "x2apic"})
"""What KVM and QEMU give on any processor, or have the timer and the APIC for that they emulate."""

NESTED: Final = frozenset({"npt", "nrip-save", "svm", "vmx"})
"""What a guest has only where KVM lets guests have guests (kvm_amd and kvm_intel, parameter nested)."""

# KVM learned to give these after the kernel learned to show them, or gives them on some processors only: SSBD of
# AMD's first generations is not the one that the flag of libvirt's name means (arch/x86/kernel/cpu/amd.c).
_SHOWN_BUT_UNSURE: Final = frozenset(
    {
        "flush-l1d", "lbrv", "pause-filter", "perfmon-v2", "pfthreshold", "ssbd", "tsc-scale", "v-vmsave-vmload",
        "vgif", "vmcb-clean", "vnmi",
    }
)  # fmt: skip

_CUT_FROM: Final = 1000
_CUT_AT: Final = 1023


def are_cut(flags: tuple[str, ...]) -> bool:
    """Whether flags look as if somebody kept the first 1023 characters of their line: then one not there is unknown."""
    return _CUT_FROM <= sum(map(len, flags)) + len(flags) - 1 <= _CUT_AT


def gives(name: str, flags: frozenset[str], *, nested: bool | None, intel: bool) -> bool | None:
    """Whether KVM gives a guest this feature on a PC with these flags; None where they do not tell.

    ``nested`` is whether guests may have guests. Of flags that are cut only True means something.
    """
    if name in EMULATED:
        return True
    shown = SHOWN.get(name)
    if shown is None:
        return None
    if not flags.issuperset(shown):
        # KVM gives la57 by the processor alone, and makes umip itself on Intel's (arch/x86/kvm/vmx/vmx.c).
        return None if name == "la57" or (intel and name == "umip") else False
    if name in NESTED:
        return nested
    return None if name in _SHOWN_BUT_UNSURE and not (intel and name == "ssbd") else True


def given(flags: Iterable[str], *, nested: bool | None, intel: bool) -> frozenset[str]:
    """All features that KVM certainly gives on a PC with these flags."""
    have = frozenset(flags)
    return EMULATED | {name for name in SHOWN if gives(name, have, nested=nested, intel=intel)}
