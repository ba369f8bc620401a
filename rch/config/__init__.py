"""Config layers, their keys and origins, and the project root."""
