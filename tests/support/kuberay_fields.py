"""The fields of KubeRay's v1 resources that the cluster files use, and no others; authOptions is of KubeRay 1.5.1."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|[KMGT]i?)?$")]


class SecretKeyRef(Strict):
    name: str
    key: str
    optional: bool = False


class ValueFrom(Strict):
    secret_key_ref: SecretKeyRef


class Env(Strict):
    name: str
    value: str | None = None
    value_from: ValueFrom | None = None


class Resources(Strict):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity] | None = None


class VolumeMount(Strict):
    name: str
    mount_path: str


class Container(Strict):
    name: str
    image: str
    resources: Resources
    env: list[Env]
    volume_mounts: list[VolumeMount]


class Claim(Strict):
    claim_name: str


class Volume(Strict):
    name: str
    persistent_volume_claim: Claim


class SecurityContext(Strict):
    run_as_non_root: bool
    run_as_user: int
    fs_group: int
    fs_group_change_policy: Literal["Always", "OnRootMismatch"]


class Toleration(Strict):
    key: str
    operator: Literal["Exists", "Equal"]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class PodSpec(Strict):
    security_context: SecurityContext
    tolerations: list[Toleration] = []
    containers: list[Container]
    volumes: list[Volume]


class Template(Strict):
    spec: PodSpec


class HeadGroup(Strict):
    ray_start_params: dict[str, str]
    template: Template


class WorkerGroup(Strict):
    group_name: str
    replicas: int
    min_replicas: int
    max_replicas: int
    ray_start_params: dict[str, str]
    template: Template


class AuthOptions(Strict):
    mode: Literal["disabled", "token"]


class AutoscalerOptions(Strict):
    idle_timeout_seconds: int


class RayClusterSpec(Strict):
    ray_version: str
    auth_options: AuthOptions
    enable_in_tree_autoscaling: bool
    autoscaler_options: AutoscalerOptions
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup]

    @property
    def pods(self):
        return [self.head_group_spec.template.spec, *(group.template.spec for group in self.worker_group_specs)]


class Named(Strict):
    name: str | None = None
    generate_name: str | None = None


class RayCluster(Strict):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Named
    spec: RayClusterSpec


class RayJobSpec(Strict):
    entrypoint: str
    shutdown_after_job_finishes: bool
    ttl_seconds_after_finished: int
    active_deadline_seconds: int
    backoff_limit: int
    ray_cluster_spec: RayClusterSpec


class RayJob(Strict):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Named
    spec: RayJobSpec


class ClaimSpec(Strict):
    access_modes: list[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]]
    storage_class_name: str
    resources: Resources


class PersistentVolumeClaim(Strict):
    api_version: Literal["v1"]
    kind: Literal["PersistentVolumeClaim"]
    metadata: Named
    spec: ClaimSpec
