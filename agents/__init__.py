"""Everything that decides or interprets. An agent sees the microscope only through the client API.

Nothing lives here yet: structure discovery, region-of-interest agents and their benchmark move in later.
"""
