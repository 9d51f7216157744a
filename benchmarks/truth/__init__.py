"""What measurements of quality share: the judge's networks and training, exact geometry, sheets, parts of the table."""
