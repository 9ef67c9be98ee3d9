"""Errors a person can act on: what went wrong, why, and the next step.

Each family has an exit code of its own and each error a stable kebab-case ``ref``; both are listed in
docs/reference/errors.md. Exit code 2 belongs to click (wrong usage), 130 to an interrupt, 1 to our own bugs.
"""

from __future__ import annotations


class ClienthvError(Exception):
    """Something a user can understand and act on.

    ``message`` names the thing and the cause, ``hint`` the next step, ``detail`` keeps another program's own words.
    ``fault`` is which part of a VM a failed start was about, where that is known (``model/faults.py``).
    """

    code = 1
    ref = "error"

    def __init__(
        self, message: str, *, hint: str | None = None, detail: str | None = None, fault: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail
        self.fault = fault


class UsageError(ClienthvError):
    """An argument or option that cannot be used; shares click's exit code."""

    code = 2
    ref = "usage"


class HostError(ClienthvError):
    """The PC lacks something clienthv needs: libvirt, QEMU, memory, a permission."""

    code = 3
    ref = "host-unfit"


class PlanError(ClienthvError):
    """No plan satisfies the profile on this host."""

    code = 4
    ref = "no-plan"


class ProfileError(ClienthvError):
    """A profile cannot be found, read or understood."""

    code = 5
    ref = "bad-profile"


class HypervisorError(ClienthvError):
    """libvirt or QEMU refused something."""

    code = 6
    ref = "libvirt-refused"


class TemplateError(ClienthvError):
    """A template is broken, or what it gives is not a libvirt domain."""

    code = 7
    ref = "bad-template"


class DocumentError(ClienthvError):
    """A host document is damaged, foreign or newer than this clienthv."""

    code = 8
    ref = "bad-host-document"


class DiskError(ClienthvError):
    """A disk image or boot file is missing, of the wrong kind, or in use."""

    code = 9
    ref = "bad-disk"


class GuestError(ClienthvError):
    """A VM is not there, or did not do what was asked of it in time."""

    code = 10
    ref = "guest-failed"


class RefusedError(ClienthvError):
    """An image or a bundle that nobody should trust; ``refusal`` says which of docs/reference/refusals.md it is."""

    code = 11
    ref = "refused"

    def __init__(self, message: str, *, refusal: str, hint: str | None = None, detail: str | None = None) -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.refusal = refusal
        self.ref = f"refused-{refusal}"


class NotPortableError(ClienthvError):
    """A VM or an image that does not run on the PC it was to be moved to."""

    code = 12
    ref = "not-portable"


FAMILIES: tuple[type[ClienthvError], ...] = (
    UsageError, HostError, PlanError, ProfileError, HypervisorError,
    TemplateError, DocumentError, DiskError, GuestError, RefusedError, NotPortableError,
)  # fmt: skip
