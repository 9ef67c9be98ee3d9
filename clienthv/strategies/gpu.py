"""How the guest gets its graphics."""

from __future__ import annotations

from clienthv.model.host import Host
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.model.tables import DRIVER_OF
from clienthv.strategies import graphics_cards, mdev, pci, screens, sriov
from clienthv.strategies.frame import Objections, Option, Options, Question, needs_virtio, omitted, reject


def options(strategy: Strategy, question: Question) -> Options:
    """Every GPU or virtual function that could serve, or a virtual graphics adapter."""
    host = question.host
    match strategy:
        case Strategy.PASSTHROUGH:
            gpus = [f for f in screens.gpus_of(host) if f.physfn is None]
            # A card of its own before graphics on the root bus, which is where Intel's processors have theirs.
            for gpu in sorted(gpus, key=lambda f: (f.place.bus == 0, f.place)):
                yield pci.whole(gpu, question, Kind.GPU, "native speed, tied to this PC")
        case Strategy.VF:
            yield from sriov.options(question, Kind.GPU)
        case Strategy.MDEV:
            yield from mdev.options(question)
        case Strategy.PARAVIRTUAL_3D:
            yield from _with_3d(host)
        case Strategy.PARAVIRTUAL:
            yield Option(
                strategy=strategy,
                model="virtio",
                backing="QEMU",
                why="any screen size, the same on every PC, 2D",
            )
        case Strategy.EMULATED:
            why = "works in every guest, 2D"
            yield Option(strategy=strategy, model=question.guest.emulated.gpu, backing="QEMU", why=why)
        case _:
            yield omitted("graphics")


def _with_3d(host: Host) -> Options:
    """One for each GPU of the host that draws for others; one without, to object to, where none does."""
    why = "3D by the host's GPU, which stays with the host"
    there = [f for f in screens.gpus_of(host) if f.render_node]
    for gpu in there:
        backing = f"{gpu.render_node} of {gpu.label}"
        yield Option(
            strategy=Strategy.PARAVIRTUAL_3D, model="virtio", backing=backing, why=why, render_node=gpu.render_node
        )
    if not there:
        yield Option(strategy=Strategy.PARAVIRTUAL_3D, model="virtio", backing="a render node", why=why)


def objections(option: Option, question: Question) -> Objections:
    """The host's own screen stays; a GPU needs a driver in the guest; 3D needs a render node and QEMU's GL."""
    match option.strategy:
        case Strategy.PASSTHROUGH:
            yield from pci.passthrough(option, question, Kind.GPU)
            yield from graphics_cards.objections(option, question)
            yield from _guest_driver(option, question)
        case Strategy.VF:
            yield from sriov.objections(option, question, Kind.GPU)
            yield from _guest_driver(option, question)
        case Strategy.MDEV:
            yield from mdev.objections(option, question)
            yield from _guest_driver(option, question)
        case Strategy.PARAVIRTUAL_3D:
            yield from needs_virtio(option, question, "gpu")
            yield from _against_3d(option, question)
        case Strategy.PARAVIRTUAL:
            yield from needs_virtio(option, question, "gpu")
            yield from _in_qemu(option, question)
        case Strategy.EMULATED:
            yield from _in_qemu(option, question)
        case _:
            return


def _guest_driver(option: Option, question: Question) -> Objections:
    of, known = option.virtual_function, question.host.by_address
    gpu = known.get(option.device or "") or (known.get(of.physfn) if of is not None else None)
    if gpu is None:
        return
    if gpu.vendor_id is None:
        yield reject(
            option,
            Reason.IDS_UNKNOWN,
            f"the host document has no vendor id for {gpu.address}, so the guest's driver cannot be named",
            "run clienthv inspect --save on that PC, or list the devices with lspci -nn",
        )
        return
    if question.guest.no_gpu:
        detail = f"no maker of graphics cards for PCI Express has drivers for {question.guest.id}"
        yield reject(option, Reason.NO_GUEST_DRIVER, detail)
        return
    driver = DRIVER_OF.get(gpu.vendor_id)
    if driver is None:
        yield reject(
            option, Reason.NO_GUEST_DRIVER, f"PCI vendor {gpu.vendor_id} makes no GPU that guests have drivers for"
        )
    elif not question.guest_has(driver):
        yield reject(
            option,
            Reason.NO_GUEST_DRIVER,
            f"the profile's guest ({question.profile.guest.os}) is not said to carry a driver for {driver} GPUs",
            f'add "{driver}" to guest.drivers in the profile once the guest has it',
        )


def _against_3d(option: Option, question: Question) -> Objections:
    capabilities = question.capabilities
    if not any(f.render_node for f in screens.gpus_of(question.host)):
        known = question.host.stack is not None
        yield reject(
            option,
            Reason.NO_RENDER_NODE if known else Reason.RENDER_NODE_UNKNOWN,
            "no GPU of the host has a render node (/dev/dri/renderD*)"
            if known
            else "the host document does not say whether a GPU has a render node",
            "a GPU with a kernel DRM driver gives one" if known else "run clienthv inspect --save on that PC",
        )
    if capabilities is not None and "egl-headless" not in capabilities.graphics:
        yield reject(
            option,
            Reason.NOT_IN_QEMU,
            "this QEMU has no OpenGL display (egl-headless is not among libvirt's graphics types)",
            "install qemu-system-modules-opengl",
        )
    yield from _in_qemu(option, question)


def _in_qemu(option: Option, question: Question) -> Objections:
    capabilities = question.capabilities
    if capabilities is not None and capabilities.video_models and option.model not in capabilities.video_models:
        yield reject(
            option,
            Reason.NOT_IN_QEMU,
            f"this QEMU offers the video models {', '.join(capabilities.video_models)}, not {option.model}",
            "install the full QEMU (qemu-system-x86)",
        )
