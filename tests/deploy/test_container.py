"""What container, unit and proxy promise: docs/hospital.md."""

from __future__ import annotations

import configparser
import http.server
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from medseg.cli.main import application

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "Containerfile").is_file(), reason="the checkout is not at hand")


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage: word and what follows it."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found: list[list[tuple[str, str]]] = [[]]
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest.strip()))
    return found[1:]


def of_last(word: str) -> list[str]:
    return [rest for name, rest in stages()[-1] if name == word]


def options_of_serve() -> set[str]:
    verbs: Any = get_command(application())
    return {option for parameter in verbs.commands["serve"].params for option in parameter.opts}


def require_options(words: list[str]) -> None:
    assert words[0] == "serve"
    assert {word for word in words if word.startswith("--")} <= options_of_serve()


def test_the_container_runs_as_a_user_who_is_not_root() -> None:
    (user,) = of_last("USER")
    assert all(int(number) > 0 for number in user.split(":"))
    after = [name for name, _ in stages()[-1]]
    assert "RUN" not in after[after.index("USER") :]


def test_every_file_that_is_copied_exists() -> None:
    for stage in stages():
        for word, rest in stage:
            if word == "COPY":
                *sources, _ = rest.split()
                for source in sources:
                    assert (ROOT / source).exists(), source


def test_the_first_stage_installs_pinned_versions() -> None:
    installs = [rest for word, rest in stages()[0] if word == "RUN" and "pip install" in rest]
    assert installs
    assert all("-c constraints.txt" in rest for rest in installs)


def test_the_last_stage_asks_no_network_and_brings_no_tool_for_it() -> None:
    (run,) = of_last("RUN")
    assert "--mount=type=bind,from=build" in run
    assert not re.search(r"\b(apt|apt-get|curl|wget|git|pip)\b", run)
    assert of_last("COPY") == of_last("ADD") == []


def test_all_that_is_written_lies_in_the_volume() -> None:
    (volume,) = of_last("VOLUME")
    settings = dict(word.split("=", 1) for word in of_last("ENV")[0].split())
    for name in ("HOME", "TMPDIR", "MEDSEG_CACHE"):
        assert Path(settings[name]).is_relative_to(volume)
    words = json.loads(of_last("CMD")[0])
    assert words[words.index("--data") + 1] == volume


def test_the_container_serves_with_a_token() -> None:
    assert json.loads(of_last("ENTRYPOINT")[0]) == ["medseg"]
    words = json.loads(of_last("CMD")[0])
    require_options(words)
    assert words[words.index("--token-file") + 1] == "/run/secrets/medseg-token"


class Healthy(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_its_health_is_that_of_the_service_whatever_proxy_is_set(status: int, code: int) -> None:
    (check,) = of_last("HEALTHCHECK")
    words = json.loads(check.split("CMD", 1)[1])
    handler = type("Asked", (Healthy,), {"status": status})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = words[-1].replace(":8008/", f":{server.server_port}/")
        assert program != words[-1]
        environment = {**os.environ, "http_proxy": "http://127.0.0.1:9"}
        ran = subprocess.run(
            [sys.executable, "-S", "-c", program], env=environment, capture_output=True, check=False
        )
        server.shutdown()
    assert ran.returncode == code, ran.stderr


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "deploy" / "medseg.service", "utf-8")
    return parser["Service"]


def test_the_unit_holds_the_service_in() -> None:
    service = unit()
    for name in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome"):
        assert service[name] == "yes", name
    assert service["ProtectSystem"] == "strict"
    assert (service["IPAddressDeny"], service["IPAddressAllow"]) == ("any", "localhost")
    assert (service["UMask"], service["StateDirectoryMode"]) == ("0077", "0700")
    assert (service["MemorySwapMax"], service["LimitCORE"]) == ("0", "0")
    assert service["CapabilityBoundingSet"] == ""


def test_the_unit_starts_the_service_with_a_token_and_room_for_its_worker() -> None:
    program, *words = shlex.split(unit()["ExecStart"])
    assert program == "/opt/medseg/bin/medseg"
    require_options(words)
    assert words[words.index("--token-file") + 1] == "${CREDENTIALS_DIRECTORY}/token"
    held = float(words[words.index("--max-memory") + 1].removesuffix("G"))
    assert 1.25 * held < float(unit()["MemoryMax"].removesuffix("G"))


def test_the_proxy_keeps_no_scan_and_logs_no_name() -> None:
    text = (ROOT / "deploy" / "nginx.conf").read_text("utf-8")
    settings = re.sub(r"#.*", "", text)
    assert "proxy_request_buffering off;" in settings
    assert "proxy_max_temp_file_size 0;" in settings
    (form,) = re.findall(r"log_format medseg '(.*)';", settings)
    assert not re.search(r"\$(request|uri|request_uri|args|query_string|arg_\w+)\b", form)
    assert "client_max_body_size 1g;" in settings
    assert "error_log /var/log/nginx/medseg.error.log crit;" in settings
