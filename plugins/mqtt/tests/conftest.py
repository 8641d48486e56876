"""What the tests of MQTT share: a broker, somebody who listens, and plugins that are stopped at the end."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from facesvc_mqtt.checking import CheckedMqtt
from mqtt_broker import Broker, Ear, brokers, listening
from mqtt_making import ANA, Make, settings

from facesvc.delivery.kit import MemoryBox, person


@pytest.fixture
def box() -> MemoryBox:
    """With Ana, who may be told of, and Ben, who may not."""
    people = [ANA, person("ben", display_name="Ben Roe")]
    return MemoryBox(name="mqtt", people={(one.collection_id, one.subject_id): one for one in people})


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with brokers() as one:
        yield one


@pytest.fixture
async def ear(broker: Broker) -> AsyncIterator[Ear]:
    async with listening(broker.port) as one:
        yield one


@pytest.fixture
async def make(broker: Broker, box: MemoryBox) -> AsyncIterator[Make]:
    """One that has started; its arguments are settings."""
    async with AsyncExitStack() as stack:

        async def started(**changes: Any) -> CheckedMqtt:
            one = CheckedMqtt(settings(**{"port": broker.port, **changes}), box)
            stack.push_async_callback(one.stop)
            await one.start()
            return one

        yield started
