"""The microscope for language-model agents: a server of the Model Context Protocol in front of a client."""
