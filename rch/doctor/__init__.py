"""What a set-up lacks: facts in, findings out. Pure; who gathers the facts is `rchctl/doctor_facts.py`."""
