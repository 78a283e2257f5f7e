"""cluster/local.sh for real: a head with a token, and jobs that are submitted to it."""

import stat
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

HOLD = Path(__file__).parents[2] / "cluster/hold.py"
ANSWER = "import ray; ray.init(); print('answer', ray.get(ray.remote(lambda: 41 + 1).remote()))"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hold.py").write_bytes(HOLD.read_bytes())
    return tmp_path


def test_a_job_with_the_token_runs_on_the_resources_that_are_held(head, folder):
    done = head.submit("python", "hold.py", "CPU=2", "--", "python", "-c", ANSWER, working_dir=folder, seconds=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answer 42" in done.stdout.splitlines()


def test_a_job_fails_where_the_resources_do_not_come(head, folder):
    command = ("python", "hold.py", "--seconds", "1", "GPU=3", "CPU=2", "--", "python", "-c", ANSWER)
    done = head.submit(*command, working_dir=folder, seconds=60)
    assert done.returncode
    assert "hold.py: after 1 s the cluster has only 0 of 3 GPU" in done.stdout.splitlines()
    assert "answer 42" not in done.stdout.splitlines()


@pytest.mark.parametrize("token", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}])
def test_a_job_without_the_token_is_refused(head, folder, token):
    stranger = {key: value for key, value in head.env.items() if not key.startswith("RAY_AUTH")} | token
    done = head.submit("python", "-c", ANSWER, working_dir=folder, seconds=30, env=stranger)
    assert done.returncode
    assert "AuthenticationError" in done.stderr
    assert "answer" not in done.stdout


def test_the_token_is_for_its_owner_alone(head):
    file = Path(head.env["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text()) == 64
