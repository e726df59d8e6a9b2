"""Which tools an agent gets."""

from twinscope.capabilities import Capabilities
from twinscope.mcp.acting import acting_tools
from twinscope.mcp.looking import looking_tools
from twinscope.mcp.tools import Tool


def toolbox(
    capabilities: Capabilities, role: str, *, read_only: bool = False, acknowledge: bool = False
) -> dict[str, Tool]:
    """Return the tools for an instrument by their names.

    Parameters
    ----------
    capabilities
        Of the instrument: there is no tool for what it cannot do.
    role
        Of the agent: an observer can only look and stop.
    read_only
        Whether there are no tools that change anything.
    acknowledge
        Whether the agent may let the tip move again after something has gone wrong.
    """
    tools = looking_tools(capabilities)
    if not read_only:
        tools += acting_tools(capabilities, role=role, acknowledge=acknowledge)
    return {tool.name: tool for tool in tools}
