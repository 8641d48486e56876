"""Settings: one frozen value, read from a TOML file and the environment, validated once.

A setting ``a.b`` is ``b`` in the table ``[a]`` of the file, or ``FACESVC_A__B`` in the environment, which wins. Names
carry their unit. A bad value fails at the start, by name.
"""

import socket
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from facesvc.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
DEFAULT_CONFIG = Path(platformdirs.user_config_dir("facesvc")) / "facesvc.toml"
"""What the commands read where nothing else is named; ``facesvc init`` writes it."""
_MAX_PORT = 65535
Seconds = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if value.startswith("unix:") and len(value) > len("unix:"):
        return value
    if not (host and port.isascii() and port.isdigit() and int(port) <= _MAX_PORT):
        raise ValueError(f"{value!r} is no address: write HOST:PORT with a port up to {_MAX_PORT}, or unix:PATH")
    return value


def is_this_machine(address: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    host = address.rpartition(":")[0]
    if address.startswith("unix:") or host == "localhost":
        return True
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _web_address(value: str) -> str:
    address = urlsplit(value)
    if value and not (address.scheme in {"http", "https"} and address.hostname):
        raise ValueError(f"{value!r} is no address: write https://HOST/PATH or http://HOST/PATH")
    if address.query or address.fragment:
        raise ValueError(f"{value!r} has a query: names are added at the end of the address")
    return value.rstrip("/")


def _provider_address(value: str) -> str:
    address = urlsplit(value)
    is_here = address.hostname in {"localhost", "127.0.0.1", "::1"}
    if value and not (address.hostname and (address.scheme == "https" or (address.scheme == "http" and is_here))):
        raise ValueError(f"{value!r} is no address to trust: write https://HOST/PATH (http:// on this machine alone)")
    if "@" in address.netloc or address.query or address.fragment:
        raise ValueError(f"{value!r} has a user, a query or a fragment: leave it out")
    return value


class ServerSettings(_Section):
    """``[server]``: where it listens, and how it stops."""

    listen: Annotated[str, AfterValidator(_address)] = "127.0.0.1:50051"
    """``HOST:PORT``, port 0 for a free one, or ``unix:PATH``."""
    plaintext: bool = False
    """Without TLS, and whoever is on this machine is the administrator; only where nobody else can connect."""
    certificate_file: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = None
    """The server's certificate (PEM), an ECDSA one, with its chain; read again when it changes."""
    key_file: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = None
    """The key to it."""
    client_ca_file: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = None
    """The authority of client certificates, which name who calls and their role."""
    listen_mtls: Annotated[str, AfterValidator(lambda value: value and _address(value))] = ""
    """A second ``HOST:PORT``, for clients with certificates only; empty: none."""
    shutdown_grace_seconds: Seconds = 4.0
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Pictures worked on at the same time; 0 means as many as ``models.mode`` asks for."""


class ClientSettings(_Section):
    """``[client]``: how the commands on this machine reach the server; the SDK takes the same as arguments."""

    address: str = ""
    """Empty: where ``[server]`` listens."""
    token_file: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = None
    """A token of the server; ``FACESVC_TOKEN`` in the environment wins."""
    ca_file: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = None
    """The authority that the server's certificate has to be of; empty: plain text."""


def _on_this_machine(value: str) -> str:
    if value and (value.startswith("unix:") or not is_this_machine(_address(value))):
        raise ValueError(f"{value!r} is not this machine's alone: write 127.0.0.1:PORT or [::1]:PORT")
    return value


class MetricsSettings(_Section):
    """``[metrics]``: what a monitoring system reads, in the format of Prometheus."""

    listen: Annotated[str, AfterValidator(_on_this_machine)] = ""
    """``127.0.0.1:PORT``, for an agent on this machine, or one beyond a proxy that asks who it is; empty: none."""


class OidcSettings(_Section):
    """``[oidc]``: the company's identity provider, whose people sign in with a JWT; without an issuer nobody does."""

    issuer: Annotated[str, AfterValidator(_provider_address)] = ""
    """Exactly as it stands in its JWTs (``iss``) and in its discovery document."""
    audience: str = ""
    """What its JWTs for this server name (``aud``)."""
    jwks_url: Annotated[str, AfterValidator(_provider_address)] = ""
    """Where its keys are; empty: where ``issuer``/.well-known/openid-configuration says."""
    ca_file: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = None
    """The authority that the provider's certificate has to be of; empty: those of the system."""
    algorithms: Annotated[
        tuple[
            Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"],
            ...,
        ],
        Field(min_length=1),
    ] = ("RS256", "PS256", "ES256", "EdDSA")
    """Signatures that are taken; one by a shared secret never is."""
    roles_claim: Annotated[str, Field(min_length=1)] = "roles"
    """What says who somebody is; ``a.b`` is b within a, where there is no claim of that very name."""
    roles: dict[str, Literal["camera", "dashboard", "door", "enroller", "auditor", "admin"]] = Field(
        default_factory=dict
    )
    """A role by each value of the claim. Whoever has several values gets the role of the first line that fits; whoever
    has none is not let in."""
    name_claim: Annotated[str, Field(min_length=1)] = "sub"
    """What stands in the audit log, after ``oidc:``."""
    leeway_seconds: Annotated[float, Field(ge=0, le=60)] = 30.0
    """So far the provider's clock may be from this one's."""
    max_age_seconds: Annotated[float, Field(ge=60, le=604_800)] = 86_400.0
    """A JWT that holds for longer is refused: it cannot be revoked."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.issuer and not self.audience:
            raise ValueError("audience is missing: else a JWT for any other service of the company would do")
        if self.issuer and not self.roles:
            raise ValueError("roles is empty: say which value of the claim has which role, or nobody gets in")
        return self


class DetectionSettings(_Section):
    """``[detection]``: what is looked for where a request does not say."""

    minimum_face_pixels: Annotated[float, Field(ge=12, le=4096)] = 40.0
    minimum_face_fraction: Share = 0.0
    coarse_look: bool = True
    """With SCRFD and YuNet, look a second time, at a small size: else a face that fills the frame is overlooked."""


class LimitSettings(_Section):
    """``[limits]``: what is refused beyond."""

    max_image_bytes: Count = 16 << 20
    max_image_pixels: Count = 50_000_000
    max_faces: Annotated[int, Field(ge=1, le=1000)] = 32
    max_streams: Count = 64
    max_waiting_calls: Count = 16
    """Unary calls that may wait for a worker, each with its picture; the next one is told to come again."""
    max_enrollments: Count = 8
    """Open ``EnrollSamples`` calls."""
    max_watchers: Count = 64
    max_scanned_pixels: Annotated[int, Field(ge=100_000)] = 4_000_000
    """The detector scans no more, at the scale of the smallest face; in larger pictures only larger faces are found."""
    max_streams_per_caller: Count = 32
    max_calls_per_caller: Count = 8
    """Of one caller, that answer once and are not answered yet."""
    max_connections: Count = 4000
    """All together; each takes about 50 kB. A firewall can limit those of one address."""
    handshake_timeout_seconds: Seconds = 10.0
    """For TLS and the first words of HTTP/2, of whoever connects."""
    connection_idle_timeout_seconds: Seconds = 600.0
    """A connection without a call is closed after so long."""
    request_timeout_seconds: Seconds = 30.0
    """For the request of a call to arrive whole, once its caller is known."""
    stream_opening_timeout_seconds: Seconds = 10.0
    stream_idle_timeout_seconds: Seconds = 600.0
    """A stream on which nothing comes for so long is ended."""
    enrollment_idle_timeout_seconds: Seconds = 60.0

    calls_per_second: Annotated[float, Field(gt=0)] = 100.0
    """Of one caller, in the long run; a stream counts once."""
    probes_per_second: Annotated[float, Field(gt=0)] = 5.0
    """``Search``, ``Compare`` and ``Embed`` of one caller, likewise: who may ask without an end can draw a face."""
    messages_per_second: Annotated[float, Field(gt=0)] = 500.0
    """Of one caller in all its calls together: frames of its cameras, pictures."""
    bytes_per_second: Annotated[float, Field(ge=1e6)] = 100e6
    """Likewise."""
    probes_per_day: Annotated[float, Field(ge=1)] = 5000.0
    """Likewise, of all but administrators, who may read the templates anyway."""
    burst_seconds: Annotated[float, Field(ge=1)] = 20.0
    """So many seconds' worth of calls may come at once."""

    @property
    def max_message_bytes(self) -> int:
        """The largest message: two pictures (``Compare``) and a little around them."""
        return 2 * self.max_image_bytes + (1 << 20)


class ModelSettings(_Section):
    """``[models]``: which pack, and where packs are kept."""

    pack: str = ""
    """Empty: the one chosen by ``facesvc models use``, else ``default``."""
    cache_dir: Path = Path(platformdirs.user_cache_dir("facesvc"))
    providers: Literal["auto"] | Annotated[tuple[str, ...], Field(min_length=1)] = "auto"
    """The execution providers of onnxruntime to run on, best first; "auto": the best one that works here."""
    strict_providers: bool = False
    """Refuse to start where a provider is not in use; with "auto", where onnxruntime has accelerators and uses none."""
    mode: Literal["auto", "throughput", "latency"] = "auto"
    """A core for each of many pictures, or all cores for one; "auto": what ``facesvc bench --tune`` found to be better
    for the pack on this machine, else "throughput"."""
    mirror: Annotated[str, AfterValidator(_web_address)] = ""
    """Where ``facesvc models pull`` finds everything, such as ``https://mirror.office.example/facesvc``; empty: where
    it was published."""


class StoreSettings(_Section):
    """``[store]``: one gallery for several boxes."""

    url: str = ""
    """``postgresql://user:password@host/name``; empty: the file that ``[gallery]`` names, for this box alone."""
    box_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,127}$")] = socket.gethostname()
    """What this box is called among those that share the gallery; each needs another name."""
    poll_seconds: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    """So often a box asks for changes, where it was not told of them."""
    confirm_seconds: Seconds = 10.0
    """An erasure waits so long until every box that shares the gallery has said that it forgot the person."""


