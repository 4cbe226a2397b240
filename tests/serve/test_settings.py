from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.recipes import PAPER_CLASSES, PAPER_MASKS
from everymask.classes.shipped import SHIPPED_HEADS
from everymask.errors import ConfigurationError
from serve.settings import HOME, ServiceSettings, read_settings

SHIPPED = sorted((HOME / "serve/config").glob("*.yaml"))


def test_no_args_are_the_defaults() -> None:
    settings = read_settings({})
    assert settings == ServiceSettings()
    assert settings.model == "nano"
    assert settings.head_folders == (HOME / "heads", SHIPPED_HEADS)
    assert read_settings({"heads": "/shared/heads"}).head_folders == (Path("/shared/heads"), SHIPPED_HEADS)


def test_nested_args_reach_the_librarys_own_configs() -> None:
    settings = read_settings({"entities": {"points_per_side": 7}, "classes": {"masks": {"points_per_side": 5}}})
    assert settings.labels.entities.points_per_side == 7
    assert settings.labels.classes.masks.points_per_side == 5
    assert settings.labels.classes.score_thresh == ServiceSettings().labels.classes.score_thresh


def test_the_papers_settings_stand_where_nothing_else_is_said() -> None:
    args = {"recipe": "paper", "classes": {"nms_iou_thresh": 0.25, "masks": {"points_per_side": 5}}}
    classes = read_settings(args).labels.classes
    assert (classes.nms_iou_thresh, classes.masks.points_per_side) == (0.25, 5)
    plain = read_settings({"recipe": "paper"}).labels.classes
    assert plain == replace(ClassesConfig(**PAPER_CLASSES), masks=MaskConfig(**PAPER_MASKS))
    assert classes == replace(plain, nms_iou_thresh=0.25, masks=replace(plain.masks, points_per_side=5))


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"modle": "nano"}, "modle"),
        ({"entities": {"point_per_side": 3}}, "entities.point_per_side"),
        ({"classes": {"masks": {"grid": 3}}}, "classes.masks.grid"),
        ({"encoder": {"num_gpu": 1}}, "encoder.num_gpu"),
        ({"model": "vit_x"}, "vit_x"),
        ({"amg": {"crop_n_layers": 1}}, "amg.crop_n_layers"),
        ({"requests": {"max_in_flight": 0}}, "max_in_flight"),
        ({"requests": {"max_in_flight": "many"}}, "requests.max_in_flight"),
        ({"entities": {"points_per_side": 0}}, "points_per_side"),
        ({"limits": {"max_bytes": 0}}, "max-bytes"),
        ({"min_region_area": 9, "max_region_area": 8}, "max_region_area"),
        ({"encoder": {"min_replicas": 3, "max_replicas": 2}}, "min_replicas"),
        ({"requests": {"max_in_flight": 200}}, "ingress.max_ongoing_requests"),
    ],
)
def test_a_bad_option_is_refused_by_name(args: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        read_settings(args)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"modle.*colour"):
        read_settings({"modle": "nano", "colour": "red"})


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    # Serve drops unknown keys without a word, so they are looked for here.
    assert_known_keys(config, ServeDeploySchema)
    ServeDeploySchema.model_validate(config)
    for application in config["applications"]:
        assert_known_keys(application, ServeApplicationSchema)
        assert application["import_path"] == "serve.app:build"
        settings = read_settings(application["args"])
        assert settings.requests.time_limit_s < config["http_options"]["request_timeout_s"]


def assert_known_keys(values: dict[str, Any], schema: type[BaseModel]) -> None:
    assert set(values) <= set(schema.model_fields), set(values) - set(schema.model_fields)
    for name, value in values.items():
        nested = schema.model_fields[name].annotation
        if isinstance(value, dict) and isinstance(nested, type) and issubclass(nested, BaseModel):
            assert_known_keys(value, nested)


def test_a_replica_that_is_to_go_has_time_to_answer_and_a_full_one_says_when_to_come_again() -> None:
    from serve.app import build

    application = build({"requests": {"time_limit_s": 45, "retry_after_s": 7}})
    config = application._bound_deployment._deployment_config
    assert config.graceful_shutdown_timeout_s >= 45
    assert (config.backpressure_config.status_code, config.backpressure_config.retry_after_s) == (429, 7)


def test_a_click_goes_to_the_refiner_that_keeps_its_image() -> None:
    from serve.app import build

    parts = [
        part._bound_deployment for part in build({})._bound_deployment.init_args if hasattr(part, "_bound_deployment")
    ]
    routers = {part.name: part._deployment_config.request_router_config.request_router_class for part in parts}
    assert routers["Refiner"].endswith("ConsistentHashRouter")
    assert not routers["Classifier"].endswith("ConsistentHashRouter")
