"""A damaged file of secrets costs who needs a secret, and nobody else."""

import pytest
from tests.e2e.farm import Farm
from tests.e2e.nursery import run_forked

import lineshaft


def test_who_needs_a_secret_is_told_of_the_damage_and_the_coordinator_goes_on(site: Farm) -> None:
    (site.folder / "data").mkdir(mode=0o700)
    (site.folder / "data" / "secrets.json").write_text('{"A": {}}')
    coordinator = site.start_coordinator()

    listed = run_forked(["-m", "lineshaft", "secret", "list", "--url", site.url], site.environ)
    with site.client() as client:
        future = client.options(secrets=["A"]).submit(print)
        with pytest.raises(lineshaft.LineshaftError, match=r"secrets\.json: .*Bring the file back"):
            future.result(timeout=30)

    assert "secrets.json: " in listed.stderr
    assert listed.returncode == 1
    assert coordinator.popen.poll() is None
    assert "Traceback" not in coordinator.said()