class GallerySettings(_Section):
    """``[gallery]``: where the enrolled people are kept."""

    path: Path = Path(platformdirs.user_data_dir("facesvc")) / "gallery.db"
    key_file: Path | None = None
    """The master key, which whoever steals the gallery must not have; none: ``gallery.key`` beside it. A new gallery
    makes it."""
    key: str = ""
    """Where the master key comes from instead: ``file:PATH``, ``credential:NAME`` (of systemd), ``env:NAME``, or
    ``command:/PATH ARGUMENTS``, which prints it; in base64 or hexadecimal digits. Empty: the file."""
    previous_key: str = ""
    """Where the master key before this one comes from, of the same forms, while it is exchanged; else empty."""

    @property
    def key_path(self) -> Path:
        """Where the key lies."""
        return self.key_file or self.path.with_name("gallery.key")

    @property
    def view_path(self) -> Path:
        """Where a large gallery is kept as searches see it, so that the next start is quick. It may be deleted."""
        return self.path.with_name(self.path.name + "-view")


class BackupSettings(_Section):
    """``[backup]``: where backups are kept."""

    folder: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = None
    """Best on another disk; empty: no backups are made."""
    keep: Annotated[int, Field(ge=1, le=1000)] = 14
    """So many; an older one is removed when a new one was made and read back."""


