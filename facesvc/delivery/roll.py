"""Which plugins are installed, and which of them the settings want at work, with what."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facesvc.delivery.calling import in_words
from facesvc.delivery.pace import Pace
from facesvc.delivery.wants import Wants
from facesvc.errors import ConfigError, FacesvcError
from facesvc.events.plugin import API_VERSION, GROUP, Manifest, Needs, PluginSettings

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# What the host itself reads of [plugins.NAME].
_ENABLED, _DELIVERY = "enabled", "delivery"


class DeliverySettings(BaseModel):
    """``[plugins.NAME.delivery]``: how the plugin is treated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    """One try may take so long."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    """So many people's events at a time."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 8
    """After so many errors that the plugin did not foresee, an event is given up."""
    give_up_hours: Annotated[float, Field(gt=0, le=720)] = 24.0
    """An event that could not be delivered for so long is given up."""

    @property
    def pace(self) -> Pace:
        """As a courier takes it."""
        return Pace(
            timeout_s=self.timeout_seconds,
            concurrency=self.concurrency,
            attempts=self.attempts,
            give_up_after=timedelta(hours=self.give_up_hours),
        )


@dataclass(frozen=True, slots=True)
class Enlisted:
    """A plugin that is wanted at work; ``version`` is that of its distribution."""

    manifest: Manifest[Any]
    settings: PluginSettings
    wants: Wants
    pace: Pace
    version: str = ""


@dataclass(frozen=True, slots=True)
class Installed:
    """A distribution that is there; ``problem`` says why its plugin cannot be used, if so."""

    name: str
    version: str
    manifest: Manifest[Any] | None
    problem: str = ""


def installed() -> list[Installed]:
    """All plugins whose distributions are installed, by name."""
    return sorted((_look_at(entry) for entry in entry_points(group=GROUP)), key=lambda one: one.name)


def _look_at(entry: EntryPoint) -> Installed:
    version = entry.dist.version if entry.dist else ""
    try:
        return Installed(entry.name, version, _manifest_of(entry))
    except ConfigError as error:
        return Installed(entry.name, version, None, error.message)


def _manifest_of(entry: EntryPoint) -> Manifest[Any]:
    try:
        manifest = entry.load()
    except (Exception, SystemExit) as error:  # whatever importing somebody's package raises
        raise ConfigError(f"plugin {entry.name} cannot be loaded: {in_words(error)}") from error
    if not isinstance(manifest, Manifest) or manifest.name != entry.name or not _NAME.fullmatch(manifest.name):
        raise ConfigError(
            f"plugin {entry.name} is no plugin: its entry point {entry.value} is no Manifest of that name"
        )
    if manifest.api_version != API_VERSION:
        raise ConfigError(
            f"plugin {entry.name} is made for version {manifest.api_version} of the plugin interface, this facesvc has"
            f" {API_VERSION}: install a fitting one"
        )
    return manifest


def enlist(
    tables: Mapping[str, Mapping[str, Any]], policies: Iterable[str], found: Iterable[Installed] | None = None
) -> list[Enlisted]:
    """The plugins that ``tables`` (``[plugins]``) want at work. Raises ``ConfigError`` naming what is wrong."""
    wanted = {name: table for name, table in tables.items() if _is_enabled(name, table)}
    there = {one.name: one for one in (installed() if found is None else found)} if wanted else {}
    return [_enlist(name, table, there.get(name), set(policies)) for name, table in sorted(wanted.items())]


def _is_enabled(name: str, table: Mapping[str, Any]) -> bool:
    enabled = table.get(_ENABLED, True)
    if str(enabled).lower() not in {"true", "false"}:
        raise ConfigError(f"plugins.{name}.enabled: {enabled!r} is neither true nor false")
    return str(enabled).lower() == "true"


def _enlist(name: str, table: Mapping[str, Any], there: Installed | None, policies: set[str]) -> Enlisted:
    if there is None:
        message = f"plugins.{name}: there is no such plugin: install facesvc-{name}, or take the table out"
        raise ConfigError(message)
    if there.manifest is None:
        raise ConfigError(there.problem)
    return enlist_one(there.manifest, table, policies, there.version)


def enlist_one(
    manifest: Manifest[Any], table: Mapping[str, Any], policies: Iterable[str] | None = None, version: str = ""
) -> Enlisted:
    """One plugin with the settings of its table. Raises ``ConfigError``; ``policies`` None: any policy will do."""
    own = {key: value for key, value in table.items() if key not in {_ENABLED, _DELIVERY}}
    settings: PluginSettings = _validated(manifest.settings, own, f"plugins.{manifest.name}")
    delivery = _validated(DeliverySettings, table.get(_DELIVERY, {}), f"plugins.{manifest.name}.delivery")
    needs = _needs_of(manifest, settings)
    if needs.policy and policies is not None and needs.policy not in policies:
        message = f"plugins.{manifest.name}: it needs the policy {needs.policy}, which the settings do not have"
        raise ConfigError(message)
    return Enlisted(manifest, settings, Wants(manifest, needs), delivery.pace, version)


def _needs_of(manifest: Manifest[Any], settings: PluginSettings) -> Needs:
    try:
        return manifest.needs(settings)
    except Exception as error:
        message = f"plugin {manifest.name} cannot say what it needs by its settings: {type(error).__name__}"
        raise ConfigError(message) from error


def _validated(model: type[Any], values: object, where: str) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # Without the values, also in what this error came from: one of them may be a secret in the wrong place.
        problems = "; ".join(
            f"{'.'.join([where, *(str(part) for part in item['loc'])])}: {item['msg']}" for item in error.errors()
        )
        raise ConfigError(f"settings cannot be used: {problems}") from None
    except FacesvcError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a plugin's own validators raise
        raise ConfigError(f"settings cannot be used: {where}: {type(error).__name__}") from None
