"""A time that is no time is refused where it comes in, and mended in what was kept before."""

import pytest

from lineshaft_coordinator.core.records import FileKept, decode
from lineshaft_protocol.codec import FROM_WORKER
from lineshaft_protocol.errors import ProtocolError
from lineshaft_runtime.spool_lines import parse_line

NO_TIMES = ["NaN", "Infinity", "-Infinity", "1e999"]
KEPT = '{"file_id":"1.1","kind":"checkpoint","name":"m.pt","attempt":1,"at":%s}'


@pytest.mark.parametrize("at", NO_TIMES)
@pytest.mark.parametrize(
    "message",
    [
        '{"type":"JobEvents","events":[{"job_id":"j","attempt":1,"seq":1,"at":%s,"kind":"log","body":{}}]}',
        '{"type":"Kept","job_id":"j","file":' + KEPT + "}",
        '{"type":"Ended","result":{"job_id":"j","attempt":1,"status":"succeeded","run_s":%s}}',
    ],
    ids=["event", "file", "end"],
)
def test_a_worker_that_tells_no_time_breaks_the_protocol(message: str, at: str) -> None:
    assert FROM_WORKER.decode((message % "1.0").encode())

    with pytest.raises(ProtocolError, match=r"\.(at|run_s)"):
        FROM_WORKER.decode((message % at).encode())


@pytest.mark.parametrize("at", NO_TIMES)
def test_a_line_of_a_job_that_tells_no_time_is_none_of_ours(at: str) -> None:
    line = b'{"k":"notice","n":1,"t":%s,"m":%s,"b":{}}'

    assert parse_line(line % (b"1.0", b"1.0")) is not None
    assert parse_line(line % (at.encode(), b"1.0")) is None
    assert parse_line(line % (b"1.0", at.encode())) is None


@pytest.mark.parametrize("at", NO_TIMES)
def test_a_file_that_was_kept_without_a_time_is_still_kept(at: str) -> None:
    record = decode(f'{{"type":"FileKept","job_id":"j","file":{KEPT % at}}}'.encode())

    assert isinstance(record, FileKept)
    assert record.file.at == 0.0
