"""Everything that decides or interprets. An agent sees the microscope only through the client API."""