class EnrollmentSettings(_Section):
    """``[enrollment]``: what a picture must be to be enrolled."""

    minimum_face_pixels: Annotated[float, Field(ge=12)] = 48.0
    minimum_quality: Share = 0.3
    maximum_yaw_degrees: Annotated[float, Field(gt=0, le=90)] = 45.0
    maximum_pitch_degrees: Annotated[float, Field(gt=0, le=90)] = 40.0
    keep_crops: bool = False
    """Keep a sealed picture of each enrolled face, so that people need not come again when the models change."""
    conflict_false_match_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """A new face that is as like somebody else as strangers are at this rate is a conflict."""


class StreamSettings(_Section):
    """``[streams]``: how often cameras are looked at, and how long faces are followed."""

    looks_per_second: Annotated[float, Field(gt=0, le=120)] = 15.0
    """At most, of one camera, while faces are before it; between two looks they are followed by their motion."""
    idle_looks_per_second: Annotated[float, Field(gt=0, le=120)] = 3.0
    """While nobody is there: whoever comes is seen at the next look."""
    verify_seconds: Seconds = 3.0
    """A face is embedded again after so long, or earlier where its decision would expire."""
    lost_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    """A face that is hidden for so long is still the same when it comes back."""
    max_wait_seconds: Seconds = 1.0
    """A frame that has waited longer is dropped: it says nothing about now."""
    max_results_waiting: Annotated[int, Field(ge=1, le=1000)] = 16
    """For a reader that is slow; then it loses the oldest."""
    weights: dict[str, Annotated[float, Field(ge=0.1, le=10)]] = Field(default_factory=dict)
    """By camera id, 1 where it is not named: a camera of weight 2 gets twice the time of one of weight 1."""
    hottest_celsius: Annotated[float, Field(ge=40, le=120)] = 85.0
    """Of the box's own sensors; above it less is done until it is 5 degrees cooler."""


