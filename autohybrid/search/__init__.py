"""Profile -> candidates -> trials -> choice -> confirmation -> ``Plan``."""
