"""Which addresses may be connected to: those of the Internet, and with ``allow_private`` those of the office.

Whoever may write a web address into the settings, or changes what its name resolves to, would otherwise reach what only
this box can reach: its own services, other machines, a cloud's metadata at 169.254.169.254. The table is that of
IANA's special-purpose registries (https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-); it stands
here because Python's own (``is_global``) changed from release to release. Of IPv6 only 2000::/3 is given out.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class _Range:
    network: IPv4Network | IPv6Network
    words: str
    inside: bool
    """Whether it is a network that somebody may have a receiver in."""


def _row(network: str, words: str, *, inside: bool = False) -> _Range:
    return _Range(ip_network(network), words, inside)


_RANGES = (
    _row("10.0.0.0/8", "private", inside=True),
    _row("172.16.0.0/12", "private", inside=True),
    _row("192.168.0.0/16", "private", inside=True),
    _row("100.64.0.0/10", "a provider's own", inside=True),
    _row("127.0.0.0/8", "this box itself", inside=True),
    _row("169.254.0.0/16", "link-local", inside=True),
    _row("0.0.0.0/8", "no host's"),
    _row("192.0.0.0/24", "for protocols"),
    _row("192.0.2.0/24", "for documentation"),
    _row("192.88.99.0/24", "for 6to4 relays"),
    _row("198.18.0.0/15", "for benchmarks"),
    _row("198.51.100.0/24", "for documentation"),
    _row("203.0.113.0/24", "for documentation"),
    _row("224.0.0.0/4", "multicast"),
    _row("240.0.0.0/4", "reserved"),
    _row("fc00::/7", "private", inside=True),
    _row("::1/128", "this box itself", inside=True),
    _row("fe80::/10", "link-local"),  # needs the name of an interface, which no web address can hold
    _row("ff00::/8", "multicast"),
    _row("2001::/23", "for protocols"),
    _row("2001:db8::/32", "for documentation"),
    _row("2002::/16", "6to4, which could lead anywhere"),
    _row("3fff::/20", "for documentation"),
)
_GIVEN_OUT = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address, as networks without IPv4 write it


def objection(address: Address, *, encrypted: bool, allow_private: bool) -> str:
    """Why this address is not connected to, in words; empty where it is."""
    found = _range_of(_meant(address))
    if found is None:
        # What is posted names people: in the clear it goes no further than the office.
        return "" if encrypted else f"{address} is on the Internet: http would show everybody what is posted, use https"
    if not found.inside:
        return f"{address} is {found.words}: no receiver can be there"
    return (
        "" if allow_private else f"{address} is {found.words}: set allow_private if the receiver is meant to be there"
    )


def _meant(address: Address) -> Address:
    """The IPv4 address inside of an IPv6 address, where that is what it means."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _range_of(address: Address) -> _Range | None:
    for one in _RANGES:
        if address in one.network:
            return one
    if isinstance(address, IPv6Address) and address not in _GIVEN_OUT:
        return _Range(_GIVEN_OUT, "not given out to anybody", inside=False)
    return None
