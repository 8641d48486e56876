"""Who is in which picture: names of files and folders, ids made from names, CSVs."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesvc.cli.people import Person, find_people, slug
from facesvc.errors import InputError

HEADER = "subject_id,name,path,employee_no\n"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(*paths: Path, name: str = "") -> dict[str, list[str]]:
    """The names of the pictures of each person."""
    people = find_people(paths, name)
    return {person.display_name: [picture.path.name for picture in person.pictures] for person in people}


def table(folder: Path, text: str, encoding: str = "utf-8") -> list[Person]:
    path = folder / "people.csv"
    path.write_bytes(text.encode(encoding))
    return find_people([path])


@pytest.mark.parametrize(
    ("name", "subject_id"),
    [
        ("Jane Doe", "jane-doe"),
        ("  Zoë   O'Neill ", "zoe-o-neill"),
        ("Łukasz Groß", "lukasz-gross"),
        ("Søren Ærø", "soren-aero"),
        ("İpek I\u015f\u0131k", "ipek-isik"),
        ("ﬁona", "fiona"),
        ("j.doe@office", "j-doe-office"),
    ],
)
def test_an_id_is_the_name_in_plain_letters(name: str, subject_id: str) -> None:
    assert slug(name) == subject_id


def test_names_that_ascii_cannot_hold_stay_apart() -> None:
    ids = {slug(name) for name in ("王伟", "王芳", "Иван", "Ivan Иванов", "Ivan Петров", "!!!", "???")}

    assert len(ids) == 7
    assert slug("Ivan Иванов").startswith("ivan-")


def test_a_name_is_the_same_composed_and_decomposed() -> None:
    assert slug("Zoe\u0308 王") == slug("Zo\u00eb 王")


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=256))
def test_every_id_is_one_that_the_server_takes(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}", slug(name))


def test_a_file_is_a_person(tmp_path: Path) -> None:
    touch(tmp_path, "Jane Doe.jpg", "odd.heic")

    assert found(tmp_path / "Jane Doe.jpg", tmp_path / "odd.heic") == {
        "Jane Doe": ["Jane Doe.jpg"],
        "odd": ["odd.heic"],
    }


def test_a_numbered_file_is_the_person_of_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "Jane Doe/1.jpg", "Jane Doe/2.jpg")

    assert found(*sorted((tmp_path / "Jane Doe").iterdir())) == {"Jane Doe": ["1.jpg", "2.jpg"]}


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("jane", ("1.jpg", "2.PNG", "0003.webp")),
        ("jane", ("IMG_2041.jpg", "DSC00017.jpg")),
        ("Jane_Doe", ("Jane_Doe_0001.jpg", "Jane_Doe_0002.jpg")),
        ("Jane Doe", ("front.jpg", "left.jpg")),
        ("Zoë von Doe", ("a.bmp", "b.jpeg")),
    ],
)
def test_a_folder_of_one_person(tmp_path: Path, folder: str, files: tuple[str, ...]) -> None:
    touch(tmp_path / folder, *files)

    assert found(tmp_path / folder) == {folder: sorted(files)}


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("people", ("Jane Doe.jpg", "John Roe.jpg")),
        ("people", ("anna.jpg", "bob.jpg")),
        ("Sales Team", ("Anna.jpg", "Bob.jpg")),
        ("people", ("person1.jpg", "person2.jpg")),
        ("Jane", ("front.jpg", "left.jpg")),
    ],
)
def test_a_folder_of_people(tmp_path: Path, folder: str, files: tuple[str, ...]) -> None:
    touch(tmp_path / folder, *files)

    assert found(tmp_path / folder) == {Path(name).stem: [name] for name in files}


def test_a_folder_of_files_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, "Anna.jpg", "Bob/1.jpg", "Bob/smile.jpg", "Bob/old/3.jpg", "list.xlsx", ".hidden.jpg")

    assert found(tmp_path) == {"Anna": ["Anna.jpg"], "Bob": ["1.jpg", "smile.jpg"]}
    told = capsys.readouterr().err
    assert "skipped, not pictures: list.xlsx\n" in told
    assert "skipped, not pictures: old/\n" in told


def test_a_file_and_a_folder_of_the_same_name_are_one_person(tmp_path: Path) -> None:
    touch(tmp_path, "Anna.jpg", "Anna/1.jpg")

    assert found(tmp_path) == {"Anna": ["Anna.jpg", "1.jpg"]}


def test_a_name_settles_it(tmp_path: Path) -> None:
    touch(tmp_path, "a/front.jpg", "b.jpg")

    assert found(tmp_path / "a", tmp_path / "b.jpg", name="Jane Doe") == {"Jane Doe": ["front.jpg", "b.jpg"]}


def test_two_names_with_one_id_are_refused_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "Jane Doe.jpg", "Jane-Doe.png")

    with pytest.raises(InputError, match=r"'Jane Doe' .*Jane Doe\.jpg.* and 'Jane-Doe' .*Jane-Doe\.png.* id jane-doe"):
        find_people([tmp_path])


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_to_enrol_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(InputError, match=name):
        find_people([tmp_path / name])


@pytest.mark.skipif(os.name != "posix", reason="names of files are text elsewhere")
def test_a_file_name_that_is_no_text_still_has_a_person(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/J\xe9r\x1b[31m.jpg"))
    path.touch()

    assert found(path) == {"Jr[31m": [path.name]}


def test_a_table_names_people_their_pictures_and_ids(tmp_path: Path) -> None:
    text = HEADER + 'jd,"Doe, Jane",faces/1.jpg,17\njd,"Doe, Jane",/abs/2.jpg,\n,Zoë,3.jpg,\n\n'

    jane, zoe = table(tmp_path, text, "utf-8-sig")

    assert (jane.subject_id, jane.display_name, jane.external_ids) == ("jd", "Doe, Jane", {"employee_no": "17"})
    assert [picture.path for picture in jane.pictures] == [tmp_path / "faces/1.jpg", Path("/abs/2.jpg")]
    assert [picture.where for picture in jane.pictures] == [f"{tmp_path}/people.csv line {line}" for line in (2, 3)]
    assert (zoe.subject_id, zoe.display_name, zoe.external_ids) == ("zoe", "Zoë", {})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("subject_id;name;path\n", "line 1: no column subject_id, name, path; found subject_id;name;path"),
        ("subject_id,name\n", "line 1: no column path"),
        ("subject_id,name,path,Badge No\n", "line 1: column 'Badge No'"),
        ("subject_id,name,path,name\n", "line 1: two columns are called 'name'"),
        (HEADER + "a,A,a.jpg,1\nb,B\n", "line 3: 2 cells, 4 are needed"),
        (HEADER + "a,A,a.jpg,1\n\nb,B,,\n", "line 4: path is empty"),
        (HEADER + ",,a.jpg,\n", "line 2: subject_id and name are both empty"),
        (HEADER + "a b,A,a.jpg,\n", "line 2: subject_id 'a b' is not"),
        (HEADER + 'a,"A,a.jpg,\n', "line 2: unexpected end of data"),
        (HEADER + "a,A,1.jpg,1\na,A,2.jpg,2\n", "line 2 and .*line 3 give a different values of employee_no"),
        (HEADER + "a,A,1.jpg,\na,B,2.jpg,\n", "'A' .*line 2.* and 'B' .*line 3"),
    ],
)
def test_a_table_that_is_wrong_is_refused_by_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        table(tmp_path, text)


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not UTF-8"):
        table(tmp_path, HEADER + "zoe,Zoë,1.jpg,\n", "latin-1")


def test_a_table_says_who_is_who_itself(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(HEADER)

    with pytest.raises(InputError, match="leave out --name"):
        find_people([tmp_path / "people.csv"], "Jane Doe")
