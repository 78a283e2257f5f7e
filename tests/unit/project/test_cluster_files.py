"""The cluster files against Ray's own schema and KubeRay's fields, offline."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from kuberay_fields import PersistentVolumeClaim, RayCluster, RayJob
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster"
CLOUDS = ("aws.yaml", "gcp.yaml")
KUBERNETES = ("pvc.yaml", "raycluster.yaml", "rayjob.yaml")
SCRIPTS = ("local.sh", "slurm.sh")
FILLED = {
    "EXDD_IMAGE": "registry.example/exdd:1",
    "EXDD_GPU_WORKERS": "3",
    "EXDD_REGION": "region-1",
    "EXDD_ZONE": "region-1a",
    "EXDD_VM_IMAGE": "vm-image",
    "EXDD_STORAGE": "storage.example",
    "EXDD_SECURITY_GROUP": "sg-1",
    "EXDD_PROJECT": "project-1",
    "EXDD_STORAGE_CLASS": "shared",
}
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD")


def fill(*names, **environment):
    command = [sys.executable, str(CLUSTER / "fill.py"), *(str(CLUSTER / name) for name in names)]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **environment})


@pytest.fixture(scope="module")
def filled():
    done = {name: fill(name, **FILLED) for name in (*CLOUDS, *KUBERNETES)}
    assert all(not one.returncode for one in done.values())
    return {name: yaml.safe_load(one.stdout) for name, one in done.items()}


# Filling in


def test_fill_replaces_variables_with_braces_only():
    done = fill("aws.yaml", **FILLED)
    assert "${" not in done.stdout
    assert "--address=$RAY_HEAD_IP:6379" in done.stdout


@pytest.mark.parametrize("name", ["aws.yaml", "rayjob.yaml"])
@pytest.mark.parametrize("image", [{}, {"EXDD_IMAGE": ""}])
def test_fill_names_what_is_not_set(name, image):
    done = fill(name, **({key: value for key, value in FILLED.items() if key != "EXDD_IMAGE"} | image))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "EXDD_IMAGE" in done.stderr


def test_fill_takes_defaults():
    environment = {key: value for key, value in FILLED.items() if key != "EXDD_GPU_WORKERS"}
    assert yaml.safe_load(fill("aws.yaml", **environment).stdout)["max_workers"] == 4


def test_every_variable_is_in_the_readme():
    text = "".join((CLUSTER / name).read_text() for name in (*CLOUDS, *KUBERNETES))
    named = set(re.findall(r"\$\{(\w+)", text))
    assert named == set(re.findall(r"`(EXDD_\w+)`", (CLUSTER / "README.md").read_text()))


# `ray up`


@pytest.mark.parametrize("name", CLOUDS)
def test_ray_accepts_the_cloud_files(filled, name):
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(filled[name], schema)
    prepared = prepare_config(filled[name])
    validate_config(prepared)
    assert prepared["setup_commands"] == prepared["head_setup_commands"] == prepared["worker_setup_commands"] == []


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_are_spot_and_come_on_demand(filled, name):
    head, gpu = (filled[name]["available_node_types"][kind] for kind in ("head", "gpu"))
    assert (gpu["min_workers"], gpu["max_workers"], filled[name]["max_workers"]) == (0, 3, 3)
    assert "GPU" not in head["resources"]
    assert gpu["resources"]["GPU"] >= 1
    assert "spot" in json.dumps(gpu["node_config"]).lower()
    assert "spot" not in json.dumps(head["node_config"]).lower()
    assert filled[name]["idle_timeout_minutes"] > 0
    assert filled[name]["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("name", CLOUDS)
def test_cloud_machines_share_the_store_and_the_token(filled, name):
    config = filled[name]
    assert "-v /mnt/exdd:/mnt/exdd" in config["docker"]["run_options"]
    assert any(
        "mount -t nfs" in command and "/mnt/exdd" in command and "storage.example" in command
        for command in config["initialization_commands"]
    )
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert "-e RAY_AUTH_TOKEN_PATH=/etc/exdd/auth_token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"/etc/exdd": "~/.exdd/secrets"}
    (start,) = (command for command in config["head_start_ray_commands"] if "ray start" in command)
    assert "--dashboard-host=127.0.0.1" in start
    assert not re.search(r"0\.0\.0\.0", yaml.safe_dump(config))


# KubeRay


@pytest.fixture(scope="module")
def cluster(filled):
    return RayCluster.model_validate(filled["raycluster.yaml"])


@pytest.fixture(scope="module")
def job(filled):
    return RayJob.model_validate(filled["rayjob.yaml"])


def test_both_kuberay_files_describe_one_cluster(cluster, job):
    assert job.spec.ray_cluster_spec == cluster.spec


def test_kuberay_workers_come_on_demand(cluster):
    (group,) = cluster.spec.worker_group_specs
    assert cluster.spec.enable_in_tree_autoscaling
    assert (group.replicas, group.min_replicas, group.max_replicas) == (0, 0, 3)
    head, worker = (pod.containers[0].resources for pod in cluster.spec.pods)
    assert "nvidia.com/gpu" not in head.requests
    assert worker.limits["nvidia.com/gpu"] == "1"
    assert all({"cpu", "memory"} <= one.requests.keys() and one.limits == one.requests for one in (head, worker))


def test_kuberay_pods_have_one_image_and_one_store(cluster, filled):
    claim = PersistentVolumeClaim.model_validate(filled["pvc.yaml"])
    assert claim.spec.access_modes == ["ReadWriteMany"]
    for pod in cluster.spec.pods:
        (container,), (volume,) = pod.containers, pod.volumes
        assert container.image == FILLED["EXDD_IMAGE"]
        assert volume.persistent_volume_claim.claim_name == claim.metadata.name
        assert [(mount.name, mount.mount_path) for mount in container.volume_mounts] == [(volume.name, "/mnt/exdd")]
        assert pod.security_context.run_as_non_root


def test_kuberay_asks_for_a_token(cluster):
    assert cluster.spec.auth_options.mode == "token"
    major, minor, _ = map(int, cluster.spec.ray_version.split("."))
    assert (major, minor) >= (2, 52)  # KubeRay refuses the token mode below


def test_the_operators_secret_is_not_the_users(cluster):
    named = {env.value_from.secret_key_ref.name for pod in cluster.spec.pods for env in pod.containers[0].env}
    assert named == {"exdd-secrets"}
    assert cluster.metadata.name not in named


def test_the_job_runs_a_sweep_that_exists(job):
    scripts = re.findall(r"/opt/exdd/(\S+\.py)", job.spec.entrypoint)
    assert scripts == ["cluster/hold.py", "sweeps/synth_count.py"]
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
    assert job.spec.shutdown_after_job_finishes
    assert job.spec.active_deadline_seconds > 0


# All files


def test_no_secret_is_written_down(filled):
    def literals(node, path=""):
        if isinstance(node, dict):
            if "name" in node and "value" in node and SECRET.search(str(node["name"])):
                yield f"{path}.{node['name']}"
            for key, value in node.items():
                yield from literals(value, f"{path}.{key}")
        elif isinstance(node, list):
            for value in node:
                yield from literals(value, path)
        elif match := re.search(r"\b(\w*(?:KEY|TOKEN|SECRET|PASSWORD)\w*)=(?!/)", str(node)):
            yield f"{path}: {match[1]}"

    assert [found for name in filled for found in literals(filled[name], name)] == []
    for name in ("Containerfile", *SCRIPTS):
        for secret, value in re.findall(r"\b(\w*(?:KEY|TOKEN|SECRET)\w*)=(\S+)", (CLUSTER / name).read_text()):
            assert value.startswith("$"), f"{name}: {secret}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_bash(script):
    path = CLUSTER / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
    assert "ray stop" not in path.read_text()
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", path], check=True)


def test_slurm_says_what_it_lacks(tmp_path):
    def run(*arguments, **environment):
        command = ["bash", str(CLUSTER / "slurm.sh"), *arguments]
        where = {"cwd": tmp_path, "env": {"PATH": os.environ["PATH"], **environment}}
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, **where)
        assert done.returncode
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "EXDD_SHARED" in run("python", "x.py")
    assert "the command to run" in run(EXDD_SHARED=str(tmp_path))
    assert "the repository's folder" in run("python", "x.py", EXDD_SHARED=str(tmp_path))


def test_the_image_holds_what_the_cluster_files_run():
    lines = (CLUSTER / "Containerfile").read_text().splitlines()
    base = next(line for line in lines if line.startswith("ARG BASE="))
    assert re.fullmatch(r"ARG BASE=[\w.-]+:[\w.-]+", base)  # no host, no digest
    assert "FROM ${BASE}" in lines
    copied = {line.split()[1] for line in lines if line.startswith("COPY ")}
    kept = {line[1:] for line in (CLUSTER / "Containerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    assert {"exdd_ray", "configs", "sweeps", "cluster", "pyproject.toml"} <= copied <= kept
    assert [line for line in lines if line.startswith("USER ")] == ["USER exdd"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["GPU", "--", "true"], "not a resource and a number"),
        (["GPU=1", "true"], "after --"),
        (["GPU=1", "--"], "after --"),
    ],
)
def test_hold_refuses_what_it_cannot_read(arguments, said):
    done = subprocess.run([sys.executable, CLUSTER / "hold.py", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("key", ["EXDD_DASHBOARD_PORT", "EXDD_RAY_PORT"])
def test_a_local_head_says_which_port_is_taken(key):
    with socket.create_server(("", 0)) as free:
        ports = {"EXDD_DASHBOARD_PORT": free.getsockname()[1]}
    with socket.create_server(("", 0)) as server:
        port = ports[key] = server.getsockname()[1]
        assert refused(ports) == f"local.sh: port {port} is taken, or none: set {key} to a free one\n"
    one = dict.fromkeys(("EXDD_DASHBOARD_PORT", "EXDD_RAY_PORT"), port)
    assert "set EXDD_RAY_PORT to a free one" in refused(one)


def refused(ports):
    place = {**os.environ, **{key: str(port) for key, port in ports.items()}}
    place["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{place['PATH']}"
    done = subprocess.run([CLUSTER / "local.sh"], capture_output=True, text=True, timeout=60, env=place)
    assert done.returncode == 1
    return done.stderr
