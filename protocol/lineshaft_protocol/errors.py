"""The roots of Lineshaft's exceptions."""


class LineshaftError(Exception):
    """Something that a user of Lineshaft may want to catch."""


class ProtocolError(LineshaftError):
    """A peer sent what the protocol does not allow."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadNameError(LineshaftError, ValueError):
    """A text can be no name of a job, an array or a client."""

    def __init__(self, what: str, text: object) -> None:
        super().__init__(
            f"{text!r} can be no name of {what}: one has 1 to 128 letters, digits and _.:@+-, "
            "and begins with a letter or digit"
        )
        self.what, self.text = what, text
