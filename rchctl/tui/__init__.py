"""`rchctl top`: the screen (`app`) of what is known (`model`), which comes in by a thread (`feed`)."""
