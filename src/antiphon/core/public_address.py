"""Which addresses a customer's URL may lead to: the public internet, and what the operator has opened.

`ipaddress.is_global` is not used: it calls addresses public that lead to loopback through NAT64, 6to4 or
IPv4-compatible notation, and multicast ones too. So the ranges are listed (IANA's special-purpose registries), and
an IPv4 address inside an IPv6 one is taken out and judged by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from yarl import URL

Network = IPv4Network | IPv6Network

_CLOSED_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local; clouds keep their metadata service here
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays, withdrawn
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_UNICAST_6 = IPv6Network("2000::/3")
# protocol assignments, Teredo among them (a tunnel to an address that anybody may choose); documentation
_CLOSED_6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
_COMPATIBLE = IPv6Network("::/96")
_TRANSLATED = IPv6Network("64:ff9b::/96")  # NAT64, RFC 6052
_ISATAP = {0x00005EFE, 0x02005EFE}  # third quarter of the address, RFC 5214

# WHATWG: a host whose last label is a number is an IPv4 address, in any base and with parts left out
_ENDS_IN_NUMBER = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)$", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)


def is_public_address(address: str, allowed: Collection[Network] = ()) -> bool:
    """Whether a connection to this IP address may leave for a customer's sake. `allowed` opens ranges on purpose."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if any(found in network for network in allowed):
        return True
    if isinstance(found, IPv4Address):
        return not any(found in network for network in _CLOSED_4)
    inner = _inside(found)
    if inner:
        return all(is_public_address(str(each), allowed) for each in inner)
    return (
        found.scope_id is None and found in _UNICAST_6 and not any(found in network for network in _CLOSED_6)
    )


def url_problem(url: URL, ports: Collection[int], is_allowed: Callable[[str], bool]) -> str | None:
    """What is wrong with a URL that a customer typed, or None. A name is judged again when it has been resolved."""
    host = url.raw_host or ""
    if url.scheme not in ("http", "https"):
        return "only http and https"
    if url.port not in ports:
        return f"port {url.port} is not open for this"
    if url.user is not None or url.password is not None:
        return "user names and passwords do not belong into it"
    if ":" in host:
        return None if is_allowed(host) else "the address is not public"
    if not _HOST.fullmatch(host):
        return "the host is not a plain name"
    if not _ENDS_IN_NUMBER.search(host):
        return None
    if not re.fullmatch(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})", host):
        return "an IPv4 address is written as four decimal numbers"
    return None if is_allowed(host) else "the address is not public"


def _inside(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that a packet to this one would end at."""
    number = int(address)
    last = IPv4Address(number & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address in _COMPATIBLE or address in _TRANSLATED or (number >> 32 & 0xFFFFFFFF) in _ISATAP:
        return (last,)
    return ()
