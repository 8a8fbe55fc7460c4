"""What a user of the published client (PyPI: somatize) runs: prints what each case gave, as JSON.

Run by the client's own Python, where nothing of Lineshaft is installed. `URL TOKEN CASE…`
"""

import itertools
import json
import sys
import threading

import colorama  # At home in the client's environment; a worker has to install it.
import soma
from soma import Filter, Graph

URL, TOKEN = sys.argv[1:3]
IS_NEW = hasattr(Graph, "loop")
"""Dialect C; before, a graph is fitted before it runs, whatever is in it."""


class Double(Filter):
    _kind = "stateless"

    def forward(self, x, state=None):
        return [Double().forward(v) if isinstance(v, list) else v * 2 for v in x]


class Add(Filter):
    _kind = "stateless"

    def __init__(self, n=1):
        self.n = n

    def forward(self, x, state=None):
        return [v + self.n for v in x]


class Learn(Filter):
    def fit(self, x, y=None):
        return {"x": x, "y": y}

    def forward(self, x, state):
        return {"x": x, "learned": state}


class Seen(Filter):
    _kind = "stateless"

    def forward(self, x, state=None):
        return {"seen": x}


class Odd(Filter):
    _kind = "stateless"

    def forward(self, x, state=None):
        return {"pair": (1, {"deep": ()}), "text": "ä\n", "none": None}


class Boom(Filter):
    _kind = "stateless"

    def forward(self, x, state=None):
        print("printed in vain")
        raise ValueError('bad "quote" \\ here')


class Count(Filter):
    _kind = "stateless"

    def forward(self, x, state=None):
        return [float(len(x))]


class Make(Filter):
    _kind = "stateless"

    def forward(self, x, state=None):
        return [i + 0.123456789 for i in range(int(x[0]))]


class Needs(Filter):
    _kind = "stateless"

    def forward(self, x, state=None):
        return {"name": colorama.__name__}


class Next(Filter):
    _kind = "stateless"

    def forward(self, x, state=None):
        n = x["n"] if isinstance(x, dict) else x[0]
        return {"n": n + 1, "done": n + 1 >= 5}


class Route(Filter):
    _kind = "stateless"

    def forward(self, x, state=None):
        return {"branch": "big" if x[0] > 10 else "small"}


def graph(*filters, edges=None, token=TOKEN):
    made = Graph(cache="memory") if IS_NEW else Graph()
    names = "abcdefg"[: len(filters)]
    for name, each in zip(names, filters, strict=True):
        made.node(name, each)
    for source, target in itertools.pairwise(names) if edges is None else edges:
        made.edge(source, target)
    made.add_worker(URL, token=token)
    return made


def forward(made, x, **options):
    if not IS_NEW:
        made.fit(x)
    return made.forward(x, **options)


def chain():
    return forward(graph(Double(), Add(10), Double()), [1.0, 2.0])


def rows():
    return forward(graph(Double()), [[1.0, 2.0], [3.0, 4.0]])


def fitted():
    made = graph(Double(), Learn())
    made.fit([1.0, 2.0], [0.0, 1.0])
    return made.forward([9.0])


def fitted_again():
    made = graph(Learn())
    made.fit([1.0, 2.0], [0.0, 1.0])
    made.fit([1.0, 2.0], [5.0, 6.0])
    return made.forward([9.0])["learned"]["y"]


def forked():
    return forward(
        graph(Double(), Add(10), Add(100), Seen(), edges=("ab", "ac", "bd", "cd")), [1.0]
    )


def odd():
    return forward(graph(Odd()), [1.0])


def fails():
    return forward(graph(Boom()), [1.0])


def streamed():
    made = graph(Double(), Double())
    return forward(made, [[float(i)] for i in range(40)], stream=True, chunk_size=16)


def stream_fails():
    return forward(graph(Boom()), [[1.0], [2.0]], stream=True, chunk_size=1)


def sent_much():
    return forward(graph(Count()), [i + 0.123456789 for i in range(600_000)])


def got_much():
    return len(forward(graph(Make()), [600_000.0]))


def needy():
    return forward(graph(Needs()), [1.0])


def at_once():
    found = {}

    def one(number):
        found[number] = forward(graph(Double(), Add(number)), [float(number)])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return [found[number] for number in range(4)]


def looked():
    lab = soma.Lab.connect(URL.replace("ws:", "http:"))
    return [lab.health(), lab.info()["type"], lab.info()["capabilities"]["tags"]]


def stranger():
    return graph(Double(), token="wrong").fit([1.0])


def stopped():
    graph(Double()).shutdown_worker(URL, "enough")
    return chain()


def looped():
    made = Graph(cache="memory")
    made.node("next", Next())
    made.loop("l", body="next", max_iterations=20)
    made.add_worker(URL, token=TOKEN)
    return made.forward([1.0])


def looped_out():
    made = Graph(cache="memory")
    made.node("d", Double())
    made.loop("l", body="d", until=False, max_iterations=4)
    made.add_worker(URL, token=TOKEN)
    return made.forward([1.0])


def branched():
    found = []
    for x in ([1.0], [100.0]):
        made = Graph(cache="memory")
        made.branch("r", Route(), {"big": Seen(), "small": Odd()})
        made.add_worker(URL, token=TOKEN)
        found.append(made.forward(x))
    return found


def split():
    made = graph(Double())
    made.set_strategy("data_parallel", num_replicas=2)
    return made.forward([[1.0], [2.0], [3.0]])


def report(name):
    try:
        told = globals()[name]()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        told = f"{type(error).__name__}: {error}"
    return told


print(json.dumps({name: report(name) for name in sys.argv[3:]}))
