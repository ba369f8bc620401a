"""Stand-ins of Apple's tools, for machines without Xcode (docs/simulation.md).

The worker's own code runs against them as it runs against the real ones; whatever comes of it
is marked as simulated by the worker, for the tools themselves look as real as they can.
`worker_agent.standin.layout` brings them in.
"""
