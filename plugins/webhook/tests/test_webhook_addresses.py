"""Which addresses may be connected to."""

from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from facesvc_webhook.addresses import objection
from facesvc_webhook.network import MAX_ADDRESSES, Gate, UnreachableError
from webhook_making import HOST, resolving, settings

INTERNET = [
    "93.184.216.34",
    "172.15.255.255",
    "172.32.0.0",
    "100.63.0.1",
    "100.128.0.1",
    "2600:1901::1",
    "64:ff9b::808:808",
]
OFFICE = [
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.0.1",
    "169.254.169.254",
    "::1",
    "fd00::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a01:203",
]
NOBODY = [
    "0.0.0.0",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::",
    "::7f00:1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "4000::1",
    "::ffff:0.0.0.0",
    "64:ff9b:1::1",
]


def problem(address: str, *, encrypted: bool = True, allow_private: bool = False) -> str:
    return objection(ip_address(address), encrypted=encrypted, allow_private=allow_private)


@pytest.mark.parametrize("address", INTERNET)
def test_the_internet_is_connected_to_with_tls_only(address: str) -> None:
    assert problem(address) == ""
    assert problem(address, allow_private=True) == ""
    assert "use https" in problem(address, encrypted=False, allow_private=True)


@pytest.mark.parametrize("address", OFFICE)
def test_the_office_is_only_where_somebody_said_so(address: str) -> None:
    assert "allow_private" in problem(address)
    assert problem(address, allow_private=True) == ""
    assert problem(address, encrypted=False, allow_private=True) == ""


@pytest.mark.parametrize("address", NOBODY)
def test_no_receiver_can_be_where_nobody_is(address: str) -> None:
    assert "no receiver" in problem(address)
    assert "no receiver" in problem(address, allow_private=True)


async def gated(*addresses: str, allow_private: bool = False) -> list[str]:
    given = settings(443, scheme="https", allow_private=allow_private)
    return [str(one) for one in await Gate(given, resolving(addresses)).addresses()]


async def test_every_address_of_a_name_is_checked() -> None:
    assert await gated("10.0.0.1", "93.184.216.34", "::1", "2600:1901::1") == ["93.184.216.34", "2600:1901::1"]


async def test_a_name_that_leads_only_inside_is_refused_with_the_reason() -> None:
    with pytest.raises(
        UnreachableError, match=rf"{HOST} is not connected to: 10\.0\.0\.1 is private: set allow_private"
    ):
        await gated("10.0.0.1", "169.254.169.254")


async def test_a_name_without_an_address_is_refused() -> None:
    with pytest.raises(UnreachableError, match="no address"):
        await gated()


async def test_of_many_addresses_a_few_are_tried() -> None:
    assert len(await gated(*(f"10.0.0.{last}" for last in range(100)), allow_private=True)) == MAX_ADDRESSES


async def test_a_name_that_is_not_resolved_says_so() -> None:
    async def fails(_host: str, _port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(UnreachableError, match=f"{HOST} cannot be resolved: Name or service not known"):
        await Gate(settings(443), fails).addresses()
