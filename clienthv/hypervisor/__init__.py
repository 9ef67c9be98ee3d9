"""The only room that knows libvirt: connections, domains and capabilities. libvirt itself is loaded on first use."""

from clienthv.hypervisor.connection import Choice, Connection, choose
from clienthv.hypervisor.domain import SIGN_OF_LIFE, Domain, DomainState
from clienthv.hypervisor.node import TOLD_BY_LIBVIRT, Node, host_of, node_of
from clienthv.hypervisor.storage import TargetStorage

__all__ = [
    "SIGN_OF_LIFE",
    "TOLD_BY_LIBVIRT",
    "Choice",
    "Connection",
    "Domain",
    "DomainState",
    "Node",
    "TargetStorage",
    "choose",
    "host_of",
    "node_of",
]
