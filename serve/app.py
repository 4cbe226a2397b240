"""The application builder for `serve run serve.app:build`, or a configuration with that `import_path`."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import AutoscalingConfig, BackpressureConfig, RequestRouterConfig

from serve.api import Api
from serve.classifier import Classifier
from serve.encoder import Encoder
from serve.refiner import Refiner
from serve.settings import Replicas, read_settings

# glibc gives memory back after every batch of masks, and the kernel then has to clear it for the next one: 50,000 page
# faults an image. One arena for all threads keeps what was freed; only what ends the heap is given back.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20)}
_SHUTDOWN_MARGIN_S = 10.0
AFFINITY_ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"


def build(args: dict[str, Any]) -> Application:
    """The whole graph from a configuration's `args`, which `serve.settings.ServiceSettings` describes.

    Raises:
        ConfigurationError: unknown keys or bad values, naming all of them.
    """
    settings = read_settings(args)
    # Serve's own bounds stand behind the gate's, for the moments in which several ingress replicas fill one part.
    busy = BackpressureConfig(status_code=429, retry_after_s=settings.requests.retry_after_s)

    def deployment(part: type, replicas: Replicas, **options: Any) -> Deployment:
        made: Deployment = serve.deployment(
            **(
                {
                    "max_queued_requests": settings.requests.max_in_flight,
                    # A replica that is to go answers what it was asked before.
                    "graceful_shutdown_timeout_s": settings.requests.time_limit_s + _SHUTDOWN_MARGIN_S,
                }
                | _size(replicas)
                | options
            ),
            name=part.__name__,
            backpressure_config=busy,
        )(part)
        return made

    # A click goes to the replica that keeps its image's embedding.
    affinity = RequestRouterConfig.model_validate({"request_router_class": AFFINITY_ROUTER})
    # In front of the ingress a burst may wait: it is answered at once, and in JSON, by the gate.
    burst = 10 * settings.ingress.max_ongoing_requests
    encoder = deployment(Encoder, settings.encoder).bind(settings)
    refiner = deployment(Refiner, settings.refiner, request_router_config=affinity).bind(settings, encoder)
    classifier = deployment(Classifier, settings.classifier).bind(settings)
    return deployment(serve.ingress()(Api), settings.ingress, max_queued_requests=burst).bind(
        settings, refiner, classifier
    )


def _size(replicas: Replicas) -> dict[str, Any]:
    size: dict[str, Any] = {
        "max_ongoing_requests": replicas.max_ongoing_requests,
        # A replica is replaced after three bad answers, and until then its requests fail.
        "health_check_period_s": 3,
        "ray_actor_options": {
            "num_cpus": replicas.num_cpus,
            "num_gpus": replicas.num_gpus,
            "runtime_env": {"env_vars": MALLOC},
        },
    }
    if replicas.min_replicas == replicas.max_replicas:
        return size | {"num_replicas": replicas.min_replicas}
    return size | {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=replicas.min_replicas,
            max_replicas=replicas.max_replicas,
            target_ongoing_requests=replicas.target_ongoing_requests,
        )
    }