class PresenceSettings(_Section):
    """``[presence]``: when somebody counts as there."""

    arrive_seconds: Annotated[float, Field(ge=0, le=60)] = 0.5
    """Seen for so long, somebody has arrived."""
    leave_seconds: Annotated[float, Field(gt=0, le=86400)] = 30.0
    """Out of view of all cameras inside a zone for so long, somebody has left it."""
    absent_hours: Annotated[float, Field(gt=0, le=72)] = 14.0
    """Who came in by an entry and was never seen to leave is taken to have left so long after they were last seen."""


class EventSettings(_Section):
    """``[events]``: what happened, and for how long it is kept."""

    retention_days: Annotated[float, Field(gt=0, le=3660)] = 30.0
    """What is older is forgotten; attendance reaches no further back either."""
    repeat_after_seconds: Seconds = 10.0
    """Somebody who was out of a camera's view for so long is seen anew."""


class AuditSettings(_Section):
    """``[audit]``: the log of who did what with people's data."""

    retention_days: Annotated[float, Field(gt=0, le=36600)] = 1095.0
    """Entries that are older are dropped; the rest of the log can still be verified."""


class ConsentSettings(_Section):
    """``[consent]``: what becomes of people whose consent has run out; from that moment on they are not matched."""

    grace_days: Annotated[float, Field(ge=0, le=3660)] = 30.0
    """So long afterwards they are erased, unless the consent was renewed."""


class LivenessSettings(_Section):
    """``[liveness]``: whether a face is a living one, or a picture held up."""

    pack: str = ""
    """A pack of kind liveness; empty: none, and policies that require liveness are refused."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Mean score of a track from which on a face passes. With MiniFASNet tracks of photos and screens whose edge is in
    view, made of sharp pictures, reach at most 0.31, stills of genuine faces filmed alike at least 0.52; of 546 small
    crops of LFW 7 % stay below (see ``facesvc evaluate --liveness``)."""


