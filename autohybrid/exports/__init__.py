"""Ways out of autohybrid: a plan as plain code with Paddle's wrapper, and its regions as static models."""
