"""Filters like those behind the captured frames, for interpreters of any version."""

from tests.integration.gateway.seed_bench import upstream_pickle


class Doubler:
    def fit(self, x, y=None):
        return {"n": len(x)}

    def forward(self, x, state):
        return [v * 2 for v in x]


class Scaler:
    def fit(self, x, y=None):
        return {"mean": sum(x) / len(x), "y": y}

    def forward(self, x, state):
        return [v - state["mean"] for v in x]


class Printer:
    def forward(self, x, state):
        print("hello from filter")
        return x


class Look:
    def forward(self, x, state):
        return {"seen": x, "state": state}


class Boom:
    def forward(self, x, state):
        raise ValueError('bad "quote" \\ value')


class Big:
    """Gives about 20 MB of JSON."""

    def forward(self, x, state):
        return [float(i) + 0.1234567891 for i in range(1_100_000)]


class Needy:
    """Gives the version of a package that its plan requires."""

    def forward(self, x, state):
        import lsseed  # noqa: PLC0415 - a client's own script has no globals of ours

        return [float(lsseed.version)]


class Same:
    def forward(self, x, state):
        return x


class Slow:
    """Does not end by itself, but leaves a file to say that it began."""

    def forward(self, x, state):
        import pathlib  # noqa: PLC0415 - a client's own script has no globals of ours
        import signal  # noqa: PLC0415

        pathlib.Path(x["began"]).touch()
        signal.pause()


class PickyAboutThree:
    def forward(self, x, state):
        if 3.0 in x:
            raise ValueError("no threes")
        return [v * 2 for v in x]


def pickles() -> dict[str, str]:
    """By what the captured frames call them, and by name."""
    doubler = upstream_pickle(Doubler)
    named = {
        each.__name__: upstream_pickle(each)
        for each in (Scaler, Printer, Look, Boom, Big, Needy, Same, Slow, PickyAboutThree)
    }
    return named | {
        "Doubler": doubler, "d": doubler, "d2": doubler, "t": doubler, "doubler": doubler,
        "doubler_2": doubler, "doubler_3": doubler, "pr": named["Printer"],
        "scaler": named["Scaler"], "j": named["Look"], "json": named["Look"],
        "boom": named["Boom"], "b": named["Same"], "big": named["Same"], "s": named["Same"],
    }  # fmt: skip
