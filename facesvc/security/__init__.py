"""Who may call, and what: certificates, tokens, roles.

Reading order, which is the import order: ``roles`` (the table: which role may call what), ``principals`` (whoever
calls), ``tokens`` (their secrets, as hashes in the database), ``throttle`` (so much a second, and no guessing),
``authority`` (the box's own certificates), ``jwks`` (the keys that the company's identity provider publishes), ``oidc``
(those for whom it vouches). Beside them ``swap`` and ``process``: what the server's process gives up.
"""
