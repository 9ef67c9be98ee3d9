"""The only room that knows libvirt: connections, domains and capabilities. libvirt itself is loaded on first use."""

from clienthv.hypervisor.connection import Choice, Connection, choose
from clienthv.hypervisor.domain import Domain, DomainState

__all__ = ["Choice", "Connection", "Domain", "DomainState", "choose"]
