"""Processes are killed and the disk is full, at any moment: nothing that was seen is lost, nothing moves unasked."""

import logging
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.twin.crash_site import CrashSite

log = logging.getLogger(__name__)

ROUNDS = {"kill_server": 25, "kill_driver": 35, "kill_client": 20, "fill_disk": 20}
SEED = 20261001


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="the limit for a full disk is set from outside")
def test_a_hundred_crashes_lose_nothing_that_was_seen(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    rounds = [kind for kind, times in ROUNDS.items() for _ in range(times)]
    chance.shuffle(rounds)
    seconds: Counter[str] = Counter()
    site = CrashSite(tmp_path, SEED)
    try:
        for kind in rounds:
            time.sleep(chance.uniform(0, 0.3))
            begin = time.monotonic()
            if kind == "fill_disk":
                site.fill_disk(chance.choice((0, 1000, 5000, 20_000, 40_000)), chance.uniform(0, 0.2))
            elif kind == "kill_server":
                site.kill_server(chance.choice((None, None, chance.uniform(0, 1))))
            else:
                getattr(site, kind)()
            seconds[kind] += time.monotonic() - begin
        entries = site.check_journal()
    finally:
        site.close()
    for what in (seconds, site.unseen, site.endings, entries, site.errors(), sum(site.seen().values())):
        log.info("%s", what)
    # The accidents met the instrument at work.
    assert site.endings["running"] + site.endings["failed"] > 10
    assert site.endings["done"] > 10
