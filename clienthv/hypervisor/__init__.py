"""The only room that knows libvirt: connections, domains and capabilities. libvirt itself is loaded on first use."""

from clienthv.hypervisor.connection import Choice, Connection, choose
from clienthv.hypervisor.domain import SIGN_OF_LIFE, Domain, DomainState

__all__ = ["SIGN_OF_LIFE", "Choice", "Connection", "Domain", "DomainState", "choose"]
