"""A Submit that is sent again, when its payload has been collected meanwhile."""

import hashlib
import shutil

from tests.e2e.farm import Farm
from tests.e2e.rawclient import RawClient

from lineshaft_protocol.blob_messages import BlobOffer, BlobStatus
from lineshaft_protocol.client_messages import Accepted, Cancel, Finished, Refused, Submit
from lineshaft_protocol.frames import encode_chunk
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.jobs import JobSpec, Payload

CONTENT = b"x" * 40_000
BLOB = BlobId(hashlib.sha256(CONTENT).hexdigest())


def spec(job_id: str) -> JobSpec:
    payload = Payload(blob=BLOB, size_bytes=len(CONTENT))
    return JobSpec(job_id=job_id, kind="function", payload=payload)


def test_a_repeat_is_looked_up_before_its_payload_is_missed(site: Farm) -> None:
    coordinator = site.start_coordinator()
    with RawClient(site) as client:
        client.say(BlobOffer(blob_id=BLOB, size_bytes=len(CONTENT)))
        client.hear(BlobStatus)
        client.socket.send(b"".join(encode_chunk(BLOB, 0, CONTENT)))
        client.hear(BlobStatus)
        for job_id in ("ended", "live"):
            client.say(Submit(job=spec(job_id)))
            client.hear(Accepted)
        client.say(Cancel(job_id="ended", reason="enough"))
        client.hear(Finished)
    coordinator.terminate()
    shutil.rmtree(site.folder / "data" / "blobs")
    site.start_coordinator()

    with RawClient(site) as client:
        client.say(Submit(job=spec("ended"), is_repeat=True))
        ended = client.hear(Accepted, Refused), client.hear(Finished)
        client.say(Submit(job=spec("live"), is_repeat=True))
        live = client.hear(Accepted, Refused)
        client.say(Submit(job=spec("never"), is_repeat=True))
        never = client.hear(Accepted, Refused)
        client.say(Submit(job=spec("new")))
        new = client.hear(Accepted, Refused)

    assert ended[0] == Accepted(job_id="ended")
    assert isinstance(ended[1], Finished)
    assert ended[1].outcome.status == "cancelled"
    assert live == Accepted(job_id="live")
    assert isinstance(never, Refused)
    assert isinstance(new, Refused)
    assert (never.code, never.job_id) == ("blob_missing", "never")
    assert (new.code, new.job_id) == ("blob_missing", "new")
