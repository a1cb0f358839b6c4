"""A module beside the scripts."""

NAME = "the neighbour"
