"""The contract kit over plugins that do as little as can be: what it asks for can be met."""

from delivery.recorder import RecorderHarness

from facesvc.delivery.contract import PluginContract
from facesvc.delivery.kit import Harness
from facesvc.events.plugin import Role


class TestAtLeastOnce(PluginContract):
    def make_harness(self) -> Harness:
        return RecorderHarness()


class TestAtMostOnce(PluginContract):
    def make_harness(self) -> Harness:
        return RecorderHarness(at_most_once=True, heeds_expiry=True)


class TestEnriching(PluginContract):
    def make_harness(self) -> Harness:
        return RecorderHarness(role=Role.ENRICHES)
