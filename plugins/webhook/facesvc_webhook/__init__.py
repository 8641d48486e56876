"""Posts every event to a web address, as a CloudEvent with a signature.

A request carries one event. What the receiver answers decides: 2xx is done; what may pass by itself (408, 425, 429,
5xx, a network that fails) is tried again by the server; everything else never worked and never will. A redirect is not
followed, because whoever may redirect a request may aim it at anything. For the same reason the address that is
connected to is the one that was checked: a name that leads into the office's own network is refused.

Reading order: ``settings``, ``signature`` (for receivers too), ``cloudevents``, ``addresses`` (which may be connected
to), ``network`` (connects to those only), ``answers``, ``sender``, ``plugin``, ``checks`` (``facesvc plugins test``).
"""

from facesvc.events.outside import KINDS
from facesvc.events.plugin import Manifest, Role
from facesvc_webhook.plugin import Webhook
from facesvc_webhook.settings import WebhookSettings

PLUGIN = Manifest(
    name="webhook",
    summary="posts what happens to a web address: CloudEvents, signed",
    role=Role.ACTS,
    settings=WebhookSettings,
    make=Webhook,
    kinds=frozenset(KINDS),
)
