"""The greedy order over Ray actors is the order of one process; what is lost is made again."""

import re
import threading

import numpy as np
import pytest
import ray

from exdd_ray.banks.coreset import greedy_order
from exdd_ray.banks.projection import project, projection_matrix
from exdd_ray.errors import DataError, UserError
from exdd_ray.features.embed import embed
from exdd_ray.on_ray.cluster import end
from exdd_ray.on_ray.coreset import greedy_order_on_ray, start_actors
from exdd_ray.store.artifact import Store


@pytest.fixture(scope="module")
def embedding(catalog, features, tmp_path_factory):
    return embed(catalog, features, Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def actors():
    """They reserve one CPU of the cluster's two: beside them a test has room for another."""
    started = start_actors(3)
    assert len(started) == 3
    yield started
    end(started)


def require_equal(found, wanted):
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.radii, wanted.radii)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_any_number_of_shards_gives_the_same_order(embedding, actors, shards):
    at = np.arange(3, 63)
    wanted = greedy_order(embedding.vectors(at), 150, first=17)
    require_equal(greedy_order_on_ray(embedding, at, 150, first=17, actors=actors[:shards], frontier=60), wanted)


def test_an_order_of_projected_vectors(embedding, actors):
    at, matrix, steps = np.arange(2, 50), projection_matrix(embedding.dim, 32, 0), []
    wanted = greedy_order(project(embedding.vectors(at), matrix), 200, first=9)
    found = greedy_order_on_ray(
        embedding, at, 200, first=9, actors=actors, matrix=matrix, progress=lambda *step: steps.append(step)
    )
    require_equal(found, wanted)
    assert steps[-1] == (200, 200)


def test_a_killed_shard_is_rebuilt_and_the_order_goes_on(embedding, actors):
    at = np.arange(60)
    wanted = greedy_order(embedding.vectors(at), 300, first=0)
    killed = []

    def kill_once(made, _):
        if made > 20 and not killed:
            ray.kill(actors[1], no_restart=False)
            killed.append(made)

    found = greedy_order_on_ray(embedding, at, 300, first=0, actors=actors[:2], frontier=40, progress=kill_once)
    assert killed
    assert killed[0] < 300
    require_equal(found, wanted)


def test_actors_serve_one_order_after_another_and_two_at_a_time(embedding, actors):
    wanted = {}
    for first, at in ((0, np.arange(60)), (5, np.arange(60)), (7, np.arange(10, 41))):
        wanted[first] = greedy_order(embedding.vectors(at), 90, first=first)
        require_equal(
            greedy_order_on_ray(embedding, at, 90, first=first, actors=actors[:2], frontier=40), wanted[first]
        )
    both = {}

    def order(first):
        at = np.arange(60)
        both[first] = greedy_order_on_ray(embedding, at, 90, first=first, actors=actors[:2], frontier=40)

    threads = [threading.Thread(target=order, args=(first,), daemon=True) for first in (0, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for first in (0, 5):
        np.testing.assert_array_equal(both[first].indices, wanted[first].indices)


def test_an_interrupted_order_leaves_nothing_behind(embedding, actors):
    at = np.arange(60)

    def interrupt(made, _):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        greedy_order_on_ray(embedding, at, 90, first=3, actors=actors[:2], frontier=40, progress=interrupt)
    found = greedy_order_on_ray(embedding, at, 90, first=4, actors=actors[:2], frontier=40)
    np.testing.assert_array_equal(found.indices, greedy_order(embedding.vectors(at), 90, first=4).indices)


def test_a_round_that_ray_repeats_is_answered_again(embedding, actors):
    at, actor = np.arange(60), actors[0]
    wanted = greedy_order(embedding.vectors(at), 90, first=0)

    class Repeated:
        """Every call arrives twice, as where Ray has lost the answer of an actor that still runs."""

        def __init__(self, name):
            self._method = getattr(actor, name)

        def remote(self, *arguments):
            self._method.remote(*arguments)
            return self._method.remote(*arguments)

    class Twice:
        begin, advance = Repeated("begin"), Repeated("advance")

    require_equal(greedy_order_on_ray(embedding, at, 90, first=0, actors=[Twice], frontier=40), wanted)


def test_bad_requests_for_an_order(embedding, actors):
    at = np.arange(5)
    for first in (-1, 5 * embedding.patches):
        with pytest.raises(DataError, match=re.escape(f"first pick {first} is not one of")):
            greedy_order_on_ray(embedding, at, 9, first=first, actors=actors)
    with pytest.raises(DataError, match="at least one pick"):
        greedy_order_on_ray(embedding, at, 0, first=0, actors=actors)
    with pytest.raises(DataError, match="not one of 0 vectors"):
        greedy_order_on_ray(embedding, at[:0], 9, first=0, actors=actors)
    (ended,) = start_actors(1)
    ray.kill(ended)
    with pytest.raises(UserError, match=r"\A[^\n]*cannot answer: ActorDied[^\n]*\Z"):
        greedy_order_on_ray(embedding, at, 9, first=0, actors=[actors[0], ended])
