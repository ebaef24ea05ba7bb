"""Who answers tasks besides people: simulated annotators with a stated preference."""
