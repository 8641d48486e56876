"""What a stream shows from look to look, with scripted networks in a real pipeline over a real gallery."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from evidence import ACCESS, CLOCK0, POLICY, T0
from studio import ENROLLED, HEIGHT, PEOPLE, SIZE, TEMPLATE, WIDTH, Camera, Shown, name_of, names, recognizer_over

from facesvc.errors import ImageError
from facesvc.stream.frame_clock import FrameClock
from facesvc.stream.look import Pace
from facesvc.stream.policy import Capture, Outcome
from facesvc.stream.shown import Seen

LOOK_S = Camera.LOOK_S


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Camera]]:
    cameras: list[Camera] = []

    def make(**fields: object) -> Camera:
        cameras.append(Camera(tmp_path, **fields))  # type: ignore[arg-type]  # a mixture
        return cameras[-1]

    yield make
    for camera in cameras:
        camera.recognizer.gallery.close()


@pytest.fixture
def camera(make: Callable[..., Camera]) -> Camera:
    return make()


def looks(seconds: float) -> range:
    return range(round(seconds / LOOK_S))


def outcomes(seen: Seen) -> list[Outcome | None]:
    return [one.decision.outcome if one.decision else None for one in seen.faces]


def test_before_the_first_look_there_is_nothing(camera: Camera) -> None:
    assert camera.session.predict(CLOCK0).faces == ()
    assert camera.session.tracks == 0


def test_a_face_is_named_at_the_first_look_and_carries_its_decision(camera: Camera) -> None:
    first = camera.look(Shown("ada", 200))
    (face,) = first.faces
    assert (name_of(face), face.predicted, first.embedded) == ("ada", False, 1)
    assert (first.width, first.height, first.omitted, first.minimum_face) == (WIDTH, HEIGHT, 0, 40)
    assert face.track.start == Capture(T0, CLOCK0)
    second = camera.look(Shown("ada", 204))
    assert second.embedded == 0
    assert second.faces[0].decision is face.decision
    assert second.faces[0].track.track_id == face.track.track_id
    assert second.faces[0].face.detection.box.left == 204 - SIZE / 2


def test_it_is_embedded_again_only_when_that_is_due(camera: Camera) -> None:
    shown = [camera.look(Shown("ada", 150 + look), Shown("bob", 450)).embedded for look in looks(9)]
    due = [place * LOOK_S for place, embedded in enumerate(shown) if embedded]
    assert due == [0, 3, 6]
    assert len(camera.embedded) == 6


def test_a_stranger_is_looked_at_ever_more_seldom(camera: Camera) -> None:
    for _ in looks(9):
        seen = camera.look(Shown("eve", 200))
    assert outcomes(seen) == [Outcome.UNKNOWN]
    assert seen.faces[0].decision is not None
    assert seen.faces[0].decision.settled
    assert len(camera.embedded) < 12


def test_vectors_are_made_of_refined_landmarks(camera: Camera) -> None:
    (embedded,) = camera.look(Shown("ada", 200)).faces
    corner = np.array([200 - SIZE / 2, 180 - SIZE / 2], np.float32)
    np.testing.assert_allclose(embedded.face.detection.landmarks, corner + TEMPLATE * SIZE / 112, atol=1e-4)
    (rough,) = camera.look(Shown("ada", 200)).faces
    np.testing.assert_allclose(rough.face.detection.landmarks, corner + TEMPLATE * SIZE / 112 + 2, atol=1e-4)
    assert embedded.face.vector is None


def test_a_face_below_the_bar_is_never_embedded_nor_named(camera: Camera) -> None:
    for _ in looks(2):
        seen = camera.look(Shown("ada", 200, score=0.6))
    assert camera.embedded == []
    assert outcomes(seen) == [Outcome.LOW_QUALITY]
    assert seen.faces[0].decision is not None
    assert seen.faces[0].decision.low_quality_reason == "the detector is not sure that this is a face"
    assert name_of(camera.look(Shown("ada", 200)).faces[0]) == "ada"
    # Seen badly for a moment it still is who it was.
    assert name_of(camera.look(Shown("ada", 200, score=0.6)).faces[0]) == "ada"


def test_a_face_that_is_unfit_by_its_good_landmarks_is_not_embedded_at_every_look(camera: Camera) -> None:
    for _ in looks(2):
        seen = camera.look(Shown("ada", 200, score=0.6, rough_score=0.95))
    assert camera.embedded == []
    assert outcomes(seen) == [Outcome.LOW_QUALITY]


def test_what_the_budget_does_not_allow_is_done_at_the_next_look(make: Callable[..., Camera]) -> None:
    camera = make(embedding_s=0.25, pace=Pace(3.0, embedding_budget_s=0.6))
    crowd = [Shown(name, 60 + 100 * place) for place, name in enumerate(PEOPLE[:6])]
    embedded = [camera.look(*crowd).embedded for _ in range(2)]
    assert embedded == [3, 3]
    assert sorted(camera.embedded) == sorted(PEOPLE[:6])


def test_a_new_face_comes_before_one_that_is_known(make: Callable[..., Camera]) -> None:
    camera = make(embedding_s=0.25, pace=Pace(3.0, embedding_budget_s=0.1))
    for _ in looks(3):
        camera.look(Shown("ada", 100))
    seen = camera.look(Shown("ada", 100), Shown("bob", 400))
    assert camera.embedded == ["ada", "bob"]
    assert sorted(map(name_of, seen.faces)) == ["ada", "bob"]
    camera.look(Shown("ada", 100), Shown("bob", 400))
    assert camera.embedded == ["ada", "bob", "ada"]


def test_who_was_not_looked_at_yet_is_not_said_to_be_unfit(make: Callable[..., Camera]) -> None:
    camera = make(embedding_s=0.25, pace=Pace(3.0, embedding_budget_s=0.1))
    seen = camera.look(Shown("ada", 100), Shown("bob", 300))
    assert sorted(map(name_of, seen.faces)) == ["", "ada"]
    assert Outcome.LOW_QUALITY not in outcomes(seen)


@pytest.mark.parametrize("apart", [0, pytest.param(20, marks=pytest.mark.slow)])
def test_crossing_people_keep_tracks_and_names_and_nobody_is_named_wrongly(camera: Camera, apart: float) -> None:
    tracks: dict[str, set[str]] = {"ada": set(), "bob": set()}
    for look in looks(4):
        ada, bob = Shown("ada", 80 + 15 * look, 180 - apart), Shown("bob", 560 - 15 * look, 180 + apart)
        # Ada walks behind Bob: while most of her is covered she is not seen.
        shown = [bob] if abs(ada.x - bob.x) < SIZE / 2 and apart == 0 else [ada, bob]
        seen = camera.look(*shown, hidden=[ada] if ada not in shown else [])
        for one in seen.faces:
            if one.predicted:
                continue
            (whose,) = [who for who in shown if who.found(rough=False).box == one.face.detection.box]
            assert name_of(one) in ("", whose.name)
            tracks[whose.name].add(one.track.track_id)
    assert [len(ids) for ids in tracks.values()] == [1, 1]
    assert sorted(names(seen).values()) == ["ada", "bob"]


def test_behind_a_pillar_for_a_second_somebody_is_the_same_afterwards(camera: Camera) -> None:
    for look in looks(4):
        x = 60 + 15 * look
        seen = camera.look(*([] if 200 < x < 320 else [Shown("ada", x)]))
    assert camera.session.tracks == 1
    assert list(names(seen).items()) == [("id-00001", "ada")]
    # The name is back as soon as she is: it was verified at once.
    assert len(camera.embedded) == 3


def test_a_face_that_comes_back_elsewhere_keeps_its_track(camera: Camera) -> None:
    before = camera.look(Shown("ada", 150))
    for _ in looks(1):
        camera.look()
    after = camera.look(Shown("ada", 450))
    assert names(after) == names(before)


def test_somebody_else_in_the_same_place_never_bears_the_name(camera: Camera) -> None:
    for _ in looks(1):
        before = camera.look(Shown("ada", 200))
    for _ in looks(1):
        after = camera.look(Shown("bob", 202))
        assert "ada" not in names(after).values()
    (track,) = names(after)
    assert names(after) == {track: "bob"}
    assert track not in names(before)


def test_a_name_is_withheld_while_it_is_contested_whose_face_it_is(camera: Camera) -> None:
    camera.look(Shown("ada", 200))
    # Bob is there instead, and too blurred to tell.
    (face,) = camera.look(Shown("bob", 200, score=0.6)).faces
    assert face.track.contested
    assert face.decision is None
    assert camera.session.predict(camera.clock).faces[0].decision is None
    # It was Ada after all, in other light.
    (face,) = camera.look(Shown("ada", 200)).faces
    assert (name_of(face), face.track.contested) == ("ada", False)


def test_one_view_that_does_not_look_like_her_is_doubted_but_does_not_end_a_track(camera: Camera) -> None:
    (before,) = camera.look(Shown("ada", 200)).faces
    camera.says["fay"] = "ada?"
    (doubted,) = camera.look(Shown("fay", 200)).faces
    assert (doubted.doubted, doubted.decision) == (True, None)
    (after,) = camera.look(Shown("ada", 200)).faces
    assert (after.track.track_id, name_of(after), after.doubted) == (before.track.track_id, "ada", False)


def test_three_such_views_are_somebody_else(camera: Camera) -> None:
    (before,) = camera.look(Shown("ada", 200)).faces
    camera.says["fay"] = "ada?"
    for _ in looks(1.5):
        seen = camera.look(Shown("fay", 200))
        assert set(names(seen).values()) <= {""}
    (after,) = seen.faces
    assert after.track.track_id != before.track.track_id


def test_a_stranger_is_not_verified_by_being_most_like_the_only_one_who_is_enrolled(camera: Camera) -> None:
    for name in ENROLLED[1:]:
        camera.recognizer.gallery.erase_subject("office", name, T0)
    camera.look(Shown("ada", 200))
    camera.says["fay"] = "ada?"
    assert names(camera.look(Shown("fay", 200))).popitem()[1] == ""


def test_a_face_is_not_verified_by_views_that_were_not_like_the_person_themselves(camera: Camera) -> None:
    """Half hidden by the same head, two faces are alike."""
    camera.look(Shown("ada", 200))
    camera.says |= {"ada": "bob-", "fay": "bob-"}
    for _ in looks(4):
        (face,) = camera.look(Shown("ada", 200)).faces
    assert name_of(face) == "ada"
    assert names(camera.look(Shown("fay", 200))).popitem()[1] == ""


def test_a_match_holds_where_views_fail_until_it_expires(camera: Camera) -> None:
    camera.look(Shown("ada", 200))
    camera.says["ada"] = "gus"
    named = [name_of(camera.look(Shown("ada", 200)).faces[0]) for _ in looks(8)]
    assert named.index("") * LOOK_S == pytest.approx(5 - LOOK_S)
    assert set(named[named.index("") :]) == {""}


def test_a_renamed_person_is_called_so_at_last(camera: Camera) -> None:
    camera.look(Shown("ada", 200))
    camera.says["ada"] = "bob"
    for _ in looks(6):
        seen = camera.look(Shown("ada", 200))
    assert list(names(seen).values()) == ["bob"]


def test_a_poster_and_the_person_are_not_both_named(camera: Camera) -> None:
    camera.says["eve"] = "ada!"
    for _ in looks(1):
        seen = camera.look(Shown("eve", 500))
    assert list(names(seen).values()) == ["ada"]
    for _ in looks(2):
        seen = camera.look(Shown("ada", 100), Shown("eve", 500))
        assert [name_of(one) for one in sorted(seen.faces, key=lambda one: one.face.detection.box.left)] == ["ada", ""]


def test_a_scene_cut_ends_tracks(camera: Camera) -> None:
    before = camera.look(Shown("ada", 200))
    camera.room = 1
    after = camera.look(Shown("ada", 450))
    assert camera.session.tracks == 1
    assert set(names(after)).isdisjoint(names(before))
    assert list(names(after).values()) == ["ada"]
    assert after.embedded == 1


def test_another_room_with_the_same_faces_in_their_places_is_no_cut(camera: Camera) -> None:
    before = camera.look(Shown("ada", 200), Shown("bob", 400))
    camera.room = 1
    assert names(camera.look(Shown("ada", 205), Shown("bob", 400))) == names(before)


def test_in_an_empty_room_a_cut_ends_who_is_out_of_sight(camera: Camera) -> None:
    camera.look(Shown("ada", 200))
    camera.look()
    assert camera.session.tracks == 1
    camera.room = 1
    camera.look()
    assert camera.session.tracks == 0


def test_a_change_of_models_forgets_vectors_and_keeps_tracks(camera: Camera, tmp_path: Path) -> None:
    (before,) = camera.look(Shown("ada", 200)).faces
    old = camera.recognizer
    camera.recognizer = recognizer_over(camera, tmp_path / "other.db", "painted/2")
    try:
        camera.says["ada"] = "bob"  # what the new models say
        seen = camera.look(Shown("ada", 200))
    finally:
        old.gallery.close()
    assert seen.embedded == 1
    (after,) = seen.faces
    assert (after.track.track_id, name_of(after)) == (before.track.track_id, "bob")
    assert camera.look(Shown("ada", 200)).embedded == 0


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_a_camera_that_sends_smaller_or_larger_pictures_shows_the_same_people(camera: Camera, zoom: float) -> None:
    for look in range(8):
        before = camera.look(Shown("ada", 150 + 10 * look, size=120), Shown("bob", 450, 100, size=120))
    camera.zoom = zoom
    after = camera.look(Shown("ada", 230, size=120), Shown("bob", 450, 100, size=120))
    assert (after.width, after.height, after.embedded) == (WIDTH * zoom, HEIGHT * zoom, 0)
    assert names(after) == names(before)
    (ada,) = (one for one in after.faces if name_of(one) == "ada")
    assert ada.track.motion.right == pytest.approx(10 * zoom / LOOK_S, rel=0.2)
    predicted = camera.session.predict(camera.clock).faces
    box = next(one.face.detection.box for one in predicted if name_of(one) == "ada")
    assert box.left == pytest.approx((240 - 60) * zoom, abs=3 * zoom)


def test_a_picture_that_is_none_changes_nothing(camera: Camera) -> None:
    camera.look(Shown("ada", 200))
    before = camera.session.predict(CLOCK0 + 0.1).faces[0].face.detection.box
    with pytest.raises(ImageError):
        camera.session.look(camera.recognizer, b"noise", POLICY, camera.capture, camera.clock, camera.pace)
    assert camera.session.predict(CLOCK0 + 0.1).faces[0].face.detection.box == before
    assert camera.look(Shown("ada", 204)).embedded == 0


def test_between_looks_boxes_and_landmarks_move_on(camera: Camera) -> None:
    for look in range(8):
        seen = camera.look(Shown("ada", 100 + 20 * look), Shown("bob", 560, 100))
    last = camera.clock - LOOK_S
    predicted = camera.session.predict(last + LOOK_S / 2)
    assert (predicted.predicted, predicted.embedded, predicted.times.seconds) == (True, 0, {})
    for one, before in zip(predicted.faces, seen.faces, strict=True):
        assert one.predicted
        assert one.decision is before.decision
        box, there = one.face.detection.box, before.face.detection.box
        way = 10 if name_of(one) == "ada" else 0
        assert (box.left - there.left, box.top - there.top) == (pytest.approx(way, abs=1), pytest.approx(0, abs=0.1))
        assert (box.width, box.height) == (there.width, there.height)
        moved = one.face.detection.landmarks - before.face.detection.landmarks
        np.testing.assert_allclose(moved, np.tile([box.left - there.left, box.top - there.top], (5, 1)), atol=1e-3)
    # At the time of the look itself, and before, it is what was seen.
    assert camera.session.predict(last).faces[0].face.detection.box == seen.faces[0].face.detection.box


def test_who_has_walked_out_of_the_picture_is_not_shown_there(camera: Camera) -> None:
    for look in range(8):
        camera.look(Shown("ada", 440 + 25 * look))
    last = camera.clock - LOOK_S
    assert len(camera.session.predict(last).faces) == 1
    assert camera.session.predict(last + 3 * LOOK_S).faces == ()


def test_a_face_that_a_look_has_missed_is_shown_for_a_moment(camera: Camera) -> None:
    for look in range(5):
        camera.look(Shown("ada", 200 + 10 * look))
    (face,) = camera.look().faces
    assert (face.predicted, name_of(face)) == (True, "ada")
    assert face.face.detection.box.left == pytest.approx(250 - SIZE / 2, abs=3)
    assert len(camera.session.predict(camera.clock - LOOK_S).faces) == 1
    assert camera.session.predict(camera.clock).faces == ()
    assert camera.look().faces == ()
    assert camera.session.tracks == 1


def test_a_face_that_was_held_back_is_not_shown_where_it_was_missed(camera: Camera) -> None:
    camera.look(Shown("ada", 200))
    # Somebody new, who could be Ada.
    assert list(names(camera.look(Shown("fay", 335))).values()) == ["ada"]
    assert camera.look().faces == ()


def test_a_predicted_face_bears_no_name_beyond_the_decisions_life(make: Callable[..., Camera]) -> None:
    camera = make(lost_s=10.0)
    camera.look(Shown("ada", 200))
    assert name_of(camera.session.predict(CLOCK0 + 4.9).faces[0]) == "ada"
    assert camera.session.predict(CLOCK0 + 5).faces[0].decision is None


def test_a_face_is_not_predicted_for_ever(make: Callable[..., Camera]) -> None:
    camera = make(lost_s=2.0)
    camera.look(Shown("ada", 200))
    assert len(camera.session.predict(CLOCK0 + 2).faces) == 1
    assert camera.session.predict(CLOCK0 + 60).faces == ()


def test_faces_come_largest_first_and_no_more_than_may_be(make: Callable[..., Camera]) -> None:
    camera = make(max_faces=2)
    seen = camera.look(Shown("ada", 100, size=60), Shown("bob", 300, size=100), Shown("cyd", 500, size=80))
    assert [name_of(one) for one in seen.faces] == ["bob", "cyd"]
    assert seen.omitted == 1
    # Those who are out of sight count, up to as many again.
    for one, other in zip(PEOPLE[::2], PEOPLE[1::2], strict=True):
        camera.look(Shown(one, 100, 80), Shown(other, 500, 280))
        assert camera.session.tracks <= 4


def test_more_has_to_be_done_less(camera: Camera) -> None:
    camera.pace = Pace(1.0, minimum_face_factor=1.5)
    shown = [camera.look(Shown("ada", 200)).embedded for _ in looks(2)]
    assert [place * LOOK_S for place, embedded in enumerate(shown) if embedded] == [0, 1]
    assert set(camera.asked_for) == {60}
    camera.pace = Pace(1.0, minimum_face_factor=1000)
    camera.look()
    assert camera.asked_for[-1] == 4096


def test_calm_is_where_all_are_settled_and_hardly_move(camera: Camera) -> None:
    camera.look(Shown("ada", 200))
    assert camera.session.is_calm
    camera.look(Shown("ada", 210))
    assert not camera.session.is_calm
    for _ in looks(1):
        camera.look(Shown("ada", 210))
    assert camera.session.is_calm
    camera.look(Shown("ada", 210), Shown("eve", 500))
    assert not camera.session.is_calm


@pytest.mark.parametrize(("score", "outcome"), [(0.9, Outcome.MATCH), (0.1, Outcome.SPOOF)])
def test_liveness_is_scored_with_each_view_and_kept_with_the_track(
    make: Callable[..., Camera], score: float, outcome: Outcome
) -> None:
    camera = make(policy=ACCESS)
    camera.recognizer = replace(camera.recognizer, liveness=lambda pixels, detection: score)
    said = [outcomes(camera.look(Shown("ada", 200)))[0] for _ in range(4)]
    assert said == [Outcome.UNKNOWN, Outcome.UNKNOWN, outcome, outcome]
    (face,) = camera.session.seen.faces
    assert face.decision is not None
    assert face.decision.liveness is not None
    assert face.decision.liveness.score == pytest.approx(score)
    assert face.decision.liveness.frames >= 3


def test_without_a_liveness_model_nobody_passes_who_has_to(make: Callable[..., Camera]) -> None:
    camera = make(policy=ACCESS)
    for _ in looks(1):
        assert outcomes(camera.look(Shown("ada", 200))) == [Outcome.UNKNOWN]


@pytest.mark.slow
def test_everybody_of_a_crowd_that_walks_at_random_is_named_and_never_wrongly(make: Callable[..., Camera]) -> None:
    """Seven people walk straight on and turn at the walls; who is half covered is not found, for seconds."""
    camera = make(lost_s=5.0)
    random = np.random.default_rng(5)
    places = random.uniform((60, 60), (WIDTH - 60, HEIGHT - 60), (7, 2))
    speeds = random.uniform(-8, 8, (7, 2))
    tracks: dict[str, set[str]] = {}
    right = wrong = 0
    for _ in looks(12):
        places += speeds
        out = (places < 50) | (places > (WIDTH - 50, HEIGHT - 50))
        speeds[out] *= -1
        crowd = [Shown(name, *place, size=70) for name, place in zip(PEOPLE[:7], places, strict=True)]
        visible = [
            one
            for number, one in enumerate(crowd)
            if not any(max(abs(one.x - other.x), abs(one.y - other.y)) < 56 for other in crowd[number + 1 :])
        ]
        seen = camera.look(*visible, hidden=[one for one in crowd if one not in visible])
        for face in seen.faces:
            whose = [one.name for one in visible if one.found(rough=True).box == face.face.detection.box]
            if face.predicted or not whose:
                continue
            tracks.setdefault(whose[0], set()).add(face.track.track_id)
            right += name_of(face) == whose[0]
            wrong += name_of(face) not in ("", whose[0])
    assert wrong == 0
    assert right > 250
    assert [len(ids) for ids in tracks.values()] == [1] * 7


@pytest.mark.parametrize("offset", [-3600.0, -1.0, 0.0, 1.0, 3600.0])
def test_frames_follow_each_other_as_the_camera_says(offset: float) -> None:
    clock = FrameClock()
    arrivals = [10.0, 10.13, 10.21, 10.9]  # as the network brings them
    taken = [clock.of(T0 + timedelta(seconds=offset + 0.1 * n), arrival) for n, arrival in enumerate(arrivals)]
    assert taken == pytest.approx([10, 10.1, 10.2, 10.3])


@pytest.mark.parametrize("step", [-3600.0, 3600.0, -3.0, 3.0])
def test_a_step_of_the_cameras_clock_is_no_step_of_the_frames(step: float) -> None:
    clock = FrameClock()
    clock.of(T0, 10.0)
    assert clock.of(T0 + timedelta(seconds=step + 0.1), 10.12) == pytest.approx(10.12)
    assert clock.of(T0 + timedelta(seconds=step + 0.2), 10.25) == pytest.approx(10.22)


def test_frames_only_go_forward() -> None:
    clock = FrameClock()
    random = np.random.default_rng(2)
    last, arrival = 0.0, 100.0
    for _ in range(500):
        arrival += random.uniform(0, 0.2)
        clock_now = clock.of(T0 + timedelta(seconds=random.uniform(-5, 5)), arrival)
        assert clock_now > last
        # Never much further ahead of, or behind, the clock that is never set.
        assert abs(clock_now - arrival) <= 2.2
        last = clock_now


def test_a_camera_whose_clock_runs_fast_is_followed_without_a_jump() -> None:
    clock = FrameClock()
    times = [clock.of(T0 + timedelta(seconds=0.101 * number), 50 + 0.1 * number) for number in range(4000)]
    assert max(np.diff(times)) == pytest.approx(0.101)
    assert min(np.diff(times)) == pytest.approx(0.1)


def test_all_who_are_enrolled_can_be_told_apart(camera: Camera) -> None:
    """What the tests above rest on."""
    for name in PEOPLE:
        camera.look(Shown(name, 200))
        camera.seconds += 10
    assert [camera.embedded[place] for place in range(len(PEOPLE))] == list(PEOPLE)
    assert set(ENROLLED) < set(PEOPLE)
