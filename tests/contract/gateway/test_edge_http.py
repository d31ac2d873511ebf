"""What the gateway answers over plain HTTP."""

import re

import httpx
import pytest

from chassis import errors
from gateway.web_server import PortInUse, bind


async def get(edge, path, **options):
    async with httpx.AsyncClient(base_url=edge.http) as client:
        return await client.get(path, **options)


async def test_liveness_and_readiness(edge):
    assert (await get(edge, "/healthz")).json() == {"ok": True}
    ready = await get(edge, "/readyz")

    assert (ready.status_code, ready.json()["services"]) == (
        200,
        {"registry": True, "session": True, "router": True, "watch": True},
    )


async def test_a_missing_service_makes_it_unready_by_name(edge):
    await edge.hosts["router"].drain()
    ready = await get(edge, "/readyz")

    assert (ready.status_code, ready.json()["services"]["router"]) == (503, False)


async def test_metrics_count_what_is_done(edge):
    async with edge.client() as client:
        await client.call("models.list")
        await client.refusal("no.such.method")
        text = (await get(edge, "/metrics")).text

    assert 'gateway_requests_total{code="OK",method="models.list"} 1.0' in text
    assert 'gateway_requests_total{code="INVALID_REQUEST",method="unknown"} 1.0' in text
    assert "gateway_sockets 1.0" in text


async def test_metrics_ask_for_their_token_where_there_is_one(start_edge):
    edge = await start_edge(metrics_token="m3ters")
    assert (await get(edge, "/metrics")).status_code == 401
    assert (await get(edge, "/metrics", headers={"Authorization": "Bearer m3ter"})).status_code == 401
    shown = await get(edge, "/metrics", headers={"Authorization": "Bearer m3ters"})
    assert (shown.status_code, "gateway_sockets" in shown.text) == (200, True)


async def test_the_page_may_run_its_own_script_and_nothing_else(edge):
    page = await get(edge, "/")
    policy = page.headers["content-security-policy"]

    assert page.headers["content-type"].startswith("text/html")
    assert re.search(r"script-src 'sha256-[^']+'", policy)
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "<script src" not in page.text
    assert page.text == (await get(edge, "/mobot")).text


async def test_other_paths_do_not_exist(edge):
    assert (await get(edge, "/nope")).status_code == 404
    assert (await get(edge, "/../etc/passwd")).status_code == 404


async def test_an_installed_control_ui_is_served_at_the_root(start_edge, tmp_path):
    (tmp_path / "ui" / "assets").mkdir(parents=True)
    (tmp_path / "ui" / "index.html").write_text("<p>control ui")
    (tmp_path / "ui" / "assets" / "app.js").write_text("1")
    (tmp_path / "secret").write_text("no")
    edge = await start_edge(gateway_control_ui_dir=tmp_path / "ui")

    assert (await get(edge, "/")).text == "<p>control ui"
    assert (await get(edge, "/chat/main/thread/budget")).text == "<p>control ui"
    assert (await get(edge, "/assets/app.js")).text == "1"
    assert (await get(edge, "/chat/main/assets/app.js")).text == "1", "named relative to a screen"
    assert (await get(edge, "/assets/none.js")).status_code == 404
    assert (await get(edge, "/chat/assets/%2e%2e/%2e%2e/secret")).text != "no"
    assert (await get(edge, "/%2e%2e/secret")).text == "<p>control ui"
    assert "mobot" in (await get(edge, "/mobot")).text
    async with edge.client() as client:
        assert await client.call("models.list")


def test_a_taken_port_is_a_clear_error():
    taken = bind("127.0.0.1", 0)
    port = taken.getsockname()[1]
    try:
        with pytest.raises(PortInUse) as refused:
            bind("127.0.0.1", port)
    finally:
        taken.close()

    assert isinstance(refused.value, errors.FailedPrecondition)
    assert f"127.0.0.1:{port}" in refused.value.message
    assert "MOBOT_PORT" in refused.value.message


async def test_nobody_is_watched_for_until_somebody_connects(edge):
    assert not edge.gateway.services.streams.is_attached
    async with edge.client() as client:
        await client.call("sessions.subscribe", {})
        assert edge.gateway.services.streams.is_attached
