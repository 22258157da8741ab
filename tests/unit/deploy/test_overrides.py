"""What a Serve config file says of deployments leaves alone what the application says of them."""

from ray.serve._private.application_state import override_deployment_info
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.deployment_info import DeploymentInfo
from ray.serve.schema import ServeApplicationSchema

from deploy.app import ROUTER, build
from deploy.config import AppConfig
from deploy.k8s.checks.ray import serve_config
from deploy.k8s.manifest import ray_service


def test_the_chart_leaves_the_router_of_the_four_services_to_the_application(profile):
    (config,) = serve_config(ray_service(profile))["applications"]
    application = build(AppConfig(**config["args"]))._bound_deployment
    services = {name: one._bound_deployment for name, one in application.init_kwargs.items()} | {
        "gateway": application
    }
    infos = {
        name: DeploymentInfo(
            deployment_config=DeploymentConfig.from_proto_bytes(
                one._deployment_config.to_proto_bytes()
            ),
            replica_config=one._replica_config,
            start_time_ms=0,
            deployer_job_id="",
        )
        for name, one in services.items()
    }

    deployed = override_deployment_info(infos, ServeApplicationSchema.model_validate(config))

    routers = {
        name: info.deployment_config.request_router_config.get_request_router_class()
        for name, info in deployed.items()
    }
    assert len(routers) == 5
    for name, router in routers.items():
        is_ours = f"{router.__module__}.{router.__name__}" == ROUTER
        assert is_ours == (name != "gateway")
