"""The quadratic form Q behind LipSDP, GeoLIP, ECLipsE and K_5, and all that optimises it."""
