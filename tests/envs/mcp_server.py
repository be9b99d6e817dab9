"""A small MCP server for the tests: ``python mcp_server.py [stdio | http PORT | sse PORT]``."""

import asyncio
import os
import sys

from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("tests", log_level="ERROR")
counted = [0]


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two whole numbers."""
    return a + b


@server.tool()
def bump(by: int = 1) -> int:
    """Counts up, and says where the count is."""
    counted[0] += by
    return counted[0]


@server.tool()
def process() -> int:
    """The process the server runs in."""
    return os.getpid()


@server.tool()
async def wait_for(seconds: float, word: str) -> str:
    """Says a word after a while."""
    await asyncio.sleep(seconds)
    return word


@server.tool()
def fail(text: str) -> str:
    """Fails with a text."""
    raise ToolError(text)


@server.tool()
def refuse(text: str) -> str:
    """Refuses by an error of the protocol, with the code that any server may use."""
    raise MCPError(code=-32000, message=text)


@server.tool()
def picture() -> list:
    """Words and a picture."""
    return ["look", Image(data=b"\x89PNG" + bytes(12_000), format="png")]


@server.tool()
def die() -> str:
    """Ends the server at once."""
    os._exit(3)


@server.tool()
def shout(text: str) -> str:
    """Gives a text back in capitals, or as many letters as it says."""
    return "x" * int(text) if text.isdigit() else text.upper()


def main(how="stdio", port="0"):
    if how == "stdio":
        server.run("stdio")
    else:
        server.run({"http": "streamable-http"}.get(how, how), port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
