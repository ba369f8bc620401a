"""What a run found, at places of this machine: read here, written in the forms that editors and CI take.

`finding` and the writers are pure; `gather` reads a run's folder, `places` the files of the project.
"""
