"""The check of the company's identity provider: whether it answers, is the one that is meant, and publishes keys."""

import asyncio

from facesvc.cli.findings import Finding, Level
from facesvc.config import Settings
from facesvc.errors import ConfigError, DependencyError
from facesvc.security import jwks


def identity_provider(settings: Settings) -> Finding:
    """Its discovery document and its keys, fetched now, as the server does."""
    chosen = settings.oidc
    if not chosen.issuer:
        return Finding(Level.OK, "none: people sign in with tokens of this server and certificates")
    source = jwks.Source(
        issuer=chosen.issuer,
        jwks_url=chosen.jwks_url,
        ca_file=chosen.ca_file,
        algorithms=frozenset(chosen.algorithms),
    )
    try:
        keys = asyncio.run(jwks.fetch(source, jwks.trust(source)))
    except ConfigError as error:
        return Finding(Level.ERROR, error.message, "name the file with the provider's authority (PEM) in oidc.ca_file")
    except DependencyError as error:
        advice = "compare oidc.issuer, oidc.jwks_url and oidc.ca_file with the provider's; is it reached from this box?"
        return Finding(Level.ERROR, error.message, advice)
    count = len({key_id for key_id, _ in keys})
    algorithms = sorted({algorithm for _, algorithm in keys})
    return Finding(Level.OK, f"{chosen.issuer} publishes {count} keys, for {', '.join(algorithms)}")
