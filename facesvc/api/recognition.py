"""``RecognitionService``: parse, call, map the reply."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import grpc

from facesvc.api import convert, corrections, disclosure
from facesvc.api.access import principal
from facesvc.api.arrivals import Arrival
from facesvc.api.audit import actor_of, asker_of
from facesvc.api.camera import Stream
from facesvc.api.probes import Probe
from facesvc.api.question import Look, check_size, parse_question, shown_candidates
from facesvc.api.service import Lobby, Service
from facesvc.errors import InputError
from facesvc.stream.mailbox import Mailbox
from facesvc.stream.recognizer import Answer, Question
from facesvc.v1 import common_pb2, recognition_pb2, recognition_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class RecognitionServicer(recognition_pb2_grpc.RecognitionServiceServicer):
    """Faces in pictures and streams."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby

    async def Detect(  # noqa: N802 - gRPC's name
        self, request: recognition_pb2.DetectRequest, context: Context
    ) -> recognition_pb2.DetectResponse:
        """Find the faces of a picture."""
        service = self._lobby.service
        look = Look.parse(service, request.options)
        analysis, timings = await look.analyse(service.clock(), request.image.data, embed=False)
        return recognition_pb2.DetectResponse(
            faces=convert.faces(analysis),
            width=analysis.width,
            height=analysis.height,
            faces_omitted=analysis.omitted,
            minimum_face_pixels=analysis.minimum_face,
            timings=timings,
        )

    async def Embed(  # noqa: N802 - gRPC's name
        self, request: recognition_pb2.EmbedRequest, context: Context
    ) -> recognition_pb2.EmbedResponse:
        """Find the faces of a picture and return their vectors."""
        service = self._lobby.service
        look = Look.parse(service, request.options)
        analysis, timings = await look.analyse(service.clock(), request.image.data, embed=True)
        await service.probes.note(Probe(asker_of(context), "Embed"), len(analysis.faces), 0)
        return recognition_pb2.EmbedResponse(
            faces=[
                recognition_pb2.EmbeddedFace(
                    face=convert.face(face, analysis.width, analysis.height), embedding=face.vector
                )
                for face in analysis.faces
            ],
            embedding_contract=look.engine.pack.contract_id,
            faces_omitted=analysis.omitted,
            minimum_face_pixels=analysis.minimum_face,
            timings=timings,
        )

    async def Compare(  # noqa: N802 - gRPC's name
        self, request: recognition_pb2.CompareRequest, context: Context
    ) -> recognition_pb2.CompareResponse:
        """Compare one face with every face of another picture."""
        service = self._lobby.service
        look = Look.parse(service, request.options)
        policy = look.engine.policies.get(request.policy)
        arrival, told = service.clock(), disclosure.told(principal())
        reference, _ = await look.analyse(arrival, request.reference.data, embed=True, field="reference.data")
        analysis, _ = await look.analyse(arrival, request.image.data, embed=True)
        response = recognition_pb2.CompareResponse(
            threshold=policy.threshold,
            false_match_rate=policy.false_match_rate,
            embedding_contract=look.engine.pack.contract_id,
        )
        if not reference.faces or reference.faces[0].vector is None:
            return response
        response.reference_face.CopyFrom(convert.face(reference.faces[0], reference.width, reference.height))
        compared = []
        for face in analysis.faces:
            assert face.vector is not None  # asked for above
            similarity = max(-1.0, min(1.0, float(face.vector @ reference.faces[0].vector)))
            shown = told.similarity(similarity, policy.threshold)
            compared.append(
                recognition_pb2.ComparedFace(
                    face=convert.face(face, analysis.width, analysis.height),
                    similarity=shown,
                    distance=convert.distance(shown),
                    same_person=similarity >= policy.threshold,
                )
            )
        same = sum(face.same_person for face in compared)
        await service.probes.note(Probe(asker_of(context), "Compare"), len(compared), same)
        # By what is told of them, or the order would say more: those that are told alike stay as they are.
        response.faces.extend(sorted(compared, key=lambda face: -face.similarity))
        return response

    async def Search(  # noqa: N802 - gRPC's name
        self, request: recognition_pb2.SearchRequest, context: Context
    ) -> recognition_pb2.SearchResponse:
        """Say who the people in a picture are."""
        service = self._lobby.service
        question = parse_question(service, request)
        check_size(service, request.image.data, "image.data")
        now, arrival = service.now(), service.clock()
        begun, answer, contract_id = await service.workers.run(_timed, service, request.image.data, question, now)
        faces = convert.recognized_faces(answer, question.max_candidates, service.clock())
        matches = sum(face.decision.outcome == common_pb2.OUTCOME_MATCH for face in faces)
        await service.probes.note(Probe(asker_of(context), "Search", question.collection_id), len(faces), matches)
        disclosure.faces(principal(), faces, shown_candidates(request))
        return recognition_pb2.SearchResponse(
            faces=faces,
            width=answer.analysis.width,
            height=answer.analysis.height,
            faces_omitted=answer.analysis.omitted,
            minimum_face_pixels=answer.analysis.minimum_face,
            timings=convert.timings(answer.analysis.times, begun - arrival, service.clock() - arrival),
            embedding_contract=contract_id,
        )

    async def Recognize(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[recognition_pb2.RecognizeRequest], context: Context
    ) -> AsyncIterator[recognition_pb2.RecognizeResponse]:
        """Say who the people before a camera are, newest frame first."""
        service = self._lobby.service
        mailbox: Mailbox[Arrival] = Mailbox()
        with service.streams.admitted(mailbox):
            timeout_s = service.settings.limits.stream_opening_timeout_seconds
            first = await self._lobby.next_message(requests, timeout_s, "STREAM_NOT_OPENED")
            if first is None or not first.HasField("opening"):
                raise InputError("the first message of a stream must be its opening", field="opening")
            stream, shown = Stream(service, first.opening), shown_candidates(first.opening)
            with stream.counted():
                async for response in stream.talk(requests, mailbox):
                    if response.HasField("result"):
                        disclosure.faces(principal(), response.result.faces, shown)
                    yield response
                self._lobby.refuse_if_stopping()

    async def CorrectMatch(  # noqa: N802 - gRPC's name
        self, request: recognition_pb2.CorrectMatchRequest, context: Context
    ) -> recognition_pb2.CorrectMatchResponse:
        """Set right a sample by which somebody was taken for another."""
        return await corrections.correct(self._lobby.service, request, actor_of(context))


def _timed(service: Service, data: bytes, question: Question, capture_time: datetime) -> tuple[float, Answer, str]:
    """When the work on a picture began, by the pipeline's clock, its result, and the contract it was made under."""
    begun = service.clock()
    return begun, *service.engines.recognize(data, question, capture_time)
