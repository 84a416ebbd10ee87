"""Use the MCP server as a coding agent does: python mcp_client.py PROJECT"""

import asyncio
import json
import sys

from mcp import ClientSession, StdioServerParameters, stdio_client


async def main(folder: str) -> None:
    words = ["-m", "trustescalate.integrations.mcp", "--folder", folder]
    server = StdioServerParameters(command=sys.executable, args=words)
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        for tool in ("check", "calibrate", "gate"):
            result = json.loads((await session.call_tool(tool)).content[0].text)
            print(tool, result["exit_code"], result["hint"])


asyncio.run(main(sys.argv[1]))