class PolicySettings(_Section):
    """``[policies.NAME]``: how faces are decided, at a stated error rate."""

    false_match_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    margin: Annotated[float, Field(ge=0, le=1)] = 0.005
    """Two people closer than this in similarity are AMBIGUOUS."""
    matches: Annotated[int, Field(ge=1, le=20)] = 1
    frames: Annotated[int, Field(ge=1, le=20)] = 5
    """A person is named once ``matches`` of the last ``frames`` views of a track agree; a picture is one view."""
    minimum_quality: Share = 0.2
    minimum_true_match_rate: Share = 0.8
    """A pack that recognises fewer of the genuine at this error rate is refused."""
    extrapolate: bool = False
    """Accept a rate below what was measured for the pack, at a threshold that is a guess, drawn out from the table."""
    liveness_required: bool = False
    decision_lifetime_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.matches > self.frames:
            message = f"matches may not exceed frames: of {self.frames} views {self.matches} can never agree"
            raise ValueError(message)
        return self


_BUILT_IN_POLICIES: dict[str, dict[str, Any]] = {
    "presence": {},
    "access": {
        "false_match_rate": 1e-5,
        "matches": 3,
        "frames": 5,
        "minimum_quality": 0.3,
        "liveness_required": True,
        "decision_lifetime_seconds": 2.0,
    },
}


class Settings(BaseSettings):
    """All settings. Build it with ``load``."""

    model_config = SettingsConfigDict(
        env_prefix="FACESVC_", env_nested_delimiter="__", frozen=True, extra="forbid", validate_default=True
    )

    server: ServerSettings = ServerSettings()
    client: ClientSettings = ClientSettings()
    oidc: OidcSettings = OidcSettings()
    metrics: MetricsSettings = MetricsSettings()
    detection: DetectionSettings = DetectionSettings()
    limits: LimitSettings = LimitSettings()
    models: ModelSettings = ModelSettings()
    store: StoreSettings = StoreSettings()
    gallery: GallerySettings = GallerySettings()
    backup: BackupSettings = BackupSettings()
    enrollment: EnrollmentSettings = EnrollmentSettings()
    streams: StreamSettings = StreamSettings()
    presence: PresenceSettings = PresenceSettings()
    events: EventSettings = EventSettings()
    audit: AuditSettings = AuditSettings()
    consent: ConsentSettings = ConsentSettings()
    liveness: LivenessSettings = LivenessSettings()
    policies: dict[str, PolicySettings] = Field(default_factory=dict)
    plugins: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """``[plugins.NAME]``: the plugins at work, each with its own settings, which are checked when the server starts;
    ``enabled = false`` keeps one from it, ``[plugins.NAME.delivery]`` says how events are delivered to it."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, which arrives as keyword arguments."""
        return env_settings, init_settings


def load(path: Path | None = None) -> Settings:
    """Settings from the TOML file at ``path`` (none: defaults) and the environment. Raises ``ConfigError``."""
    values = _read(path) if path else {}
    if inner := [name for name in values if name.startswith("_")]:
        # To pydantic-settings these say how it is to read, such as the arguments of the command.
        raise ConfigError(f"settings cannot be used: there is no {', '.join(inner)}")
    policies = values.get("policies", {})
    if isinstance(policies, dict):
        named = {**_BUILT_IN_POLICIES, **policies}
        values["policies"] = {
            name: {**_BUILT_IN_POLICIES.get(name, {}), **own} if isinstance(own, dict) else own
            for name, own in named.items()
        }
    try:
        return Settings(**values)
    except ValidationError as error:
        problems = "; ".join(f"{_dotted(item['loc'])}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"settings cannot be used: {problems}") from error
    except SettingsError as error:  # of a variable of the environment that is no JSON
        raise ConfigError(f"settings cannot be used: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # what is no TOML or UTF-8, a number of 5,000 digits, a deep nest
        raise ConfigError(f"the settings file {path} is not TOML: {error}") from error


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)
