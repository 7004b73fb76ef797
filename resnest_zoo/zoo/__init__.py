"""What `registry` looks up: the record of a model, the published models, and users' zoo files."""
