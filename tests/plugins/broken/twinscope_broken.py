"""A driver that cannot even be imported."""

raise RuntimeError("the vendor's library was built for another year")
