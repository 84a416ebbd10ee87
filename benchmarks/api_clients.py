"""Hold the programs that the endpoint benchmark compares `trustescalate run` with."""

BARE = """
import asyncio, json, sys
from openai import AsyncOpenAI
prompts, url, concurrency = json.load(open(sys.argv[1])), sys.argv[2], int(sys.argv[3])

async def main():
    client = AsyncOpenAI(base_url=url + "/v1", api_key="none")
    slots = asyncio.Semaphore(concurrency)

    async def one(prompt):
        async with slots:
            reply = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": prompt}], max_tokens=16, temperature=0,
                logprobs=True, top_logprobs=20,
            )
        return reply.choices[0].logprobs.content[0].top_logprobs

    assert len(await asyncio.gather(*map(one, prompts))) == len(prompts)

asyncio.run(main())
"""


LITELLM = """
import asyncio, json, sys
import litellm
prompts, url, concurrency = json.load(open(sys.argv[1])), sys.argv[2], int(sys.argv[3])

async def main():
    slots = asyncio.Semaphore(concurrency)

    async def one(prompt):
        async with slots:
            return await litellm.acompletion(
                model="openai/m", messages=[{"role": "user", "content": prompt}], max_tokens=16,
                temperature=0, logprobs=True, top_logprobs=20, api_base=url + "/v1", api_key="none",
            )

    assert len(await asyncio.gather(*map(one, prompts))) == len(prompts)

asyncio.run(main())
"""


INSPECT = """
import json, os, sys, tempfile
prompts, url, concurrency = json.load(open(sys.argv[1])), sys.argv[2], int(sys.argv[3])
os.environ |= {"OPENAI_BASE_URL": url + "/v1", "OPENAI_API_KEY": "none"}
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match
from inspect_ai.solver import generate
task = Task(dataset=[Sample(input=p, target="A") for p in prompts], solver=generate(), scorer=match())
with tempfile.TemporaryDirectory() as room:
    (log,) = eval(
        task, model="openai-api/loop/m", model_base_url=url + "/v1", model_args={"api_key": "none"},
        max_connections=concurrency, max_samples=concurrency, max_tokens=16, temperature=0, logprobs=True,
        top_logprobs=20, display="none", log_dir=room,
    )
assert log.status == "success", log.error
"""


OPENEVALS = """
import asyncio, json, sys
from openai import AsyncOpenAI
from openevals.llm import create_async_llm_as_judge
prompts, url, concurrency = json.load(open(sys.argv[1])), sys.argv[2], int(sys.argv[3])

async def main():
    judge = create_async_llm_as_judge(
        prompt="{outputs}", judge=AsyncOpenAI(base_url=url + "/v1", api_key="none"), model="m"
    )
    slots = asyncio.Semaphore(concurrency)

    async def one(prompt):
        async with slots:
            return await judge(outputs=prompt)

    assert len(await asyncio.gather(*map(one, prompts))) == len(prompts)

asyncio.run(main())
"""


DEEPEVAL = """
import asyncio, json, sys
prompts, url, concurrency = json.load(open(sys.argv[1])), sys.argv[2], int(sys.argv[3])
from deepeval.models import GPTModel

async def main():
    free = {"cost_per_input_token": 0, "cost_per_output_token": 0}
    model = GPTModel(model="m", base_url=url + "/v1", api_key="none", **free)
    slots = asyncio.Semaphore(concurrency)

    async def one(prompt):
        async with slots:
            return await model.a_generate(prompt)

    assert len(await asyncio.gather(*map(one, prompts))) == len(prompts)

asyncio.run(main())
"""


CLIENTS = {
    "openai client, create()": ("openai", BARE),
    "litellm acompletion": ("litellm", LITELLM),
    "openevals": ("openevals", OPENEVALS),
    "DeepEval model": ("deepeval", DEEPEVAL),
    "Inspect AI eval": ("inspect_ai", INSPECT),
}
"""All get the same prompts and the same number of requests at once."""
