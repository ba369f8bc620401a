"""From tool output to verdict, summaries and a sealed artifact set."""
