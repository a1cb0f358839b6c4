"""A plan and a model -> regions in place: adapting, proving, guarding, counting, restoring."""
