"""The roots of Lineshaft's exceptions."""


class LineshaftError(Exception):
    """Something that a user of Lineshaft may want to catch."""


class ProtocolError(LineshaftError):
    """A peer sent what the protocol does not allow."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
