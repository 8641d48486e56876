"""The table: which role may call what. Each call of each service has exactly one row; one without is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Role(Enum):
    """What a principal is for."""

    CAMERA = "camera"
    """Streams frames of its own cameras; is told who somebody is only where its token has names."""
    DASHBOARD = "dashboard"
    """Reads presence and events."""
    DOOR = "door"
    """Reads the decisions of its own cameras, by ids, and says what it did upon them."""
    ENROLLER = "enroller"
    """Looks after people and their pictures."""
    AUDITOR = "auditor"
    """Reads who did what, and how the box is."""
    ADMIN = "admin"
    """May do everything."""


class Kind(Enum):
    """What calls have in common, as far as limits go."""

    READ = "read"
    CHANGE = "change"
    PROBE = "probe"
    """Tells how alike faces are: a way to somebody's template, if it could be asked without an end."""
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call something, besides the administrator; ``public``: anybody, without a token too."""

    kind: Kind
    roles: frozenset[Role]
    public: bool = False

    def allows(self, role: Role) -> bool:
        """Whether a role may."""
        return role is Role.ADMIN or role in self.roles


def _rule(kind: Kind, *roles: Role, public: bool = False) -> Rule:
    return Rule(kind, frozenset(roles), public)


_READ, _CHANGE, _PROBE, _STREAM = Kind.READ, Kind.CHANGE, Kind.PROBE, Kind.STREAM
_CAMERA, _DASHBOARD, _DOOR, _ENROLLER, _AUDITOR = Role.CAMERA, Role.DASHBOARD, Role.DOOR, Role.ENROLLER, Role.AUDITOR

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "/facesvc.v1.RecognitionService/Detect": _rule(_READ, _CAMERA, _ENROLLER),
        "/facesvc.v1.RecognitionService/Embed": _rule(_PROBE),
        "/facesvc.v1.RecognitionService/Compare": _rule(_PROBE, _ENROLLER),
        "/facesvc.v1.RecognitionService/Search": _rule(_PROBE, _ENROLLER),
        "/facesvc.v1.RecognitionService/Recognize": _rule(_STREAM, _CAMERA),
        "/facesvc.v1.RecognitionService/CorrectMatch": _rule(_CHANGE, _ENROLLER),
        "/facesvc.v1.EnrollmentService/CreateSubject": _rule(_CHANGE, _ENROLLER),
        "/facesvc.v1.EnrollmentService/GetSubject": _rule(_READ, _ENROLLER, _DASHBOARD),
        "/facesvc.v1.EnrollmentService/ListSubjects": _rule(_READ, _ENROLLER, _DASHBOARD),
        "/facesvc.v1.EnrollmentService/UpdateSubject": _rule(_CHANGE, _ENROLLER),
        "/facesvc.v1.EnrollmentService/EraseSubject": _rule(_CHANGE, _ENROLLER),
        "/facesvc.v1.EnrollmentService/GetErasureReceipt": _rule(_READ, _ENROLLER, _AUDITOR),
        "/facesvc.v1.EnrollmentService/EnrollSamples": _rule(_CHANGE, _ENROLLER),
        "/facesvc.v1.EnrollmentService/ListSamples": _rule(_READ, _ENROLLER),
        "/facesvc.v1.EnrollmentService/DeleteSample": _rule(_CHANGE, _ENROLLER),
        "/facesvc.v1.EnrollmentService/MergeSubjects": _rule(_CHANGE, _ENROLLER),
        "/facesvc.v1.EnrollmentService/SplitSubject": _rule(_CHANGE, _ENROLLER),
        "/facesvc.v1.EnrollmentService/CheckGallery": _rule(_PROBE, _ENROLLER),
        "/facesvc.v1.EnrollmentService/ImportEncodings": _rule(_CHANGE),
        "/facesvc.v1.EnrollmentService/ExportEncodings": _rule(_READ),
        "/facesvc.v1.EnrollmentService/ExportSubject": _rule(_READ),
        "/facesvc.v1.PresenceService/ListPresence": _rule(_READ, _DASHBOARD),
        "/facesvc.v1.PresenceService/WatchEvents": _rule(_STREAM, _DASHBOARD, _DOOR),
        "/facesvc.v1.PresenceService/ListEvents": _rule(_READ, _DASHBOARD, _DOOR),
        "/facesvc.v1.PresenceService/ListAttendance": _rule(_READ, _DASHBOARD),
        "/facesvc.v1.PresenceService/AcknowledgeDecision": _rule(_CHANGE, _DOOR),
        "/facesvc.v1.PluginService/ListPlugins": _rule(_READ, _AUDITOR),
        "/facesvc.v1.PluginService/ListDeadLetters": _rule(_READ, _AUDITOR),
        "/facesvc.v1.PluginService/ReplayDeadLetters": _rule(_CHANGE),
        "/facesvc.v1.PluginService/CallPlugin": _rule(_CHANGE),
        "/facesvc.v1.AdminService/GetServerInfo": _rule(_READ, *Role),
        "/facesvc.v1.AdminService/ListModels": _rule(_READ, _AUDITOR),
        "/facesvc.v1.AdminService/LoadModel": _rule(_CHANGE),
        "/facesvc.v1.AdminService/MigrateGallery": _rule(_CHANGE),
        "/facesvc.v1.AdminService/GetStatistics": _rule(_READ, _AUDITOR, _DASHBOARD),
        "/facesvc.v1.AdminService/CreateBackup": _rule(_CHANGE),
        "/facesvc.v1.AdminService/ListBackups": _rule(_READ, _AUDITOR),
        "/facesvc.v1.AdminService/RotateKey": _rule(_CHANGE),
        "/facesvc.v1.AdminService/ListAudit": _rule(_READ, _AUDITOR),
        "/facesvc.v1.AdminService/VerifyAudit": _rule(_READ, _AUDITOR),
        "/facesvc.v1.AdminService/CreateToken": _rule(_CHANGE),
        "/facesvc.v1.AdminService/ListTokens": _rule(_READ, _AUDITOR),
        "/facesvc.v1.AdminService/RevokeToken": _rule(_CHANGE),
        # Says whether the server serves, and nothing of anybody: what watches a box has no token.
        "/grpc.health.v1.Health/Check": _rule(_READ, public=True),
        "/grpc.health.v1.Health/List": _rule(_READ, public=True),
        "/grpc.health.v1.Health/Watch": _rule(_STREAM, public=True),
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _rule(_STREAM, _ENROLLER, _AUDITOR),
    }
)
