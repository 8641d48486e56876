"""facesvc: on-premise face recognition. Camera frames in over gRPC, decisions about known people out.

Reading order is import order: ``errors``, ``config``, ``models`` (where weights come from), ``vision`` (pixels to
vectors), ``gallery`` (people and templates), ``stream`` (frames and decisions), ``events``, ``api`` (gRPC), ``app``
(puts it together), ``client`` (the SDK) and ``cli``.
"""

import os

# onnxruntime's Linux wheels send telemetry from 1.29 on; the switch is read when it is first imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Our products of matrices are small: a second thread costs more than it gives. Read when numpy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Up to TLS 1.2 gRPC is left with a cipher suite that nobody can use, so that only TLS 1.3 is spoken: see
# ``api.transport``. Read when grpc is first imported.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-PSK-AES128-CBC-SHA")

__version__ = "0.1.0"
