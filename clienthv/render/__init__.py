"""A VM as a libvirt domain: a frozen view, logic-free templates, and a check against libvirt's own schema."""

from __future__ import annotations

from typing import Final

import msgspec

from clienthv.errors import DiskError
from clienthv.model import values
from clienthv.model.host import Host
from clienthv.model.vm import Vm
from clienthv.render.templates import check, environment, environment_text, schema_path
from clienthv.render.views import View, view

__all__ = ["NAMESPACE", "View", "check", "environment", "environment_text", "render", "schema_path", "view"]

NAMESPACE: Final = "urn:clienthv:vm:1"
"""The XML namespace of clienthv's part of a domain's metadata."""


def render(vm: Vm, host: Host) -> str:
    """The libvirt domain XML of a VM, checked against libvirt's schema.

    Raises TemplateError when a template is broken or what it gives is not a libvirt domain, DiskError for a path
    that XML would change.
    """
    for what, text in msgspec.to_builtins(vm.options).items():
        if text is not None and not values.is_plain_text(text):
            msg = f"{what} {text!r} has characters that a domain cannot carry"
            raise DiskError(msg, hint="rename the file: no control characters, UTF-8 alone")
    xml = environment_text("domain.xml.j2", {"vm": view(vm, host)})
    check(xml)
    return xml
