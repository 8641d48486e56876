"""The client for plain code."""

from collections.abc import Generator, Iterable
from contextlib import closing
from datetime import datetime
from itertools import chain

from grpc_health.v1 import health_pb2

from facesvc.client import requests
from facesvc.client.connection import DEFAULT_TIMEOUT_S, LONG_TIMEOUT_S
from facesvc.client.requests import Filters
from facesvc.client.sync_tokens import TokenCalls
from facesvc.v1 import admin_pb2, presence_pb2, recognition_pb2


class Client(TokenCalls):
    """Calls a facesvc server and waits for the answers. May be used from several threads."""

    def wait_until_serving(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Return as soon as the server's models are loaded and warm. Raises ``CallError`` after ``timeout_s``."""
        call = self._health.Watch(health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True)
        with closing(self._answers(call)) as answers:
            for answer in answers:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return

    def server_info(self) -> admin_pb2.GetServerInfoResponse:
        """What runs there, and at which error rates."""
        return self._call(self._admin.GetServerInfo, admin_pb2.GetServerInfoRequest())

    def get_statistics(self) -> admin_pb2.GetStatisticsResponse:
        """What was done since the start, by each open stream, and how hard the box works."""
        return self._call(self._admin.GetStatistics, admin_pb2.GetStatisticsRequest())

    def list_models(self) -> list[admin_pb2.ModelPack]:
        """The model packs on that box."""
        return list(self._call(self._admin.ListModels, admin_pb2.ListModelsRequest()).model_packs)

    def load_model(self, name: str) -> admin_pb2.ModelPack:
        """Change to a pack under whose contract everybody has a vector already."""
        return self._call(self._admin.LoadModel, admin_pb2.LoadModelRequest(name=name)).model_pack

    def migrate_gallery(
        self, name: str = "", *, rollback: bool = False, skip_missing: bool = False
    ) -> Generator[admin_pb2.MigrateGalleryResponse, None, None]:
        """Embed everybody again and change to a pack; leaving the iterator early stops the migration."""
        request = requests.migrate_gallery(name, rollback=rollback, skip_missing=skip_missing)
        yield from self._answers(self._admin.MigrateGallery(request))

    def create_backup(self) -> admin_pb2.Backup:
        """Write a backup into the folder of the server, and read it back; waits for up to an hour."""
        request = admin_pb2.CreateBackupRequest()
        return self._call(self._admin.CreateBackup, request, least_s=LONG_TIMEOUT_S).backup

    def list_backups(self, *, verify: bool = False) -> list[admin_pb2.Backup]:
        """The backups there, oldest first; with ``verify`` each is read whole, which takes up to an hour."""
        request = admin_pb2.ListBackupsRequest(verify=verify)
        least_s = LONG_TIMEOUT_S if verify else 0.0
        return list(self._call(self._admin.ListBackups, request, least_s=least_s).backups)

    def rotate_key(self) -> int:
        """Put the keys of all people under a new master key; how many. Waits for up to an hour."""
        return self._call(self._admin.RotateKey, admin_pb2.RotateKeyRequest(), least_s=LONG_TIMEOUT_S).key_count

    def list_audit(
        self,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        action: str = "",
        subject_id: str = "",
        page_size: int = 0,
    ) -> Generator[admin_pb2.AuditEntry, None, None]:
        """Who did what with people's data, oldest first, page by page as they are needed."""
        token = ""
        while True:
            request = requests.list_audit(start_time, end_time, action, subject_id, page_size, token)
            page = self._call(self._admin.ListAudit, request)
            yield from page.entries
            token = page.next_page_token
            if not token:
                return

    def verify_audit(self) -> admin_pb2.VerifyAuditResponse:
        """Whether the log of that is as it was written."""
        return self._call(self._admin.VerifyAudit, admin_pb2.VerifyAuditRequest())

    def detect(
        self, data: bytes, options: recognition_pb2.DetectionOptions | None = None
    ) -> recognition_pb2.DetectResponse:
        """The faces of an encoded picture."""
        return self._call(self._recognition.Detect, requests.detect(data, options))

    def embed(
        self, data: bytes, options: recognition_pb2.DetectionOptions | None = None
    ) -> recognition_pb2.EmbedResponse:
        """The faces of an encoded picture with their vectors."""
        return self._call(self._recognition.Embed, requests.embed(data, options))

    def compare(self, reference: bytes, data: bytes, *, policy: str = "") -> recognition_pb2.CompareResponse:
        """The largest face of ``reference`` against every face of ``data``."""
        return self._call(self._recognition.Compare, requests.compare(reference, data, policy))

    def search(
        self,
        data: bytes,
        *,
        collection_id: str = "",
        policy: str = "",
        max_candidates: int = 0,
        options: recognition_pb2.DetectionOptions | None = None,
        filters: Filters | None = None,
    ) -> recognition_pb2.SearchResponse:
        """Who the people in an encoded picture are; with ``filters`` everybody else is as good as not enrolled."""
        request = requests.search(data, collection_id, policy, max_candidates, options, filters)
        return self._call(self._recognition.Search, request)

    def correct_match(
        self,
        subject_id: str,
        sample_id: str,
        *,
        actual_subject_id: str = "",
        decision_id: str = "",
        collection_id: str = "",
    ) -> None:
        """Say that a sample does not show who was named by it: it is moved to the right person, or removed."""
        request = requests.correct_match(subject_id, sample_id, actual_subject_id, decision_id, collection_id)
        self._call(self._recognition.CorrectMatch, request)

    def recognize(
        self, opened: recognition_pb2.StreamOpening, frames: Iterable[recognition_pb2.Frame]
    ) -> Generator[recognition_pb2.FrameResult, None, None]:
        """Results of a stream of frames; ``frames`` is read in another thread, at its own pace.

        What ``frames`` raises is raised here, once the results of what was sent before are out.
        """
        with closing(self.converse(opened, frames)) as answers:
            for answer in answers:
                if answer.HasField("result"):
                    yield answer.result

    def converse(
        self, opened: recognition_pb2.StreamOpening, messages: Iterable[requests.Said]
    ) -> Generator[recognition_pb2.RecognizeResponse, None, None]:
        """All answers of a stream: the opening, results, credits, challenges; ``messages`` as in ``recognize``."""
        sent = chain([requests.first(opened)], map(requests.following, messages))
        yield from self._talk(self._recognition.Recognize, sent)

    def watch_events(
        self, *, resume_token: str = "", collection_id: str = "", zone: str = ""
    ) -> Generator[presence_pb2.WatchEventsResponse, None, None]:
        """Events as they happen; the first answer has none and says that the watch has begun."""
        request = requests.watch_events(resume_token, collection_id, zone)
        yield from self._answers(self._presence.WatchEvents(request))

    def acknowledge_decision(
        self, event_id: str, nonce: str, door: str, action: presence_pb2.DoorAction.ValueType, *, reason: str = ""
    ) -> None:
        """Say what a door did upon a decision; ``nonce`` came with its event in a watch, and is good once."""
        request = requests.acknowledge_decision(event_id, nonce, door, action, reason)
        self._call(self._presence.AcknowledgeDecision, request)

    def list_presence(
        self, *, collection_id: str = "", zone: str = "", page_size: int = 0
    ) -> Generator[presence_pb2.Presence, None, None]:
        """Who is where now, page by page as they are needed."""
        token = ""
        while True:
            request = requests.list_presence(collection_id, zone, page_size, token)
            page = self._call(self._presence.ListPresence, request)
            yield from page.presences
            token = page.next_page_token
            if not token:
                return

    def list_events(
        self,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        collection_id: str = "",
        zone: str = "",
        subject_id: str = "",
        page_size: int = 0,
    ) -> Generator[presence_pb2.Event, None, None]:
        """Events of the past, oldest first, page by page as they are needed."""
        token = ""
        while True:
            request = requests.list_events(start_time, end_time, collection_id, zone, subject_id, page_size, token)
            page = self._call(self._presence.ListEvents, request)
            yield from page.events
            token = page.next_page_token
            if not token:
                return

    def list_attendance(
        self,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        collection_id: str = "",
        zone: str = "",
        subject_id: str = "",
        time_zone: str = "",
        page_size: int = 0,
    ) -> Generator[presence_pb2.Attendance, None, None]:
        """Who was there on which day and for how long, page by page as they are needed."""
        token = ""
        while True:
            request = requests.list_attendance(
                start_time, end_time, collection_id, zone, subject_id, time_zone, page_size, token
            )
            page = self._call(self._presence.ListAttendance, request)
            yield from page.attendances
            token = page.next_page_token
            if not token:
                return
