"""What the findings of a checkup say: what was found, how sure that is, and what to do about it."""

import math


def same_image(first: str, second: str) -> str:
    """Two people have the same picture."""
    return (
        f"{first} and {second} have the very same picture, which cannot show both. If they are one person:"
        f" `facesvc subjects merge {first} {second}`; if not, take the sample from whoever it does not show:"
        " `facesvc subjects correct`"
    )


def unlike_others(subject_id: str, count: int, others: int, similarity: float, rate: float) -> str:
    """Samples of somebody that are unlike the rest."""
    often = f"of different people at least 1 pair in {_rounded(1 / rate):,} is as alike"
    how = f"similarity {similarity:.3f} at best; {often}"
    if count == others:
        which = "the two samples" if count == 1 else f"{count} samples and the other {others}"
        return f"{subject_id}: {which} are not alike ({how}). Some may show somebody else: look at all of them"
    which = "a sample is" if count == 1 else f"{count} samples are"
    return f"{subject_id}: {which} not like the other {others} ({how}). Look whether it shows somebody else, or nobody"


def rather(subject_id: str, sample_id: str, other_id: str, similarity: float) -> str:
    """Whom such a sample is like instead."""
    return (
        f"; it is like {other_id} ({similarity:.3f}): `facesvc subjects correct {subject_id} {sample_id}"
        f" --actual {other_id}` makes it theirs"
    )


def alike(first: str, second: str, similarity: float, rate: float, pairs: int) -> str:
    """Two people who look like one."""
    expected = rate * pairs
    chance = f"about {_rounded(expected):,} are so" if expected >= 1 else "hardly one is so"
    return (
        f"{first} and {second} look like one person: similarity {similarity:.3f}; of different people at most 1 pair"
        f" in {_rounded(1 / rate):,} is so alike, and of the {pairs:,} pairs of samples here {chance} by chance. If"
        f" they are one: `facesvc subjects merge {first} {second}`; if not, such as twins, searches find them"
        " AMBIGUOUS: add good pictures of both"
    )


def no_sample(subject_id: str, count: int) -> str:
    """Somebody whom no search can find."""
    if count:
        return (
            f"{subject_id} is never recognised: the {count} samples were made by other models, and no crop was kept to"
            " make them anew. Enrol pictures again"
        )
    return f"{subject_id} is never recognised: there is no sample. Enrol a picture, or erase the person"


def poor_sample(subject_id: str, quality: float) -> str:
    """Somebody with nothing but a poor sample."""
    return (
        f"{subject_id} has one sample, of quality {quality:.2f} only, and is missed more often than others. Enrol two"
        " or three good pictures: `facesvc enroll`"
    )


def _rounded(number: float) -> int:
    """To two digits, so that nobody takes it for more exact than it is."""
    digits = max(0, int(math.log10(max(number, 1.0))) - 1)
    return int(round(number, -digits))
