"""Screen and sound, against what the target's QEMU is built with."""

from __future__ import annotations

from typing import Final

from clienthv.model.domain import DomainFacts
from clienthv.model.plan import Kind
from clienthv.model.portability import Code
from clienthv.portability.subject import Findings, Subject, Target, changes, stops_live, warns
from clienthv.strategies import audio

_ANYWHERE: Final = ("0.0.0.0", "127.0.0.1", "::", "::1", "localhost")  # noqa: S104 - compared, not listened on
_PACKAGES: Final = {
    "spice": "install qemu-system-modules-spice",
    "egl-headless": "install qemu-system-modules-opengl",
    "qxl": "install qemu-system-modules-spice",
}


def findings(subject: Subject, target: Target) -> Findings:
    """What speaks against the screen and sound of a definition."""
    domain = subject.domain
    if domain is None:
        return
    yield from _video(domain, target)
    yield from _graphics(domain, target)
    yield from _acceleration(domain, target)
    yield from _reached(domain, target)
    yield from _sound_server(domain, target)
    if "virtio" in domain.sounds:
        yield from _virtio_sound(target)


def _video(domain: DomainFacts, target: Target) -> Findings:
    capabilities = target.capabilities
    for model in dict.fromkeys(video.model for video in domain.video if video.model):
        if capabilities is not None and capabilities.video_models and model not in capabilities.video_models:
            yield changes(
                Code.VIDEO,
                model,
                f"QEMU there offers the video models {', '.join(capabilities.video_models)}",
                _PACKAGES.get(model, "let the guest have one of those: virtio, or vga where it has no driver"),
                Kind.GPU,
            )


def _graphics(domain: DomainFacts, target: Target) -> Findings:
    capabilities = target.capabilities
    for kind in dict.fromkeys(graphics.type for graphics in domain.graphics if graphics.type):
        if kind in ("sdl", "dbus", "desktop"):
            yield changes(
                Code.GRAPHICS,
                kind,
                "it shows the screen in the desktop session of the PC below it, as the user who started it",
                "SPICE or VNC are shown on any PC",
                Kind.DISPLAY,
            )
        elif capabilities is not None and kind not in capabilities.graphics:
            yield changes(
                Code.GRAPHICS,
                kind,
                f"QEMU there offers the screens {', '.join(capabilities.graphics) or 'none'}",
                _PACKAGES.get(kind, "let it be shown by one of those"),
                Kind.DISPLAY,
            )


def _acceleration(domain: DomainFacts, target: Target) -> Findings:
    """Virgl's state cannot be sent (QEMU, hw/display/virtio-gpu-gl.c: "virgl is not yet migratable")."""
    if not any(video.accel3d for video in domain.video) and not any(graphics.gl for graphics in domain.graphics):
        return
    what = "3D by the host's GPU"
    yield stops_live(
        Code.NOT_MIGRATABLE,
        what,
        "QEMU cannot send what the GPU holds for a running guest",
        "virtio video without 3D can move while it runs",
    )
    capabilities = target.capabilities
    nodes = {f.render_node for f in target.host.pci if f.render_node}
    named = {g.render_node.rpartition("/")[2] for g in domain.graphics if g.render_node}
    if capabilities is not None and "egl-headless" not in capabilities.graphics:
        yield changes(Code.ACCELERATION, what, "QEMU there has no OpenGL display", _PACKAGES["egl-headless"], Kind.GPU)
    elif target.host.pci and not nodes:
        yield changes(
            Code.ACCELERATION,
            what,
            f"no GPU of {target.called} has a render node (/dev/dri/renderD*)",
            "a GPU with a kernel DRM driver gives one",
            Kind.GPU,
        )
    elif named - nodes and nodes:
        yield changes(
            Code.ACCELERATION,
            ", ".join(sorted(named - nodes)),
            f"the definition names a render node that {target.called} has not (it has {', '.join(sorted(nodes))})",
            "leave rendernode out",
            Kind.GPU,
        )


def _reached(domain: DomainFacts, target: Target) -> Findings:
    for graphics in domain.graphics:
        for address in graphics.listens:
            if address not in _ANYWHERE:
                yield warns(
                    Code.GRAPHICS,
                    f"{graphics.type} on {address}",
                    f"an address of the PC below it: a start fails unless {target.called} has it",
                    "listen on 127.0.0.1, or on 0.0.0.0 for all",
                    Kind.DISPLAY,
                )


def _sound_server(domain: DomainFacts, target: Target) -> Findings:
    """Backends that reach into a desktop session or hold a sound card (libvirt, formatdomain, "Audio backends")."""
    for kind in dict.fromkeys(domain.audio):
        if kind not in ("none", "spice", "dbus", "file"):
            yield warns(
                Code.SOUND,
                f"sound by {kind}",
                f"{target.called} must have it, and let the user whom QEMU runs as use it",
                "<audio type='spice'/> brings sound to whoever looks at the screen",
                Kind.AUDIO,
            )


def _virtio_sound(target: Target) -> Findings:
    what = "virtio sound"
    yield stops_live(
        Code.NOT_MIGRATABLE,
        what,
        "QEMU's virtio-sound cannot be sent to another PC while it runs",
        "sound model ich9 can",
    )
    for program, version, knows in audio.without_virtio_sound(target.host.stack):
        yield changes(
            Code.SOUND,
            what,
            f"{program} {version} there does not know it ({knows} does)",
            f"update {program} there",
            Kind.AUDIO,
        )
