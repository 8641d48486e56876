"""The synthetic video: what is said of who is where is what is to be seen."""

from dataclasses import replace

import numpy as np
import pytest

from facesvc.cli.footage import Actor, Sprite, film
from facesvc.cli.footage_walks import Take, opacity
from facesvc.cli.pictures import pixels_of
from facesvc.vision.geometry import Box

TAKE = Take(width=480, height=270, fps=10, seconds=8, faces=(30.0, 60.0))


def actor(person: str, colour: tuple[int, int, int]) -> Actor:
    """A head that is one colour, with a face of 3 by 4."""
    return Actor(person, Sprite(np.full((120, 120, 3), colour, np.uint8), 0.75))


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
CROWD = [actor("ana", RED), actor("bea", GREEN), actor("cem", BLUE), *[actor(f"{n}", (n, 90, 200)) for n in range(5)]]


def share_of(colour: tuple[int, int, int], pixels: np.ndarray, box: Box) -> float:  # type: ignore[type-arg]  # of uint8
    """How much of a box inside the picture is of that colour, nearly."""
    top, left = max(0, round(box.top)), max(0, round(box.left))
    part = pixels[top : round(box.top + box.height), left : round(box.left + box.width)]
    return float((np.abs(part.astype(int) - colour).max(axis=-1) < 90).mean())


def test_the_same_seed_gives_the_same_video() -> None:
    first, second = film(CROWD, TAKE, 1), film(CROWD, TAKE, 1)
    assert first.frames == second.frames
    assert first.truth == second.truth
    assert film(CROWD, TAKE, 2).truth != first.truth
    assert len(first.frames) == len(first.truth) == 80
    assert pixels_of(first.frames[0]).shape == (270, 480, 3)


def test_a_face_is_where_it_is_said_to_be() -> None:
    footage = film(CROWD[:1], TAKE, 3)
    checked = 0
    for frame, faces in zip(footage.frames, footage.truth, strict=True):
        for face in faces:
            if face.visible < 1:
                continue
            pixels = pixels_of(frame)
            red = np.argwhere((pixels[:, :, 0] > 180) & (pixels[:, :, 1] < 90))
            # The cut-out is an ellipse whose middle is a tenth of the face's height below the face's.
            middle = red.mean(axis=0)
            wanted = (face.box.top + 0.6 * face.box.height, face.box.left + face.box.width / 2)
            if red.min() > 0 and red[:, 0].max() < 269 and red[:, 1].max() < 479:
                assert middle == pytest.approx(wanted, abs=0.06 * face.box.height)
                assert face.box.width / face.box.height == pytest.approx(0.75)
                assert share_of(RED, pixels, face.box) > 0.97
                checked += 1
    assert checked > 20


def test_nearer_ones_hide_those_behind() -> None:
    colours = {"ana": RED, "bea": GREEN, "cem": BLUE}
    hidden = 0
    footage = film(CROWD, replace(TAKE, walk_in=False), 9)
    for frame, faces in zip(footage.frames, footage.truth, strict=True):
        pixels = pixels_of(frame)
        assert faces[-1].visible == faces[-1].inside  # nobody is before the nearest
        for face in faces:
            if face.person in colours and face.inside == 1:
                assert share_of(colours[face.person], pixels, face.box) == pytest.approx(face.visible, abs=0.25)
                hidden += face.visible < 0.5
    assert hidden > 3


def test_people_come_in_one_after_the_other_and_leave() -> None:
    footage = film(CROWD, TAKE, 4)
    assert footage.truth[0] == ()
    first = [
        next(n for n, faces in enumerate(footage.truth) if any(f.person == one.person for f in faces)) for one in CROWD
    ]
    assert len(set(first)) > 4
    assert max(first) < 40
    assert max(len(faces) for faces in footage.truth) == len(CROWD)
    assert len(footage.truth[-1]) < len(CROWD)
    for faces in footage.truth:
        for face in faces:
            assert 0 <= face.visible <= face.inside <= 1
            assert face.inside > 0
            assert 27 < face.box.height < 65


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nobody_is_hidden_for_long(seed: int) -> None:
    footage = film(CROWD, replace(TAKE, width=640, height=360, seconds=12), seed)
    for one in CROWD:
        run = 0
        for faces in footage.truth:
            (face,) = [face for face in faces if face.person == one.person] or [None]
            run = run + 1 if face and face.inside == 1 and face.visible < 0.5 else 0
            assert run <= 13


def test_a_head_tilts_with_what_is_cut_out_of_it() -> None:
    axis = (np.arange(120) + 0.5) / 120 * 2.2 - 1.1
    inside = opacity(*np.meshgrid(axis, axis)) > 0.02
    head = np.where(inside[:, :, None], np.array(RED), np.array(GREEN)).astype(np.uint8)
    for frame in film([Actor("ana", Sprite(head, 0.75))], TAKE, 3).frames:
        pixels = pixels_of(frame).astype(int)
        assert (pixels[:, :, 1] - pixels[:, :, 0]).max() < 70


def test_who_stands_is_there_all_the_time() -> None:
    footage = film(CROWD[:3], replace(TAKE, walk_in=False), 6)
    assert all(len(faces) == 3 for faces in footage.truth)
    assert all(face.inside == 1 for faces in footage.truth for face in faces)


def test_an_empty_room_and_a_cut() -> None:
    empty, busy = film((), TAKE, 7), film(CROWD[:1], TAKE, 8)
    assert set(empty.truth) == {()}
    assert len(set(empty.frames)) > 1  # the sensor is noisy
    both = busy.then(empty)
    assert both.frames == busy.frames + empty.frames
    assert both.truth == busy.truth + empty.truth
    walls = [pixels_of(footage.frames[0]).astype(int) for footage in (busy, empty)]
    assert np.abs(walls[0] - walls[1]).mean() > 4


def test_a_head_is_cut_out_around_its_face() -> None:
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[60:100, 120:150] = 255
    sprite = Sprite.cut_out(pixels, Box(120, 60, 30, 40))
    assert sprite.pixels.shape == (88, 88, 3)
    assert sprite.aspect == 0.75
    rows, columns, _ = np.nonzero(sprite.pixels)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (24, 63, 29, 58)


def test_a_head_at_the_edge_of_a_picture_goes_on_beyond_it_and_a_large_one_is_shrunk() -> None:
    pixels = np.full((100, 100, 3), 7, np.uint8)
    assert (Sprite.cut_out(pixels, Box(0, 0, 75, 100)).pixels == 7).all()
    large = Sprite.cut_out(np.full((900, 900, 3), 7, np.uint8), Box(300, 300, 225, 300))
    assert large.pixels.shape == (280, 280, 3)
