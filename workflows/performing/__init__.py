"""`lpm perform`: a recording of two people in, a performance of each out."""
