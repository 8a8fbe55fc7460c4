"""Small objects that never change."""

from dataclasses import field, fields, replace

from lineshaft_protocol.values import value


@value()
class _Place:
    row: int
    seat: int = 1
    secret: str = field(default="", repr=False)
    note: str = field(default="", compare=False)


@value(kw_only=True)
class _Other:
    row: int
    seat: int = 1


@value()
class _Empty:
    pass


@value()
class _Told:
    text: str

    def __repr__(self) -> str:
        return "told"


def test_what_has_the_same_fields_is_equal_and_hashes_alike() -> None:
    assert _Place(1, 2) == _Place(1, 2)
    assert hash(_Place(1, 2)) == hash(_Place(1, 2))
    assert _Place(1, 2) != _Place(1, 3)
    assert _Place(1) == _Place(1, note="not compared")
    assert len({_Place(1), _Place(1), _Place(2)}) == 2


def test_objects_of_different_classes_are_never_equal() -> None:
    assert _Place(1) != _Other(row=1)
    assert _Empty() == _Empty()
    assert hash(_Empty()) == hash(_Empty())
    assert _Empty() != _Place(1)


def test_what_must_not_be_shown_is_not_shown() -> None:
    assert repr(_Place(1, secret="hush")) == "_Place(row=1, seat=1, note='')"
    assert repr(_Other(row=1)) == "_Other(row=1, seat=1)"
    assert repr(_Empty()) == "_Empty()"


def test_an_object_that_holds_itself_can_be_shown() -> None:
    around: list[object] = []
    place = _Place(around)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - what a test needs
    around.append(place)

    assert repr(place) == "_Place(row=[...], seat=1, note='')"


def test_a_class_may_have_methods_of_its_own() -> None:
    assert repr(_Told("x")) == "told"
    assert _Told("x") == _Told("x")


def test_fields_are_known_and_have_slots() -> None:
    place = _Place(1)

    assert [each.name for each in fields(place)] == ["row", "seat", "secret", "note"]  # type: ignore[arg-type]
    assert replace(place, seat=5) == _Place(1, 5)  # type: ignore[type-var]
    assert not hasattr(place, "__dict__")
