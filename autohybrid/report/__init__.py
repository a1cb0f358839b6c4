"""A plan -> rows -> text: each format one file, each a function from a plan to a string. Sees no Paddle."""
