"""What every plugin has to stand."""

from attendance_harness import Harness

from facesvc.delivery import kit
from facesvc.delivery.contract import PluginContract


class TestContract(PluginContract):
    def make_harness(self) -> kit.Harness:
        return Harness()
