"""Which addresses and URLs a customer may name: the special ranges, and every way to write or wrap them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from yarl import URL

from antiphon.core.public_address import is_public_address, url_problem

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "::ffff:808:808",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2001:200::1",
]

CLOSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::a9fe:a9fe",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.1.2.3",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "64:ff9b:1:7f00:0:1::",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:0:808:808:8000:63bf:f7f7:f7f7",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2002:a9fe:a9fe::1",
    "2606:4700::5efe:127.0.0.1",
    "2606:4700::200:5efe:10.0.0.1",
    "3fff::1",
    "3fff:fff:ffff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff:ffff::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "febf::1",
    "fec0::1",
    "ff00::1",
    "ff02::1",
    "",
    "localhost",
    "127.1",
    "0177.0.0.1",
    "127.0.0.1 ",
    "1.1.1.1/32",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_public(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize("address", CLOSED)
def test_every_other_address_is_closed(address: str) -> None:
    assert not is_public_address(address)


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("64:ff9b::10.1.2.3", True),
        ("10.2.0.0", False),
        ("fd00::7", True),
        ("fd01::7", False),
        ("1.1.1.1", True),
    ],
)
def test_the_operator_opens_ranges_on_purpose_and_nothing_beside_them(address: str, is_open: bool) -> None:
    allowed = (ip_network("10.1.0.0/16"), ip_network("fd00::/16"))
    assert is_public_address(address, allowed) is is_open


URLS: dict[str, bool] = {
    "https://example.com/hook": True,
    "http://example.com:80/": True,
    "https://sub.domain.example.com/a?b=c": True,
    "https://1.1.1.1/": True,
    "https://[2606:4700:4700::1111]/": True,
    "https://münchen.example/": True,
    "https://a-b_c.example/": True,
    "https://example.com:8443/": False,
    "http://example.com:22/": False,
    "ftp://example.com/": False,
    "https://user:word@example.com/": False,
    "https://user@example.com/": False,
    "https://:word@example.com/": False,
    "https://example.com./": False,
    "https://127.0.0.1/": False,
    "https://127.1/": False,
    "https://0x7f.1/": False,
    "https://0177.0.0.1/": False,
    "https://2130706433/": False,
    "https://0x7f000001/": False,
    "https://1.1.1.0x1/": False,
    "https://1.1.1.01/": False,
    "https://256.1.1.1/": False,
    "https://foo.0x/": False,
    "https://example.123/": False,
    "https://[::1]/": False,
    "https://[::ffff:10.0.0.1]/": False,
    "https://[fe80::1%25eth0]/": False,
    "https:///nothing": False,
}


@pytest.mark.parametrize("url", URLS)
def test_a_typed_url_is_judged_before_it_is_resolved(url: str) -> None:
    assert (url_problem(URL(url), {80, 443}, is_public_address) is None) is URLS[url]
