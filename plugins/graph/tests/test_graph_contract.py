"""The contract kit over the plugin."""

from graph_harness import Harness

from facesvc.delivery.contract import PluginContract


class TestContract(PluginContract):
    """With a scripted Graph on real sockets."""

    def make_harness(self) -> Harness:
        return Harness()
