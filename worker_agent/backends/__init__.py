"""How a job is built and tested: one module a build tool."""
